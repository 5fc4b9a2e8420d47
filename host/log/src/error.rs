//! What can go wrong, per operation, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_event::{FrameError, Position, Remedy, Scn, WindowError};

use crate::history::HistoryError;

/// Another process has the log.
#[derive(Debug, thiserror::Error)]
#[error("the log in {} is in use by another process; stop that one, or give this one another `data` directory", .directory.display())]
pub struct InUse {
    /// The log's directory.
    pub directory: PathBuf,
}

/// Bytes that are not what was written. They are never read as data and never skipped.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is damaged at byte {offset}: {what}; restore the file from a copy, or stop, remove it and all later segments of \
     the directory, and what they held is read again from the source",
    .path.display()
)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// Where in it the first bad byte may be.
    pub offset: u64,
    /// What does not fit.
    pub what: String,
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}{}", .path.display(), hint(.source))]
pub struct StorageError {
    /// What was tried.
    pub action: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space on its file system, or lower `keep_bytes` of the log"
        }
        io::ErrorKind::FileTooLarge => {
            "; raise the limit of file sizes (`ulimit -f`), or lower `segment` of the log"
        }
        io::ErrorKind::PermissionDenied => "; give this user read and write access to it",
        io::ErrorKind::ReadOnlyFilesystem => "; its file system is mounted read-only",
        _ => "",
    }
}

impl StorageError {
    pub(crate) fn remedy(&self) -> Remedy {
        match self.source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem => Remedy::Fix,
            _ => Remedy::Retry,
        }
    }
}

/// A newer writer has the log.
#[derive(Debug, thiserror::Error)]
#[error("this writer of {} has epoch {mine}, a newer one has epoch {newer}; this one stops", .directory.display())]
pub struct Fenced {
    /// The log's directory.
    pub directory: PathBuf,
    /// The epoch of the writer that was refused.
    pub mine: u64,
    /// The epoch in force.
    pub newer: u64,
}

/// A window that does not follow what is stored.
#[derive(Debug, thiserror::Error)]
#[error("the window {window} of source \"{source_name}\" does not follow the log's end {end}: {what}")]
pub struct Discontinuous {
    /// The window's source.
    pub source_name: String,
    /// Where the window begins and ends: `timeline/after..upto`.
    pub window: String,
    /// Where it should have begun.
    pub end: Position,
    /// The rule that is broken.
    pub what: &'static str,
}

/// An earlier append or fsync failed, and what it left behind is unknown.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log takes nothing more since {cause}; open a new writer, which cuts what is unknown, and resume the source \
     at the log's checkpoint"
)]
pub struct Poisoned {
    /// What failed.
    pub cause: String,
}

/// What was asked of a log that no longer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What follows a position.
    After(Position),
    /// What committed since a time, in microseconds since 1970-01-01 UTC.
    Since(i64),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::After(position) => write!(f, "what follows position {position}"),
            Asked::Since(time) => write!(f, "what committed since {time} µs after 1970-01-01 UTC"),
        }
    }
}

/// What was asked for was dropped, or came before the log began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} is no longer in the log, which holds what follows {earliest}, up to {latest}; start the reader anew (from \
     a clone, or with `start = \"earliest\"`), and raise `keep_bytes` or `keep_time` if readers need longer"
)]
pub struct TooOld {
    /// What was asked for.
    pub asked: Asked,
    /// The log can be read after this position.
    pub earliest: Position,
    /// Up to this one.
    pub latest: Position,
}

/// A reader has seen what is not in this log's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reader stands at {at}, but timeline {} ends at {end} in this log and {next} follows: the reader has \
     transactions that the new server does not have; clone what it holds anew",
    .end.timeline
)]
pub struct Diverged {
    /// Where the reader stands.
    pub at: Position,
    /// Where its timeline ended.
    pub end: Position,
    /// What follows in the log.
    pub next: Position,
}

/// A checkpoint of another source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the checkpoint is of source \"{theirs}\", this log is of \"{ours}\"; ask for the source that the checkpoint is of"
)]
pub struct OtherSource {
    /// The checkpoint's source.
    pub theirs: String,
    /// The log's source.
    pub ours: String,
}

/// A checkpoint that has no place in this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the checkpoint at {scn} of server {theirs} has no place in this log, which has transactions of {}: {why}; resume \
     at a relay that reads that server, or clone what the checkpoint's holder has anew",
    .ours.join(", ")
)]
pub struct OtherLineage {
    /// The server whose clock the checkpoint is of.
    pub theirs: String,
    /// Where the checkpoint stands by that clock.
    pub scn: Scn,
    /// The servers of this log, oldest first.
    pub ours: Vec<String>,
    /// Why the set of executed transactions does not help.
    pub why: String,
}

/// Why a log, or its writer, could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// It is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A file operation failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its history could not be read, or is another log's.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl OpenError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            OpenError::History(error) => error.remedy(),
            OpenError::InUse(_) | OpenError::Damaged(_) => Remedy::Fix,
            OpenError::Storage(error) => error.remedy(),
        }
    }
}

/// Why a window was not stored. Nothing of it will be given to a reader.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A newer writer has the log.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// It does not follow what is stored.
    #[error(transparent)]
    Discontinuous(#[from] Discontinuous),
    /// It contradicts itself.
    #[error("the window contradicts itself")]
    Invalid(#[from] WindowError),
    /// It cannot be a frame.
    #[error("encode the window")]
    Encode(#[source] FrameError),
    /// An earlier failure stands in the way.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// A file operation failed. The writer is poisoned.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AppendError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            AppendError::Fenced(_) => Remedy::Fenced,
            AppendError::Encode(FrameError::TooLarge(_)) => Remedy::Fix,
            AppendError::Discontinuous(_) | AppendError::Invalid(_) | AppendError::Encode(_) => Remedy::Bug,
            AppendError::Poisoned(_) => Remedy::Retry,
            AppendError::Storage(error) => error.remedy(),
        }
    }
}

/// Why a reader gets nothing more.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What it needs was dropped.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// It stands outside this log's history.
    #[error(transparent)]
    Diverged(#[from] Diverged),
    /// Its checkpoint is of another source.
    #[error(transparent)]
    OtherSource(#[from] OtherSource),
    /// Its checkpoint has no place in this log.
    #[error(transparent)]
    OtherLineage(#[from] OtherLineage),
    /// Nothing was appended yet, so no checkpoint has a place.
    #[error(
        "the log has nothing yet, so the checkpoint's place is not known; ask again when the source has begun"
    )]
    NothingYet,
    /// What it needs is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A file operation failed; the next call tries again.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What it needs could not be had from history; the next call tries again. One failure is told to all who waited.
    #[error(transparent)]
    History(Arc<HistoryError>),
}

impl ReadError {
    /// What now.
    pub fn remedy(&self) -> Remedy {
        match self {
            ReadError::TooOld(_)
            | ReadError::Diverged(_)
            | ReadError::OtherSource(_)
            | ReadError::OtherLineage(_)
            | ReadError::Damaged(_) => Remedy::Fix,
            ReadError::NothingYet => Remedy::Wait,
            ReadError::History(error) => error.remedy(),
            ReadError::Storage(error) => error.remedy(),
        }
    }
}

pub(crate) fn storage(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.into();
    move |source| StorageError { action, path, source }
}

pub(crate) fn span_text(timeline: u32, after: Scn, upto: Scn) -> String {
    format!("{timeline}/{after}..{upto}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<Box<dyn std::error::Error>>, expected: &str) {
        assert_eq!(error.into().to_string(), expected);
    }

    fn at(timeline: u32, scn: u64) -> Position {
        Position { timeline, scn: Scn(scn) }
    }

    #[test]
    fn messages_tell_what_where_and_how_to_mend_it() {
        check(
            InUse { directory: "data/shop".into() },
            "the log in data/shop is in use by another process; stop that one, or give this one another `data` \
             directory",
        );
        check(
            Damaged { path: "data/shop/a.seg".into(), offset: 96, what: "its checksum does not fit".into() },
            "data/shop/a.seg is damaged at byte 96: its checksum does not fit; restore the file from a copy, or stop, \
             remove it and all later segments of the directory, and what they held is read again from the source",
        );
        check(
            StorageError {
                action: "append to",
                path: "data/shop/a.seg".into(),
                source: io::ErrorKind::StorageFull.into(),
            },
            "append to data/shop/a.seg; free space on its file system, or lower `keep_bytes` of the log",
        );
        check(
            Fenced { directory: "data/shop".into(), mine: 3, newer: 4 },
            "this writer of data/shop has epoch 3, a newer one has epoch 4; this one stops",
        );
        check(
            Poisoned { cause: "append to data/shop/a.seg failed".into() },
            "the log takes nothing more since append to data/shop/a.seg failed; open a new writer, which cuts what is \
             unknown, and resume the source at the log's checkpoint",
        );
    }

    #[test]
    fn messages_to_readers_give_the_range_that_is_there() {
        check(
            TooOld { asked: Asked::After(at(1, 5)), earliest: at(1, 100), latest: at(2, 900) },
            "what follows position 1/5 is no longer in the log, which holds what follows 1/100, up to 2/900; start \
             the reader anew (from a clone, or with `start = \"earliest\"`), and raise `keep_bytes` or `keep_time` if \
             readers need longer",
        );
        check(
            Diverged { at: at(1, 900), end: at(1, 800), next: at(2, 40) },
            "the reader stands at 1/900, but timeline 1 ends at 1/800 in this log and 2/40 follows: the reader has \
             transactions that the new server does not have; clone what it holds anew",
        );
        check(
            Discontinuous {
                source_name: "shop".into(),
                window: span_text(1, Scn(7), Scn(9)),
                end: at(1, 5),
                what: "it begins elsewhere",
            },
            "the window 1/7..9 of source \"shop\" does not follow the log's end 1/5: it begins elsewhere",
        );
    }

    #[test]
    fn a_full_disk_wants_a_person_and_an_interrupted_call_another_try() {
        let error =
            |kind: io::ErrorKind| AppendError::Storage(storage("append to", "a.seg")(kind.into())).remedy();
        assert_eq!(error(io::ErrorKind::StorageFull), Remedy::Fix);
        assert_eq!(error(io::ErrorKind::TimedOut), Remedy::Retry);
    }
}
