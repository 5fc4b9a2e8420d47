//! A subscription's output tables as what a source is compared with: rows that its consumer has written, of which each is one
//! of the source's. What changed meanwhile is told by the log that the subscription reads.

use std::collections::BTreeMap;

use tidemill_event::{EventKind, Phase, Position, TableName, TableSchema, Window};
use tidemill_log::{From, Log, ReadError};
use tidemill_sink::{EmbeddedStore, View};

use super::replica::{Give, Pairing, Place, Replica, Version};
use super::{Shape, VerifyError};

/// Rows that are read at once; then it is the turn of others on this thread.
const BATCH_ROWS: usize = 8192;

/// The output of one subscription.
pub struct Output {
    /// Where it is.
    pub store: EmbeddedStore,
    /// The log that the subscription reads.
    pub log: Log,
    /// The subscription.
    pub subscription: String,
    /// Which output table is which of the source's, where the names do not say it.
    pub map: BTreeMap<TableName, String>,
    /// What the subscription's guests make of the source's rows.
    pub shape: Shape,
}

/// One output table as it was at one checkpoint.
pub struct OutputTable {
    place: Place,
    view: View,
    output: String,
    table: TableName,
    row_count: u64,
    log: Log,
    shape: Shape,
}

impl Output {
    /// The output table of a table of the source.
    fn output(&self, table: &TableName, outputs: &[String]) -> Result<String, String> {
        if let Some(named) = self.map.get(table) {
            return match outputs.contains(named) {
                true => Ok(named.clone()),
                false => Err(format!("there is no output table `{named}`; {}", known(outputs))),
            };
        }
        let names = [table.to_string(), table.table.clone()];
        let found = names.iter().find(|name| outputs.contains(name));
        found.cloned().ok_or_else(|| {
            let known = known(outputs);
            format!("there is no output table `{}` or `{}`; {known}", names[0], names[1])
        })
    }
}

fn known(outputs: &[String]) -> String {
    let outputs = outputs.join(", ");
    match outputs.is_empty() {
        true => "the subscription has none yet; a consumer such as `builtin:mirror` writes some".to_owned(),
        false => format!("the subscription has: {outputs}; say which it is with --map DATABASE.TABLE=OUTPUT"),
    }
}

impl Replica for Output {
    type Version = OutputTable;

    /// Those that an output table is named after, or was said to be of.
    async fn tables(&self, source: &[TableName]) -> Result<Vec<TableName>, VerifyError> {
        let outputs = self.store.tables(&self.subscription)?;
        let has_output =
            |table: &&TableName| self.map.contains_key(*table) || self.output(table, &outputs).is_ok();
        Ok(source.iter().filter(has_output).cloned().collect())
    }

    async fn version(&self, table: &TableName) -> Result<OutputTable, VerifyError> {
        let not = |what: String| VerifyError::NotComparable { table: table.clone(), what };
        let view = self.store.view(&self.subscription)?;
        let checkpoint = view.checkpoint()?;
        let checkpoint =
            checkpoint.ok_or_else(|| not("the subscription has not committed anything yet".into()))?;
        if checkpoint.phase != Phase::Stream {
            return Err(
                not("the subscription still reads its snapshot; verify again when it streams".into()),
            );
        }
        let output = self.output(table, &view.tables()?).map_err(not)?;
        let known = self.log.timelines().into_iter().map(|known| (known.number, known.server.to_string()));
        let own = (checkpoint.position.timeline, checkpoint.server);
        let timelines = known.chain([own]).collect();
        let place =
            Place { number: None, position: checkpoint.position, executed: checkpoint.gtid_set, timelines };
        let (log, shape, table) = (self.log.clone(), self.shape.clone(), table.clone());
        Ok(OutputTable { place, row_count: view.rows_at_most()?, view, output, table, log, shape })
    }
}

impl Version for OutputTable {
    fn place(&self) -> &Place {
        &self.place
    }

    fn pairing(&self, rows: &TableSchema) -> Result<Pairing, String> {
        let schema = self.view.schema(&self.output);
        let schema = schema.map_err(|error| tidemill_event::chain(&error))?;
        Pairing::by_name(rows, &schema.expect("the view has it"))
    }

    fn row_count(&self) -> u64 {
        self.row_count
    }

    async fn rows(&self, pairing: &Pairing, give: Give<'_>) -> Result<(), VerifyError> {
        let mut rows = self.view.rows(&self.output)?;
        while let Some(batch) = rows.next_batch(BATCH_ROWS)? {
            give(&pairing.of_replica(&batch)?)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn changed(&self, pairing: &Pairing, since: Position, give: Give<'_>) -> Result<bool, VerifyError> {
        let upto = self.place.position;
        if since >= upto {
            return Ok(true);
        }
        // A log that was not synced before a crash may end before what was delivered of it.
        if self.log.stats().latest < Some(upto) {
            return Ok(false);
        }
        let mut reader = match self.log.reader(From::After(since)) {
            Err(ReadError::TooOld(_) | ReadError::Diverged(_)) => return Ok(false),
            reader => reader?,
        };
        while reader.position().is_none_or(|at| at < upto) {
            let window = match reader.next().await {
                Err(ReadError::TooOld(_)) => return Ok(false),
                window => window?,
            };
            let Some(window) = window else { return Ok(false) };
            if !self.window(Window::clone(&window), pairing, &mut *give)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl OutputTable {
    /// Gives what changed in a window. `false`: more than that may have.
    fn window(&self, mut window: Window, pairing: &Pairing, give: Give<'_>) -> Result<bool, VerifyError> {
        window.tables.retain(|changes| *changes.schema.name() == self.table);
        let is_ours = |kind: &EventKind| match kind {
            EventKind::DropDatabase { database } => *database == self.table.database,
            kind => kind.tables().contains(&&self.table),
        };
        if window.events.iter().any(|event| is_ours(&event.kind)) {
            return Ok(false);
        }
        if window.tables.is_empty() {
            return Ok(true);
        }
        let window = self.shape.of_stored(window).map_err(Box::new)?;
        for changes in &window.tables {
            // Its columns may have been others then.
            if !pairing.is_of(&changes.schema) {
                return Ok(false);
            }
            give(&pairing.of_source(&changes.rows)?)?;
        }
        Ok(true)
    }
}
