//! What a fetcher does with what it reads, wherever it reads it from.

use std::fmt;
use std::path::PathBuf;

use tidemill_fetchers_api::Selector;

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Which tables are decoded at all.
    pub selector: Selector,
    /// Where the fetcher keeps what has to outlive it. `None`: nowhere; what needs it stops the stream.
    pub directory: Option<PathBuf>,
}

impl From<Selector> for Settings {
    fn from(selector: Selector) -> Settings {
        Settings { selector, directory: None }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("directory", &self.directory).finish_non_exhaustive()
    }
}
