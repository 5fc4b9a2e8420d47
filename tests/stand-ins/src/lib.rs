//! What tests use in the place of others: Python and Java, which read what the relay and bootstrap
//! serve, and the object stores of the clouds, each on loopback with private data and ended with its owner.
//!
//! A stand-in is what could be had here, not the cloud: what a test finds on it is true of its program and of the way that
//! ours speaks. Each says where it differs.
//!
//! ```no_run
//! # fn example() -> Result<(), tidemill_stand_ins::StandInError> {
//! let store = tidemill_stand_ins::s3::S3::start(Default::default())?;
//! println!("{} with {:?}", store.url("prefix"), store.settings());
//! # Ok(()) }
//! ```

pub mod azure;
mod error;
pub mod gcs;
mod http;
mod process;
pub mod s3;
mod tools;

pub use error::StandInError;
pub use tools::{java, python};
