//! What a fetcher does with what it reads, wherever it reads it from.

use std::fmt;
use std::path::PathBuf;

use tidemill_fetchers_api::{Judge, Selector};

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Which tables are decoded at all.
    pub selector: Selector,
    /// What may be stored of each window. `None`: all of it.
    pub judge: Option<Judge>,
    /// Where the fetcher keeps what has to outlive it: the rows of XA transactions that are prepared. One fetcher at a
    /// time, and none but those of one source. `None`: nowhere; what needs it stops the stream.
    pub directory: Option<PathBuf>,
}

impl From<Selector> for Settings {
    fn from(selector: Selector) -> Settings {
        Settings { selector, judge: None, directory: None }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("directory", &self.directory).finish_non_exhaustive()
    }
}
