//! Merges neighbouring runs into one of the next level.

use std::sync::Arc;

use tidemill_event::Position;

use super::layout::Layout;
use super::merge::Rows;
use super::name::table_root;
use super::read::{Bounds, File, Shape};
use super::run::{RunOut, RunVersions};
use super::ways::{Feed, Rule, Ways};
use super::write::FileShape;
use crate::{DataError, Run, Store, TableKey, TableState, limits};

/// Writes one run of everything in `runs`, which follow each other, oldest first. Nothing is committed. Its rows have the
/// table's schema of now. Of a table without key it may have no rows.
pub async fn merge_runs(store: &Store, state: &TableState, runs: &[Run]) -> Result<Run, DataError> {
    // Several runs may hold one transaction that was too large for memory: they begin and end alike, and are in order.
    let follow = runs.windows(2).all(|pair| pair[0].upto <= pair[1].upto && pair[0].after <= pair[1].after);
    let (Some(first), Some(last), true) = (runs.first(), runs.last(), follow) else {
        let what = "runs that do not follow each other were to be merged; please report this".to_owned();
        return Err(DataError::Files { table: state.name.clone(), what });
    };
    let level = runs.iter().map(|run| run.level).max().unwrap_or(0) + 1;
    let is_counted = state.key == TableKey::WholeRow;
    let rule = if is_counted { Rule::Sum } else { Rule::Newest(Position::default()) };
    let (shape, bounds) = (Shape::of(state), Arc::new(Bounds::default()));
    let lanes = runs.iter().map(|run| vec![File::run(run, &state.key)]);
    let mut feed = Feed::new(Ways::new(store, &shape, &bounds, lanes, rule));
    let file = FileShape::new(Layout::of_runs(&state.key), &state.schema, &state.key, limits::ROW_GROUP_ROWS);
    let mut out = RunOut::new(store, &table_root(&state.name), Arc::clone(&file), last.upto);
    while feed.fill().await? {
        let (block, from) = feed.here();
        let entries = block.len() - from;
        let counts = is_counted.then(|| (from..block.len()).map(|entry| block.count(entry)).collect());
        let mut rows = Rows::default();
        rows.take(&mut feed, entries);
        let versions = RunVersions {
            counts,
            deleted: rows.each(|sorted, row| sorted.is_deleted(row)).collect(),
            at: rows.each(|sorted, row| sorted.position(row)).collect(),
        };
        let keys = (rows.key_bytes(0), rows.key_bytes(rows.len() - 1));
        out.write(rows.columns()?, versions, (&keys.0, &keys.1)).await?;
    }
    let time_us = runs.iter().map(|run| run.time_us).max().unwrap_or(0);
    out.finish_even_empty(state.schema.clone(), level, first.after, last.upto, time_us).await
}
