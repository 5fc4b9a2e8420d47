//! One subscription as it was at one moment: its checkpoint and the rows that were committed with it, whatever is committed
//! meanwhile. As long as a view is kept, the store keeps what it shows.

use std::sync::Arc;

use redb::{ReadTransaction, ReadableTableMetadata};
use tidemill_event::{Checkpoint, TableSchema};

use crate::error::{DamagedCheckpoint, StoreError};
use crate::rows::Rows;
use crate::store::{CHECKPOINT, Failing, OUTPUT, TABLE};

/// See the module. Calls block.
pub struct View {
    pub(crate) read: ReadTransaction,
    pub(crate) failing: Failing,
    pub(crate) subscription: String,
}

impl View {
    /// How far the subscription is; `None`: it has never committed. A damaged record is an error.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let table = self.read.open_table(CHECKPOINT).map_err(self.failing.when("read"))?;
        let Some(record) = table.get(&*self.subscription).map_err(self.failing.when("read"))? else {
            return Ok(None);
        };
        let decoded = Checkpoint::decode(record.value()).map_err(|source| DamagedCheckpoint {
            subscription: self.subscription.clone(),
            path: self.failing.path(),
            source,
        });
        Ok(Some(decoded?))
    }

    /// The names of its output tables, in order.
    pub fn tables(&self) -> Result<Vec<String>, StoreError> {
        let table = self.read.open_table(TABLE).map_err(self.failing.when("read"))?;
        let mut names = Vec::new();
        for entry in table.range((&*self.subscription, "")..).map_err(self.failing.when("read"))? {
            let (key, _) = entry.map_err(self.failing.when("read"))?;
            let (of, name) = key.value();
            if of != self.subscription {
                break;
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    /// The columns and key of an output table; `None`: there is no such table.
    pub fn schema(&self, table: &str) -> Result<Option<Arc<TableSchema>>, StoreError> {
        let definitions = self.read.open_table(TABLE).map_err(self.failing.when("read"))?;
        let definition = definitions.get((&*self.subscription, table)).map_err(self.failing.when("read"))?;
        definition.map(|definition| self.failing.schema(definition.value())).transpose()
    }

    /// Not fewer than the rows of any output table: those of all of them, of every subscription.
    pub fn rows_at_most(&self) -> Result<u64, StoreError> {
        let output = self.read.open_table(OUTPUT).map_err(self.failing.when("read"))?;
        output.len().map_err(self.failing.when("read"))
    }

    /// The rows of an output table, in key order; none where there is no such table.
    pub fn rows(&self, table: &str) -> Result<Rows, StoreError> {
        let rows = match self.schema(table)? {
            None => None,
            Some(schema) => {
                let output = self.read.open_table(OUTPUT).map_err(self.failing.when("read"))?;
                let from = (&*self.subscription, table, &[][..]);
                Some((schema, output.range_owned(from..).map_err(self.failing.when("read"))?))
            }
        };
        let (subscription, table) = (self.subscription.clone(), table.to_owned());
        Ok(Rows { failing: self.failing.clone(), subscription, table, rows })
    }
}
