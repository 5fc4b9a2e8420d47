//! Tables that are published by the real writer, and programs that read them as strangers do: what each of them sees is
//! compared with the rows that were written.

mod digest;
mod lake;
mod readers;
mod rows;

pub use digest::{Digest, digest};
pub use lake::Lake;
pub use readers::{ALL, DELTA, PLAIN, Readers, Seen};
pub use rows::{Rows, Table};
