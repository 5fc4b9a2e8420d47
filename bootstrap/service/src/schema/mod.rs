//! What becomes of a stored table when its definition changes at the source: it goes on in place where that is proven, else
//! it is copied anew. Nothing is guessed.

mod evolve;
mod source_type;

pub(crate) use evolve::{Evolution, Stored, after_rows, after_statement};
