//! Which tables a reader gets, and how a table comes to whoever had an older state of it.

use tidemill_bootstrap_store::{Manifest, TableKey, TablePhase, TableReader, TableState};
use tidemill_event::{Position, TableName};
use tidemill_relay::{SnapshotPath, TablePattern};

use super::ServeError;
use crate::limits::{DELTA_SHARE_MAX, DELTA_SHARE_OF_BASE_MAX};

/// How a table comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Not at all: nothing changed.
    Nothing,
    /// The last state of every key that changed.
    Deltas,
    /// All of it, after it was emptied.
    Whole,
}

/// The way of a table for whoever has everything up to `since`.
pub(crate) fn way(state: &TableState, reader: &TableReader, since: Position, path: SnapshotPath) -> Way {
    if state.deltas_since > since {
        return Way::Whole;
    }
    if !state.runs.iter().chain(&state.merged_runs).any(|run| run.upto > since) {
        return Way::Nothing;
    }
    // Without a primary key no consumer could tell which row is the one that changed.
    let has_key = matches!(state.key, TableKey::Columns { .. }) && !state.schema.primary_key.is_empty();
    match path {
        _ if !has_key => Way::Whole,
        SnapshotPath::Whole => Way::Whole,
        SnapshotPath::Deltas => Way::Deltas,
        SnapshotPath::Auto => {
            let (changed, whole) = (reader.delta_bytes(since), reader.whole_bytes());
            let share = match state.runs.iter().any(|run| run.rows > 0) {
                true => DELTA_SHARE_MAX,
                false => DELTA_SHARE_OF_BASE_MAX,
            };
            match changed as f64 > whole as f64 * share {
                true => Way::Whole,
                false => Way::Deltas,
            }
        }
    }
}

/// Whether the table of that key in a manifest may be one of the patterns': its name alone says it for sure.
pub(crate) fn may_match(patterns: &[TablePattern], key: &str) -> bool {
    let fits = |pattern: &TablePattern| match (&pattern.database, &pattern.table) {
        (Some(database), Some(table)) => {
            key.strip_prefix(database.as_str()).and_then(|rest| rest.strip_prefix('.')) == Some(table)
        }
        (Some(database), None) => {
            key.strip_prefix(database.as_str()).is_some_and(|rest| rest.starts_with('.'))
        }
        (None, Some(table)) => key.strip_suffix(table.as_str()).is_some_and(|rest| rest.ends_with('.')),
        (None, None) => true,
    };
    patterns.is_empty() || patterns.iter().any(fits)
}

/// Whether the table is one of the patterns'; none: every one is.
pub(crate) fn matches(patterns: &[TablePattern], name: &TableName) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}

/// Refuses a table that cannot be read.
pub(crate) fn check_ready(manifest: &Manifest, state: &TableState) -> Result<(), ServeError> {
    let why = match &state.phase {
        TablePhase::Ready => return Ok(()),
        TablePhase::Cloning(_) => "it is being copied".to_owned(),
        TablePhase::Stale { reason, .. } => format!("it is to be copied again: {reason}"),
    };
    let what = format!("cannot give {} yet: {why}", state.name);
    Err(ServeError::NotYet { source_name: manifest.source.clone(), what })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn no_table_that_is_asked_for_is_passed_over_by_its_key() {
        let names = [("shop", "orders"), ("shop.eu", "orders"), ("shop", "eu.orders"), ("bank", "orders")];
        for pattern in ["shop.orders", "shop.*", "*.orders", "*.*", "bank.x"] {
            let patterns = [TablePattern::parse(pattern).unwrap()];
            for (database, table) in names {
                let name = TableName::new(database, table);
                if matches(&patterns, &name) {
                    assert!(may_match(&patterns, &name.to_string()), "{pattern} {name}");
                }
            }
        }
        assert!(!may_match(&[TablePattern::parse("bank.*").unwrap()], "shop.orders"));
        assert!(may_match(&[], "shop.orders"));
    }
}
