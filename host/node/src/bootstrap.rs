//! From a configuration's `[bootstrap.NAME]` table to snapshot storage, for every command that needs it.

use tidemill_bootstrap_store::Store;
use tidemill_world::objects;

use crate::Failure;
use crate::config::Config;

/// The source whose snapshot storage is meant: the one that is named, or the only one that has any.
pub fn choose<'a>(config: &'a Config, named: Option<&'a str>) -> Result<&'a str, Failure> {
    let known: Vec<&str> = config.bootstrap.keys().map(String::as_str).collect();
    match (named, known.as_slice()) {
        (Some(name), _) if known.contains(&name) => Ok(name),
        (_, []) => {
            let what =
                "no source has snapshot storage; add a [bootstrap.NAME] table with `store = \"file:///…\"`";
            Err(what.into())
        }
        (None, [only]) => Ok(only),
        (Some(name), _) => {
            Err(format!("source `{name}` has no snapshot storage; there are: {}", known.join(", ")).into())
        }
        (None, _) => Err(format!("say which source's with --source; there are: {}", known.join(", ")).into()),
    }
}

/// The snapshot storage of a source.
pub fn open_store(config: &Config, source: &str) -> Result<Store, Failure> {
    let url = &config.bootstrap[source].get_ref().store;
    Ok(Store::new(objects::open(url)?, source).with_url(url))
}
