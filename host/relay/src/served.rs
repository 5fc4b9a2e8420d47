//! What the relay is given to serve.

use std::error::Error;

use tidemill_log::Log;
use tidemill_sandbox::{FilterStage, ProjectionStage};

/// One source.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Its log.
    pub log: Log,
}

/// Opens the guests that subscriptions may name. Called once for each selection that is in use, not for each subscriber.
pub trait Guests: Send + Sync {
    /// The names of the registered filters.
    fn filters(&self) -> Vec<String>;

    /// The names of the registered projections.
    fn projections(&self) -> Vec<String>;

    /// A registered filter, for that source. Asked for registered names only.
    fn filter(&self, name: &str, source: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>>;

    /// A registered projection, for that source. Asked for registered names only.
    fn projection(&self, name: &str, source: &str) -> Result<ProjectionStage, Box<dyn Error + Send + Sync>>;

    /// The catalogue's `partition` filter with that configuration (JSON), for that source.
    fn partition(&self, config: &str, source: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>>;
}
