//! What can go wrong with a store, and what to do then.

use tidemill_event::Remedy;
use tidemill_world::objects::{CallFailed, ProbeError};

/// An object that is not what was put there. It is never read as data and never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "object {object} is damaged: {what}; put it back from a copy or an older version in its store, or {}",
    otherwise(object)
)]
pub struct Damaged {
    /// Its full name.
    pub object: String,
    /// What does not fit.
    pub what: String,
}

/// What mends it where there is no copy.
fn otherwise(object: &str) -> &'static str {
    match object.contains("/_meta/manifest/") {
        true => "remove it, if it is the newest one: the one before it counts then",
        false => "copy the tables anew that it belongs to",
    }
}

/// A store that is not where it was: emptied, moved away, or not mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object}, which was committed a while ago, is not there any more: the store was emptied or moved away, or is not mounted; \
     nothing is written until it is back and this process was started again"
)]
pub struct Lost {
    /// The newest manifest.
    pub object: String,
}

/// A manifest that nobody keeps any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "version {version} of snapshot storage of {source_name} is not kept any more; go on with the newest one"
)]
pub struct Gone {
    /// The source's name.
    pub source_name: String,
    /// The number of the manifest.
    pub version: u64,
}

/// A store that this release cannot read or write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object} has {what} {theirs}, this release knows {ours}; use the release that wrote it, or another `store`"
)]
pub struct OtherFormat {
    /// The object that shows it.
    pub object: String,
    /// What is another one.
    pub what: &'static str,
    /// The object's.
    pub theirs: String,
    /// Ours.
    pub ours: String,
}

/// Why a store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An object is not what was put there.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The store is not where it was.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A call to the object store failed.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// A version that nobody keeps any more.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A store of another release.
    #[error(transparent)]
    Format(#[from] OtherFormat),
    /// An object store that does not keep what it is told to keep.
    #[error(transparent)]
    Probe(Box<ProbeError>),
    /// A change that contradicts itself: nothing of it was committed.
    #[error("a change of snapshot storage contradicts itself: {0}; please report this")]
    Draft(String),
}

impl From<ProbeError> for StoreError {
    fn from(error: ProbeError) -> StoreError {
        StoreError::Probe(Box::new(error))
    }
}

impl StoreError {
    /// What to do now.
    pub fn remedy(&self) -> Remedy {
        match self {
            StoreError::Call(error) if error.mends_itself() => Remedy::Retry,
            StoreError::Probe(error) if error.mends_itself() => Remedy::Retry,
            StoreError::Gone(_) => Remedy::Retry,
            StoreError::Damaged(_)
            | StoreError::Lost(_)
            | StoreError::Call(_)
            | StoreError::Format(_)
            | StoreError::Probe(_) => Remedy::Fix,
            StoreError::Draft(_) => Remedy::Bug,
        }
    }
}

/// A newer writer took the store over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "snapshot storage of {source_name} was taken over by {by} (epoch {by_epoch}, ours is {epoch}); this writer stops: run one \
     bootstrap service for each source"
)]
pub struct Fenced {
    /// The source's name.
    pub source_name: String,
    /// The epoch of who is fenced.
    pub epoch: u64,
    /// Who took over.
    pub by: String,
    /// Its epoch.
    pub by_epoch: u64,
}

/// Why a commit was not made, or not known to be made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A newer writer took the store over: the change is not committed.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The store failed. Where the answer to the commit itself was lost, it may have happened: the next call finds out first.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// What to do now.
    pub fn remedy(&self) -> Remedy {
        match self {
            CommitError::Fenced(_) => Remedy::Fenced,
            CommitError::Store(error) => error.remedy(),
        }
    }
}
