//! The tables of one batch, transaction by transaction.

use tidemill_guest::config::Tables;
use tidemill_guest::consumer::{Change, Happening, Item, Op, Transaction};
use tidemill_guest::digest;
use tidemill_guest::filter::absent_message;
use tidemill_guest::{Error, Row, RowError};

use crate::amount::Amount;
use crate::kept::{self, TOTAL, Table, Total};
use crate::{Config, Plan};

/// What is kept of the tables that a batch changes.
#[derive(Debug)]
pub struct Checked {
    names: Vec<String>,
    tables: Vec<Table>,
    /// For each change-set, its table: two versions of a table are one.
    table_of: Vec<usize>,
    total: Total,
    /// The canonical bytes of one row; kept for its memory.
    bytes: digest::Row,
}

impl Checked {
    /// What the batches before this one left.
    pub fn load(plans: &[&Plan]) -> Self {
        let (names, tables, table_of) = (vec![], vec![], vec![]);
        let mut checked =
            Checked { names, tables, table_of, total: kept::load(TOTAL), bytes: digest::Row::new() };
        checked.table_of = plans.iter().map(|plan| checked.place(&plan.table)).collect();
        checked
    }

    /// Where a table is, which is loaded when it is first asked for.
    fn place(&mut self, name: &str) -> usize {
        if let Some(known) = self.names.iter().position(|known| known == name) {
            return known;
        }
        self.names.push(name.to_owned());
        self.tables.push(kept::load(&kept::table_key(name)));
        self.total.tables.insert(name.to_owned());
        self.names.len() - 1
    }

    /// Keeps it with the batch's position.
    pub fn save(&self) {
        for (name, table) in self.names.iter().zip(&self.tables) {
            kept::save(&kept::table_key(name), table);
        }
        kept::save(TOTAL, &self.total);
    }

    /// Applies a transaction, or a part of one, and at its end looks at the sum.
    ///
    /// # Errors
    /// `rejected`, when a row was not sent whole; `fatal`, when the sum is not kept.
    pub fn apply(&mut self, transaction: &Transaction<'_, Plan>, config: &Config) -> Result<(), Error> {
        for item in transaction.items() {
            match item {
                Item::Change(change) => self.change(&change)?,
                Item::Event(event) => self.event(event.what, &config.tables),
            }
        }
        if transaction.goes_on() {
            return Ok(());
        }
        self.total.transactions += 1;
        self.total.scn = transaction.scn();
        transaction.id().clone_into(&mut self.total.id);
        match config.equals {
            Some(expected) if self.total.sum == expected => self.total.reached = true,
            Some(expected) if self.total.reached => return Err(self.not_kept(transaction, expected)),
            _ => {}
        }
        Ok(())
    }

    /// What happened to a table without a change of each row.
    fn event(&mut self, what: &Happening, tables: &Tables) {
        match what {
            Happening::Truncated(table) | Happening::Dropped(table) if tables.name(table) => {
                self.empty(&table.path());
            }
            Happening::SchemaDropped(schema) => {
                let prefix = format!("{schema}.");
                let gone = self.total.tables.iter().filter(|name| name.starts_with(&prefix));
                gone.cloned().collect::<Vec<_>>().iter().for_each(|name| self.empty(name));
            }
            Happening::Renamed(renaming) => {
                let (from, to) = (self.place(&renaming.from.path()), self.place(&renaming.to.path()));
                // Whatever had the new name was renamed or dropped before.
                self.tables[to] = std::mem::take(&mut self.tables[from]);
            }
            Happening::Invalidated(invalidation) if tables.name(&invalidation.table) => {
                let place = self.place(&invalidation.table.path());
                self.tables[place].invalidated += 1;
            }
            _ => {}
        }
    }

    fn empty(&mut self, name: &str) {
        let place = self.place(name);
        let table = &mut self.tables[place];
        self.total.sum.subtract(table.sum);
        table.empty();
    }

    fn change(&mut self, change: &Change<'_, Plan>) -> Result<(), Error> {
        let bytes = &mut self.bytes;
        let table = &mut self.tables[self.table_of[change.set]];
        let sum = &mut self.total.sum;
        if let Some(row) = change.before {
            canonical(change, row, bytes)?;
            table.digest.remove(bytes);
            for amount in amounts(change.plan, row) {
                sum.subtract(amount);
                table.sum.subtract(amount);
            }
        }
        if let Some(row) = change.after {
            canonical(change, row, bytes)?;
            table.digest.add(bytes);
            for amount in amounts(change.plan, row) {
                sum.add(amount);
                table.sum.add(amount);
            }
        }
        table.rows += i64::from(change.after.is_some()) - i64::from(change.before.is_some());
        match change.op {
            Op::Insert => table.inserts += 1,
            Op::Update => table.updates += 1,
            Op::Delete => table.deletes += 1,
            Op::Snapshot => table.snapshot += 1,
        }
        Ok(())
    }

    fn not_kept(&self, transaction: &Transaction<'_, Plan>, expected: Amount) -> Error {
        Error::Fatal(format!(
            "transaction {} at SCN {} leaves a sum of {}, and {expected} has to be kept: \
             a change was lost, came twice, or a part of a transaction was taken for the whole",
            transaction.id(),
            transaction.scn(),
            self.total.sum,
        ))
    }
}

/// The canonical bytes of a whole row.
fn canonical(change: &Change<'_, Plan>, row: Row<'_>, bytes: &mut digest::Row) -> Result<(), Error> {
    bytes.clear();
    let plan = change.plan;
    for ((canonical, column), name) in plan.columns.iter().zip(row.columns()).zip(&plan.names) {
        if !canonical.push(bytes, column, row.number()) {
            let message = format!("table {}: {}", plan.table, absent_message(name));
            return Err(Error::Rejected(vec![RowError { row: change.place, message }]));
        }
    }
    Ok(())
}

/// The amounts of a row that are summed.
fn amounts<'r>(plan: &'r Plan, row: Row<'r>) -> impl Iterator<Item = Amount> + 'r {
    plan.summed.iter().filter_map(move |place| Amount::of(row.columns().get(*place)?, row.number()))
}
