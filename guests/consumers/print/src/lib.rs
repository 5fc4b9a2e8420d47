//! Writes each change as a line of JSON to standard output, in the Debezium envelope:
//!
//! ```json
//! {"before":null,"after":{"id":1,"price":"9.90"},"source":{"connector":"tidemill","name":"shop",
//!  "snapshot":"false","db":"shop","table":"orders","scn":42,"gtid":"3e11…:7","ts_us":1,"ordinal":0},
//!  "transaction":{"id":"3e11…:7","total_order":1,"data_collection_order":1},"op":"c","ts_ms":0}
//! ```
//!
//! - `op` is `c` insert, `u` update, `d` delete, `r` snapshot row.
//! - Integers are JSON numbers; decimals are strings, so that no digit is lost; bytes are Base64; dates
//!   and times are ISO 8601 text; JSON documents are strings. A column that the source did not send
//!   is left out: it is not null.
//! - `scn` and `ordinal` (the change's place among those of its transaction that the subscription gives, from 0) name a
//!   change of a subscription for good: a line that comes again after a failure has the same two. Another selection of
//!   tables or rows counts otherwise.
//! - `snapshot` is `true` for the rows of a snapshot, `incremental` for the last states of what changed since a consumer was
//!   here, `false` for the stream. Only the stream's lines have a place of their own and a transaction.
//! - What happened to a table without a change of each row has a line in its place: a truncated table with `op` `t`, as
//!   Debezium says it; the rest with `event` (`dropped`, `schema-dropped`, `renamed`, `invalidated`, `schema-changed`)
//!   and what it says in place of `before`, `after` and `op`.
//! - `ts_ms` is the commit time: the guest has no clock, so the same changes give the same lines.
//!
//! Configuration: `{"tables": ["shop.*"]}`, or nothing for all tables; with `"schema_changes": true` a statement that
//! changed schemas has a line too. The lines of a batch are
//! written at once, before its position is committed: at least once.

mod cell;
mod envelope;
mod event;
mod order;

use std::io::Write;

use serde::Deserialize;
use tidemill_guest::config::Tables;
use tidemill_guest::consumer::{Batch, Consumer, Failure, Interested, Item};
use tidemill_guest::{Error, TableDef};

use envelope::{Layout, Texts};
use event::Said;
use order::Orders;

/// The configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    tables: Tables,
    #[serde(default)]
    schema_changes: bool,
}

/// The consumer.
#[derive(Debug, Default)]
pub struct Print {
    config: Config,
    /// The lines of one batch; kept for its memory.
    lines: Vec<u8>,
}

impl Consumer for Print {
    type Config = Config;
    type Plan = Layout;
    const TAKES_EVENTS: bool = true;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        Ok(Print { config, lines: Vec::new() })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Interested<Layout>>, Error> {
        let wanted = self.config.tables.contain(table);
        Ok(wanted.then(|| Interested {
            after: table.ordinals(),
            before: table.ordinals(),
            plan: Layout::of(table),
        }))
    }

    fn process(&mut self, batch: &Batch<'_, Layout>) -> Result<(), Failure> {
        self.lines.clear();
        let orders = render(batch, &self.config, &mut self.lines);
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&self.lines).and_then(|()| out.flush());
        written.map_err(|error| Error::Retry(format!("write to standard output: {error}")))?;
        orders.keep(batch);
        Ok(())
    }
}

/// The lines of a batch, and where its last transaction stands.
fn render(batch: &Batch<'_, Layout>, config: &Config, out: &mut Vec<u8>) -> Orders {
    let mut orders = Orders::default();
    let mut texts = Texts::default();
    for transaction in batch.transactions() {
        orders.begin(&transaction, batch);
        texts.begin(&transaction, batch.phase());
        for item in transaction.items() {
            match item {
                Item::Change(change) => texts.push_line(out, &change, orders.next(change.set)),
                Item::Event(event) => {
                    let total = orders.next_event();
                    if let Some(said) = Said::of(event.what, config) {
                        texts.push_event(out, said, total);
                    }
                }
            }
        }
    }
    orders
}

tidemill_guest::export_consumer!(Print);

#[cfg(test)]
mod tests;
