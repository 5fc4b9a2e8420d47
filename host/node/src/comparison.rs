//! The comparison of a subscription's output with its source, by the process that has the store open. How rows are compared is
//! `tidemill-bootstrap-service`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_bootstrap_service::verify::{
    Difference, DifferenceKind, Output, Replica, Shape, Stages, TableReport, Verify, VerifyError,
    VerifyOptions,
};
use tidemill_event::{TableName, chain};
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_log::Log;
use tidemill_relay::{ComparisonAsked, OperateError, OperatedPart};
use tidemill_sink::EmbeddedStore;
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::guests::Guests;
use crate::serving::Registered;
use crate::{Failure, bootstrap, fetch};

/// What compares subscriptions with their sources in a process that runs them.
#[derive(Clone)]
pub struct Comparisons {
    /// Opens guests.
    pub registered: Arc<Registered>,
    /// Where checkpoints and output are; `None`: no subscription runs here.
    pub store: Option<EmbeddedStore>,
}

/// Which tables of a subscription are compared, and how.
pub struct Asked {
    /// These; empty: all that it writes.
    pub tables: Vec<TableName>,
    /// Output tables by the table of the source that each is a copy of.
    pub map: BTreeMap<TableName, String>,
    /// How long the subscription may take to reach what the source was read at.
    pub patience: Duration,
}

impl Asked {
    /// From words.
    pub fn read(
        tables: &[String],
        map: &BTreeMap<String, String>,
        patience: Duration,
    ) -> Result<Asked, String> {
        let tables = tables.iter().map(|table| bootstrap::table_name(table)).collect::<Result<_, _>>()?;
        let entry = |(table, output): (&String, &String)| Ok((bootstrap::table_name(table)?, output.clone()));
        Ok(Asked { tables, map: map.iter().map(entry).collect::<Result<_, String>>()?, patience })
    }
}

impl Comparisons {
    /// Begins to compare; a report a table comes when it was compared.
    pub fn begin(
        &self,
        name: &str,
        log: &Log,
        asked: ComparisonAsked,
    ) -> Result<mpsc::Receiver<String>, OperateError> {
        let store = self.store.clone().ok_or_else(|| OperateError::NotFound {
            part: OperatedPart::Subscription,
            name: name.to_owned(),
        })?;
        let patience = asked.patience_seconds.map_or(VerifyOptions::default().patience, Duration::from_secs);
        let asked = Asked::read(&asked.tables, &asked.map, patience).map_err(OperateError::Refused)?;
        let (reports, given) = mpsc::channel(1);
        let (this, name, log) = (self.clone(), name.to_owned(), log.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = this.run(&name, store, log, asked, &reports) => {}
                () = reports.closed() => info!(subscription = name, "a comparison was left"),
            }
        });
        Ok(given)
    }

    async fn run(
        &self,
        name: &str,
        store: EmbeddedStore,
        log: Log,
        asked: Asked,
        reports: &mpsc::Sender<String>,
    ) {
        let guests = self.registered.guests();
        let compared = tokio::task::block_in_place(|| open(&guests, name, store, log, &asked));
        let done = match compared {
            Ok(verify) => reported(&verify, asked.tables, reports).await.map_err(Failure::from),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let error = chain(&*error);
            error!(subscription = name, error, "a comparison failed");
            let _ = reports.send(json!({ "error": error }).to_string()).await;
        }
    }
}

async fn reported(
    verify: &Verify<MySqlExtract, Output>,
    tables: Vec<TableName>,
    reports: &mpsc::Sender<String>,
) -> Result<(), VerifyError> {
    for table in chosen(verify, tables).await? {
        // Where nobody takes it any more, the task ends.
        let _ = reports.send(Report::of(verify, table).await.json().to_string()).await;
    }
    Ok(())
}

/// What compares a subscription with its source.
pub fn open(
    guests: &Guests<'_>,
    name: &str,
    store: EmbeddedStore,
    log: Log,
    asked: &Asked,
) -> Result<Verify<MySqlExtract, Output>, Failure> {
    let subscription = guests.config.subscription[name].get_ref();
    let source = guests.config.source[&subscription.source].get_ref();
    let extract = fetch::extract(source)?;
    let policy = fetch::reading_policy(&subscription.source, source, guests, 1)?;
    let stages = Stages {
        filters: subscription
            .filter
            .iter()
            .map(|guest| guests.filter(&subscription.source, guest))
            .collect::<Result<_, _>>()?,
        projections: subscription
            .projection
            .iter()
            .map(|guest| guests.projection(&subscription.source, guest))
            .collect::<Result<_, _>>()?,
    };
    let shape = Shape::delivered(&subscription.source, policy, stages);
    let subscription = name.to_owned();
    let output = Output { store, log, subscription, map: asked.map.clone(), shape: shape.clone() };
    let options = VerifyOptions { patience: asked.patience, ..VerifyOptions::default() };
    Ok(Verify::new(extract, shape, output, options))
}

/// What came out of one table.
pub enum Report {
    /// It was compared.
    Compared(TableReport),
    /// It was not, for this reason.
    Not(TableName, String),
}

/// These tables, or all that there are.
pub async fn chosen<R: Replica>(
    verify: &Verify<MySqlExtract, R>,
    tables: Vec<TableName>,
) -> Result<Vec<TableName>, VerifyError> {
    if tables.is_empty() { verify.tables().await } else { Ok(tables) }
}

impl Report {
    /// Compares a table.
    pub async fn of<R: Replica>(verify: &Verify<MySqlExtract, R>, table: TableName) -> Report {
        match verify.table(&table).await {
            Ok(report) => Report::Compared(report),
            Err(error) => Report::Not(table, chain(&error)),
        }
    }

    /// As programs read it.
    pub fn json(&self) -> Value {
        let report = match self {
            Report::Compared(report) => report,
            Report::Not(table, why) => return json!({ "table": table.to_string(), "error": why }),
        };
        let difference = |d: &Difference| json!({ "kind": word(d.kind), "key": d.key });
        json!({
            "table": report.table.to_string(),
            "rows": report.rows,
            "version": report.version,
            "position": report.position.to_string(),
            "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
            "unjudged": report.unjudged,
            "left_out": report.left_out,
        })
    }
}

fn word(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Extra => "extra",
        DifferenceKind::Different => "different",
    }
}
