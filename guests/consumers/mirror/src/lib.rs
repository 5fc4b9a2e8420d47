//! Keeps each table as an output table of the same name, `shop.orders`: the same columns, the same key, the rows that are
//! there now. Inserts, updates and deletes are done in place, and a changed key moves its row; snapshots, deltas and the
//! stream end up in the same rows.
//!
//! Configuration: `{"tables": ["shop.*"]}`, or nothing for all tables.
//!
//! What this guest cannot repeat pauses its subscription by name: a table without key, rows that were not sent whole
//! (MINIMAL images), a table whose columns change, and what empties a table without a change of each row.

mod gather;

use std::cell::Cell;

use serde::Deserialize;
use tidemill_guest::config::Tables;
use tidemill_guest::consumer::{Batch, Change, Consumer, Failure, Interested};
use tidemill_guest::output::Table;
use tidemill_guest::{ColumnDef, Error, TableDef};

use gather::{Gathered, Image};

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
}

/// One table and its output.
#[derive(Debug)]
pub struct Plan {
    name: String,
    columns: Vec<ColumnDef>,
    key: Vec<u32>,
    /// Opened with the first change.
    output: Cell<Option<Table>>,
}

impl Consumer for Mirror {
    type Config = Config;
    type Plan = Plan;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        Ok(Mirror { config })
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
            name: table.path(),
            columns: table.columns.clone(),
            key: table.key.clone(),
            output: Cell::new(None),
        };
        Ok(Some(Interested { after: table.ordinals(), before: table.key.clone(), plan }))
    }

    fn process(&mut self, batch: &Batch<'_, Plan>) -> Result<(), Failure> {
        for (plan, rows) in batch.plans().iter().zip(gathered(batch)) {
            let (ops, columns) = rows.finish(&plan.columns);
            plan.output()?.append(&ops, &columns)?;
        }
        Ok(())
    }
}

impl Plan {
    fn output(&self) -> Result<Table, Error> {
        if let Some(table) = self.output.get() {
            return Ok(table);
        }
        let table = Table::open(&self.name, &self.columns, &self.key)?;
        self.output.set(Some(table));
        Ok(table)
    }
}

/// What becomes of the rows of each table of a batch, in the order of its statements.
fn gathered<'a>(batch: &'a Batch<'_, Plan>) -> Vec<Gathered<'a>> {
    let mut all: Vec<Gathered<'a>> = batch.plans().iter().map(|_| Gathered::default()).collect();
    for transaction in batch.transactions() {
        transaction.changes().for_each(|change| add(&mut all[change.set], &change));
    }
    all
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
