//! The tables of one batch, transaction by transaction.

use tidemill_guest::consumer::{Change, Op, Transaction};
use tidemill_guest::digest;
use tidemill_guest::filter::absent_message;
use tidemill_guest::{Error, Row, RowError};

use crate::Plan;
use crate::amount::Amount;
use crate::kept::{self, TOTAL, Table, Total};

/// What is kept of the tables that a batch changes.
#[derive(Debug)]
pub struct Checked<'a> {
    names: Vec<&'a str>,
    tables: Vec<Table>,
    /// For each change-set, its table: two versions of a table are one.
    table_of: Vec<usize>,
    total: Total,
    /// The canonical bytes of one row; kept for its memory.
    bytes: digest::Row,
}

impl<'a> Checked<'a> {
    /// What the batches before this one left.
    pub fn load(plans: &[&'a Plan]) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut table_of = Vec::with_capacity(plans.len());
        for plan in plans {
            let known = names.iter().position(|name| *name == plan.table);
            table_of.push(known.unwrap_or(names.len()));
            if known.is_none() {
                names.push(&plan.table);
            }
        }
        let tables = names.iter().map(|name| kept::load(&kept::table_key(name))).collect();
        Checked { names, tables, table_of, total: kept::load(TOTAL), bytes: digest::Row::new() }
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
    pub fn apply(
        &mut self,
        transaction: &Transaction<'_, Plan>,
        equals: Option<Amount>,
    ) -> Result<(), Error> {
        for change in transaction.changes() {
            self.change(&change)?;
        }
        if transaction.goes_on() {
            return Ok(());
        }
        self.total.transactions += 1;
        self.total.scn = transaction.scn();
        transaction.id().clone_into(&mut self.total.id);
        match equals {
            Some(expected) if self.total.sum == expected => self.total.reached = true,
            Some(expected) if self.total.reached => return Err(self.not_kept(transaction, expected)),
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, change: &Change<'_, Plan>) -> Result<(), Error> {
        let bytes = &mut self.bytes;
        let table = &mut self.tables[self.table_of[change.set]];
        let sum = &mut self.total.sum;
        if let Some(row) = change.before {
            canonical(change, row, bytes)?;
            table.digest.remove(bytes);
            amounts(change.plan, row).for_each(|amount| sum.subtract(amount));
        }
        if let Some(row) = change.after {
            canonical(change, row, bytes)?;
            table.digest.add(bytes);
            amounts(change.plan, row).for_each(|amount| sum.add(amount));
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
