//! Keeps each table as an output table of the same name, `shop.orders`: the same columns, the same key, the rows that are
//! there now. Inserts, updates and deletes are done in place, and a changed key moves its row; snapshots, deltas and the
//! stream end up in the same rows. A table that is truncated or dropped has no rows, and one of the same name may have
//! other columns; a renamed one takes its rows along.
//!
//! Configuration: `{"tables": ["shop.*"]}`, or nothing for all tables.
//!
//! What this guest cannot repeat pauses its subscription by name: a table without key, rows that were not sent whole
//! (MINIMAL images), a table with rows whose columns change, and one whose content changes in a way that the log does not
//! tell.

mod gather;
mod names;

use std::collections::BTreeSet;

use serde::Deserialize;
use tidemill_guest::config::Tables;
use tidemill_guest::consumer::{
    Batch, Change, Consumer, Failure, Happening, Interested, Invalidation, Item, Renaming, TableName,
};
use tidemill_guest::output::{self, Table};
use tidemill_guest::{ColumnDef, Error, TableDef};

use gather::{Gathered, Image};
use names::Names;

/// The configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    tables: Tables,
}

/// The consumer.
#[derive(Clone, Debug)]
pub struct Mirror {
    config: Config,
    names: Names,
    /// Tables that have come to these names with their rows, in the transaction in hand.
    moved: BTreeSet<String>,
}

/// One version of a table, and its output.
#[derive(Debug)]
pub struct Plan {
    table: TableName,
    columns: Vec<ColumnDef>,
    key: Vec<u32>,
}

impl Consumer for Mirror {
    type Config = Config;
    type Plan = Plan;
    const TAKES_EVENTS: bool = true;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        Ok(Mirror { config, names: Names::default(), moved: BTreeSet::new() })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Interested<Plan>>, Error> {
        if !self.config.tables.contain(table) {
            return Ok(None);
        }
        if table.key.is_empty() {
            let name = table.path();
            let mend = "give it a primary key, or name the other tables in `tables`";
            return Err(Error::Unsupported(format!(
                "table {name} has no key, so that its rows cannot be found again; {mend}"
            )));
        }
        let plan = Plan {
            table: TableName { schema: table.schema.clone(), name: table.name.clone() },
            columns: table.columns.clone(),
            key: table.key.clone(),
        };
        Ok(Some(Interested { after: table.ordinals(), before: table.key.clone(), plan }))
    }

    fn process(&mut self, batch: &Batch<'_, Plan>) -> Result<(), Failure> {
        let has_versions = has_versions(batch.plans());
        let mut rows: Vec<Gathered<'_>> = batch.plans().iter().map(|_| Gathered::default()).collect();
        let mut last_set = None;
        for transaction in batch.transactions() {
            if !transaction.has_begun() {
                self.moved.clear();
            }
            for item in transaction.items() {
                match item {
                    Item::Change(change) => {
                        // The rows of one version of a table come before those of the next.
                        if has_versions && last_set != Some(change.set) {
                            self.append(batch, &mut rows)?;
                        }
                        last_set = Some(change.set);
                        add(&mut rows[change.set], &change);
                    }
                    Item::Event(event) => {
                        self.append(batch, &mut rows)?;
                        self.happened(event.what, transaction.scn())?;
                    }
                }
            }
        }
        Ok(self.append(batch, &mut rows)?)
    }
}

impl Mirror {
    /// Appends what was gathered, and begins anew.
    fn append(&mut self, batch: &Batch<'_, Plan>, rows: &mut [Gathered<'_>]) -> Result<(), Error> {
        for (plan, rows) in batch.plans().iter().zip(rows).filter(|(_, rows)| !rows.is_empty()) {
            let (ops, columns) = std::mem::take(rows).finish(&plan.columns);
            Table::open(&plan.table.path(), &plan.columns, &plan.key)?.append(&ops, &columns)?;
            self.names.add(&plan.table);
        }
        Ok(())
    }

    /// What happened to a table without a change of each row.
    fn happened(&mut self, what: &Happening, scn: u64) -> Result<(), Error> {
        match what {
            Happening::SchemaChanged(_) => Ok(()),
            Happening::Truncated(table) if self.is_mine(table) => output::truncate(&table.path()),
            Happening::Dropped(table) if self.is_mine(table) => {
                self.names.remove(table);
                output::truncate(&table.path())
            }
            Happening::SchemaDropped(schema) => {
                let names = self.names.take(schema);
                names.iter().try_for_each(|name| output::truncate(&format!("{schema}.{name}")))
            }
            Happening::Renamed(renaming) => self.renamed(renaming),
            Happening::Invalidated(what) if self.is_mine(&what.table) => self.invalidated(what, scn),
            Happening::Truncated(_) | Happening::Dropped(_) | Happening::Invalidated(_) => Ok(()),
        }
    }

    fn is_mine(&self, table: &TableName) -> bool {
        self.config.tables.name(table)
    }

    /// Rows go with the table where both names are wanted. One that comes from elsewhere is invalidated next.
    fn renamed(&mut self, Renaming { from, to }: &Renaming) -> Result<(), Error> {
        self.moved.remove(&from.path());
        self.moved.remove(&to.path());
        if !self.is_mine(from) {
            return Ok(());
        }
        self.names.remove(from);
        if !self.is_mine(to) {
            return output::truncate(&from.path());
        }
        self.names.add(to);
        self.moved.insert(to.path());
        output::rename(&from.path(), &to.path())
    }

    fn invalidated(&self, Invalidation { table, reason }: &Invalidation, scn: u64) -> Result<(), Error> {
        let name = table.path();
        if self.moved.contains(&name) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "table {name} is no longer what its changes say, from SCN {scn} on: {reason}; where there is snapshot storage, \
             stop and `tidemill checkpoint set --to deltas` has it come anew; or leave the table out of `tables`"
        )))
    }
}

/// Whether a table is there in more than one version.
fn has_versions(plans: &[&Plan]) -> bool {
    let mut names = BTreeSet::new();
    !plans.iter().all(|plan| names.insert(plan.table.path()))
}

/// An update keeps its key: a changed one comes as a delete and an insert.
fn add<'a>(rows: &mut Gathered<'a>, change: &Change<'a, Plan>) {
    match (change.after, change.before) {
        (Some(after), _) => rows.push(change.op, Image::Whole(after)),
        (None, Some(before)) => rows.push(change.op, Image::Key { row: before, key: &change.plan.key }),
        (None, None) => {}
    }
}

tidemill_guest::export_consumer!(Mirror);

#[cfg(test)]
mod tests;
