//! Where a change stands in its transaction. For a transaction that comes in parts this is kept in
//! `state`, so that its numbers go on in the next batch, whatever instance gets it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_guest::consumer::{Batch, Transaction};
use tidemill_guest::host::{self, Level};
use tidemill_guest::state;

use crate::envelope::Layout;

/// The state key of the transaction that is not yet at its end.
const KEY: &str = "print/open";

/// Numbers of the changes of a transaction that came so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    total: u64,
    /// one a change-set of the batch
    in_set: Vec<u64>,
}

/// The same over batches, where change-sets are others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: String,
    total: u64,
    tables: BTreeMap<String, u64>,
}

/// A change's numbers, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// in its transaction
    pub total: u64,
    /// in its transaction, among those of its table
    pub in_table: u64,
}

impl Orders {
    /// At the first change of a transaction that is in the batch.
    pub fn begin(&mut self, transaction: &Transaction<'_, Layout>, batch: &Batch<'_, Layout>) {
        self.total = 0;
        self.in_set.clear();
        self.in_set.resize(batch.plans().len(), 0);
        if transaction.has_begun() {
            let kept = kept_of(transaction.id());
            self.total = kept.total;
            for (count, layout) in self.in_set.iter_mut().zip(batch.plans()) {
                *count = kept.tables.get(layout.table()).copied().unwrap_or_default();
            }
        }
    }

    /// The numbers of the next change.
    pub fn next(&mut self, set: usize) -> Order {
        self.total += 1;
        self.in_set[set] += 1;
        Order { total: self.total, in_table: self.in_set[set] }
    }

    /// The number of the next event, which counts with the changes of no table.
    pub fn next_event(&mut self) -> u64 {
        self.total += 1;
        self.total
    }

    /// After the last transaction of the batch: keeps the numbers of one that goes on, and forgets those
    /// of one that ended.
    pub fn keep(&self, batch: &Batch<'_, Layout>) {
        match batch.transactions().last() {
            Some(last) if last.goes_on() => self.save(&last, batch),
            Some(_) if batch.transactions().any(|transaction| transaction.has_begun()) => state::delete(KEY),
            _ => {}
        }
    }

    fn save(&self, transaction: &Transaction<'_, Layout>, batch: &Batch<'_, Layout>) {
        // Tables that have no change in this batch keep their numbers.
        let mut kept = if transaction.has_begun() { kept_of(transaction.id()) } else { Kept::default() };
        transaction.id().clone_into(&mut kept.id);
        kept.total = self.total;
        let counted = batch.plans().iter().zip(&self.in_set);
        kept.tables.extend(counted.map(|(layout, count)| (layout.table().to_owned(), *count)));
        state::set(KEY, &serde_json::to_vec(&kept).expect("numbers and names are JSON"));
    }
}

/// What earlier batches kept of a transaction.
fn kept_of(id: &str) -> Kept {
    let kept = state::get(KEY).and_then(|json| serde_json::from_slice::<Kept>(&json).ok());
    kept.filter(|kept| kept.id == id).unwrap_or_else(|| {
        let message = format!("transaction {id}: its beginning was not seen; orders start again");
        host::log(Level::Warn, &message);
        Kept::default()
    })
}
