//! When runs are merged, when a version is published, and how a merge that was made beside everything else becomes part of
//! the head: it replaces exactly what it read.

use std::ops::Range;

use tidemill_bootstrap_store::{BaseVersion, Draft, Run, TableId, TablePhase, TableState};

use crate::ServiceOptions;

/// What a table's runs ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// These runs become one.
    Runs(Range<usize>),
    /// All of them go into a new version of the base, which is published.
    Base,
}

/// What to do with a table next. `is_due`: its last version is old enough for another.
pub(crate) fn wish(table: &TableState, is_due: bool, options: &ServiceOptions) -> Option<Wish> {
    if table.phase != TablePhase::Ready {
        return None;
    }
    let base = table.base.as_ref();
    let is_published = base.is_some_and(|base| base.path.is_some());
    let files = base.map_or(&[][..], |base| &base.files);
    let schema = table.schema.fingerprint();
    let is_older = files.iter().any(|file| file.schema != schema);
    let base_rows: u64 = files.iter().map(|file| file.rows).sum();
    let run_rows: u64 = table.runs.iter().map(|run| run.rows).sum();
    let is_much = run_rows > 0 && run_rows as f64 >= options.publish_ratio * base_rows as f64;
    if !is_published || is_older || is_much || (is_due && !table.runs.is_empty()) {
        return Some(Wish::Base);
    }
    group(&table.runs, options).map(Wish::Runs)
}

/// Neighbours of one level, the lowest one first; the newest ones, whatever their level, where there are too many.
fn group(runs: &[Run], options: &ServiceOptions) -> Option<Range<usize>> {
    let ratio = options.runs_ratio.max(2);
    let mut groups: Vec<(u32, Range<usize>)> = vec![];
    for (at, run) in runs.iter().enumerate() {
        match groups.last_mut() {
            Some((level, group)) if *level == run.level => group.end = at + 1,
            _ => groups.push((run.level, at..at + 1)),
        }
    }
    let full = groups.into_iter().filter(|(_, group)| group.len() >= ratio).min_by_key(|(level, _)| *level);
    let newest = || runs.len().saturating_sub(ratio)..runs.len();
    full.map(|(_, group)| group).or_else(|| (runs.len() > options.runs_max).then(newest))
}

/// Puts the merged run in the place of those that it was made of; nothing, where they are not the table's any more.
pub(crate) fn replace_runs(draft: &mut Draft, id: TableId, read: &[Run], merged: Run) {
    let Some(table) = draft.tables.get_mut(&id).filter(|table| table.phase == TablePhase::Ready) else {
        return;
    };
    let Some(at) = position_of(&table.runs, read) else { return };
    table.runs.splice(at..at + read.len(), [merged]);
}

/// Makes the new version the table's; nothing, where its base or its runs were replaced meanwhile.
pub(crate) fn replace_base(draft: &mut Draft, read: &TableState, merged: BaseVersion) {
    let Some(table) = draft.tables.get_mut(&read.id).filter(|table| table.phase == TablePhase::Ready) else {
        return;
    };
    if table.base != read.base || !table.runs.starts_with(&read.runs) {
        return;
    }
    let into_base = table.runs.drain(..read.runs.len());
    table.merged_runs.extend(into_base);
    table.base = Some(merged);
}

fn position_of(runs: &[Run], read: &[Run]) -> Option<usize> {
    let oldest = read.first()?;
    let first = runs.iter().position(|run| run.object == oldest.object)?;
    let same = runs.get(first..first + read.len())? == read;
    same.then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use arrow_schema::DataType;
    use tidemill_bootstrap_store::{BaseFile, ObjectRef, StoredSchema, TableKey};
    use tidemill_event::{ColumnSchema, Position, Scn, TableName, TableSchema};

    fn object(path: &str) -> ObjectRef {
        ObjectRef { path: path.to_owned(), bytes: 1, crc32c: 0 }
    }

    fn at(scn: u64) -> Position {
        Position { timeline: 1, scn: Scn(scn) }
    }

    fn table(levels: &[u32], base_rows: Option<u64>) -> TableState {
        let name = TableName::new("shop", "orders");
        let schema = TableSchema::new(
            name.clone(),
            vec![ColumnSchema::new("id", DataType::Int64, "bigint", false)],
            vec![0],
        );
        let schema = StoredSchema::new(&schema, 1);
        let mut table = TableState::new(1, name, schema.clone(), TableKey::Columns { fields: vec![1] });
        let run = |(number, level): (u64, &u32)| Run {
            object: object(&format!("run-{number}")),
            level: *level,
            after: at(number),
            upto: at(number + 1),
            rows: 10,
            deletes: 0,
            time_us: 0,
            first_key: String::new(),
            last_key: String::new(),
            schema: schema.clone(),
        };
        table.runs = (0..).zip(levels).map(run).collect();
        table.phase = TablePhase::Ready;
        let file = |rows| BaseFile {
            object: object("base"),
            rows,
            first_key: String::new(),
            last_key: String::new(),
            schema: schema.fingerprint(),
            at: at(0),
        };
        let base = |rows| BaseVersion { path: Some("snap".into()), at: at(0), files: vec![file(rows)] };
        table.base = base_rows.map(base);
        table
    }

    fn wished(table: &TableState, is_due: bool) -> Option<Wish> {
        wish(table, is_due, &ServiceOptions::default())
    }

    #[test]
    fn a_table_is_published_when_its_runs_are_a_tenth_of_its_base_or_it_is_time() {
        assert_eq!(wished(&table(&[], None), false), Some(Wish::Base));
        assert_eq!(wished(&table(&[0], Some(100)), false), Some(Wish::Base));
        assert_eq!(wished(&table(&[0], Some(101)), false), None);
        assert_eq!(wished(&table(&[0], Some(101)), true), Some(Wish::Base));
        assert_eq!(wished(&table(&[], Some(0)), true), None);
    }

    #[test]
    fn a_table_with_a_file_of_another_schema_is_published() {
        let mut table = table(&[], Some(1000));
        table.schema.id = "another".to_owned();
        assert_eq!(wished(&table, false), Some(Wish::Base));
    }

    #[test]
    fn four_neighbours_of_a_level_become_one_and_never_are_there_more_than_twelve() {
        assert_eq!(wished(&table(&[0, 0, 0], Some(9999)), false), None);
        assert_eq!(wished(&table(&[1, 0, 0, 0, 0], Some(9999)), false), Some(Wish::Runs(1..5)));
        assert_eq!(wished(&table(&[1, 1, 1, 1, 0, 0, 0, 0], Some(9999)), false), Some(Wish::Runs(4..8)));
        let many = [4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 0];
        assert_eq!(wished(&table(&many, Some(9999)), false), Some(Wish::Runs(9..13)));
        assert_eq!(wished(&table(&many[1..], Some(9999)), false), None);
    }

    #[test]
    fn a_merge_replaces_what_it_read_and_nothing_else() {
        let read = table(&[0, 0], Some(9999));
        let mut now = table(&[0, 0, 0], Some(9999));
        let merged = Run { object: object("merged"), ..read.runs[0].clone() };
        let mut draft = Draft { manifest: manifest(), tables: [(1, now.clone())].into() };
        replace_runs(&mut draft, 1, &read.runs, merged.clone());
        assert_eq!(draft.tables[&1].runs, [merged.clone(), now.runs[2].clone()]);
        replace_runs(&mut draft, 1, &read.runs, merged.clone());
        assert_eq!(draft.tables[&1].runs.len(), 2);

        let version = BaseVersion { path: Some("next".into()), at: at(2), files: vec![] };
        let mut draft = Draft { manifest: manifest(), tables: [(1, now.clone())].into() };
        replace_base(&mut draft, &read, version.clone());
        let table = &draft.tables[&1];
        assert_eq!((&table.runs[..], &table.merged_runs), (&now.runs[2..], &read.runs));
        assert_eq!(table.base, Some(version.clone()));
        now.base = None;
        let mut draft = Draft { manifest: manifest(), tables: [(1, now.clone())].into() };
        replace_base(&mut draft, &read, version);
        assert_eq!(draft.tables[&1], now);
    }

    fn manifest() -> tidemill_bootstrap_store::Manifest {
        tidemill_bootstrap_store::Manifest {
            format: 1,
            number: 1,
            commit_id: String::new(),
            epoch: 1,
            writer: String::new(),
            time_us: 0,
            source: "shop".into(),
            timelines: vec![],
            applied: Default::default(),
            logged: Default::default(),
            log: vec![],
            tables: Default::default(),
            next_table: 2,
            dropped: vec![],
        }
    }
}
