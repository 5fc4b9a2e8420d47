//! Snapshot storage as what a source is compared with.

use std::sync::Arc;

use tidemill_bootstrap_store::{ScanOptions, Store, TableKey, TablePhase, TableReader, TableState};
use tidemill_event::{Position, TableName, TableSchema};

use super::VerifyError;
use super::replica::{Give, Pairing, Place, Replica, Version};

impl Replica for Store {
    type Version = StoredTable;

    async fn tables(&self, _: &[TableName]) -> Result<Vec<TableName>, VerifyError> {
        let Some(manifest) = self.newest().await? else { return Ok(vec![]) };
        let mut names = Vec::with_capacity(manifest.tables.len());
        for table in manifest.tables.values() {
            names.push(self.table(table).await?.name.clone());
        }
        Ok(names)
    }

    async fn version(&self, name: &TableName) -> Result<StoredTable, VerifyError> {
        let not = |what: &str| VerifyError::NotComparable { table: name.clone(), what: what.to_owned() };
        let manifest = self.newest().await?.ok_or_else(|| not("the store is empty"))?;
        let table = manifest.tables.get(&name.to_string());
        let table = table.ok_or_else(|| not("the store has no such table; see `tidemill snapshot ls`"))?;
        let state = self.table(table).await?;
        match &state.phase {
            TablePhase::Ready => {}
            TablePhase::Cloning(_) => return Err(not("it is being copied; verify again when that is done")),
            TablePhase::Stale { reason, .. } => {
                return Err(not(&format!(
                    "its copy is stale ({reason}); verify again when it was made anew"
                )));
            }
        }
        let place = Place {
            number: Some(manifest.number),
            position: manifest.applied.position,
            executed: manifest.applied.executed.clone(),
            timelines: (1u32..).zip(manifest.timelines.iter().cloned()).collect(),
        };
        let reader = TableReader::new(self.clone(), Arc::clone(&state), place.position);
        Ok(StoredTable { place, state, reader })
    }
}

/// A table of one manifest.
pub struct StoredTable {
    place: Place,
    state: Arc<TableState>,
    reader: TableReader,
}

impl Version for StoredTable {
    fn place(&self) -> &Place {
        &self.place
    }

    fn pairing(&self, rows: &TableSchema) -> Result<Pairing, String> {
        // Not by its schema's number: MySQL's log calls a unique key primary where there is no other, and its tables do not.
        if self.reader.schema().columns() != rows.columns() {
            let what =
                "the source has other columns than the store; verify again when the store has followed";
            return Err(what.into());
        }
        let columns = &self.state.schema.columns;
        let ordinal = |field: &u32| columns.iter().position(|column| column.field == *field);
        let key = match &self.state.key {
            TableKey::Columns { fields } => fields.iter().filter_map(ordinal).collect(),
            TableKey::WholeRow => vec![],
        };
        Ok(Pairing::same(rows, key))
    }

    fn row_count(&self) -> u64 {
        self.state.base.iter().flat_map(|base| &base.files).map(|file| file.rows).sum()
    }

    async fn rows(&self, pairing: &Pairing, give: Give<'_>) -> Result<(), VerifyError> {
        let mut scan = self.reader.scan(ScanOptions::default());
        while let Some(batch) = scan.next().await? {
            give(&pairing.of_replica(&batch.rows)?)?;
        }
        Ok(())
    }

    async fn changed(&self, pairing: &Pairing, since: Position, give: Give<'_>) -> Result<bool, VerifyError> {
        let state = &self.state;
        if state.runs.iter().chain(&state.merged_runs).all(|run| run.upto <= since) {
            return Ok(since >= state.deltas_since);
        }
        if since < state.deltas_since || state.key == TableKey::WholeRow {
            return Ok(false);
        }
        let mut scan = self.reader.deltas(since, ScanOptions::default());
        while let Some(batch) = scan.next().await? {
            give(&pairing.of_replica(&batch.rows)?)?;
        }
        Ok(true)
    }
}
