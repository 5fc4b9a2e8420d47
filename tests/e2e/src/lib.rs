//! The tidemill binary as a test sees it: a folder with a configuration, a process, the lines that it prints, and what
//! it has committed when it is gone. Servers and workloads come from `tidemill-servers`.

mod built;
mod clock;
mod committed;
mod instance;
mod relay;
mod storage;

pub use built::{Built, Keyed, Rows};
pub use clock::{end, utc};
pub use committed::Committed;
pub use instance::{Change, Folder, Instance, Output, server_source};
pub use relay::{Answer, Follow, Relay, examples, free_port, python};
