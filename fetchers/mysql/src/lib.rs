//! MySQL and MariaDB: committed transactions from a server's binlog or from binlog files, decoded straight into columns.
//!
//! ```text
//! server ──▶ ServerTransport ─┐  events        ┌─ grammar of transactions, positions
//!                             ├─────────▶ Assembler ──▶ WindowMaker ──▶ windows
//! files ───▶ FilesTransport ──┘                ├─ table maps ──▶ layouts ──▶ column builders
//!                                              └─ prepared XA transactions ══▶ PreparedStore, until they commit
//! ```
//!
//! Beside the log, `extract` reads tables as they are now, with the same columns and values, and `ddl` says what a statement
//! does to columns.
//!
//! What is not here: storing windows (the relay's log), judging rows (the source policy), what is copied when (the clone).

mod assemble;
mod ddl;
mod event;
mod extract;
mod fetcher;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod gtid;
mod limits;
mod options;
mod place;
mod preflight;
mod prepared;
mod random;
mod schema;
mod settings;
mod start;
mod table;
mod transport;
mod value;
mod window;
mod wire;
mod xa;

pub use assemble::{Counters, Unbalanced};
pub use ddl::read_statement;
pub use extract::{MySqlExtract, MySqlSession};
pub use fetcher::MySqlFetcher;
pub use options::{FileOptions, FileSet, Origin, Password, ServerOptions, Tls, TlsIdentity, TlsMode};
pub use preflight::{Finding, Level, preflight};
pub use settings::{BadText, Settings, ValuePolicy, ZeroDates};
