//! Private MySQL and MariaDB servers: started on loopback with a data directory of their own, filled by workloads, ended with their owner.
//! Tests, benchmarks and `demo --live` use it; what they then assert about the binlog is theirs.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tidemill_servers::{MySql, Options, workload::Bank};
//!
//! let mut server = MySql::start(Options::default()).await?;
//! let bank = Bank::create(server.root(), 100).await?;
//! let run = bank.start(4);
//! run.wait_committed(1000).await;
//! let transfers = run.stop().await?;
//! server.stop().await?;
//! # Ok(()) }
//! ```

mod error;
mod options;
mod process;
mod proxy;
mod replication;
mod server;
mod template;
mod tools;
pub mod workload;

pub use error::ServerError;
pub use options::{Kind, Options};
pub use proxy::{ConnectionCount, Cut, CutProxy};
pub use server::{MariaDb, MySql, Server, free_port};
pub use tools::Tools;
