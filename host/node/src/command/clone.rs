//! `tidemill clone`: copies a source's tables into its snapshot storage, brings them up to date, publishes them, and ends.
//! What was copied before is not read again; an interrupted clone goes on where it stood.

mod progress;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tidemill_bootstrap_clone::{CloneStatus, TableStage};
use tidemill_bootstrap_service::{Status, TableStatus};
use tidemill_event::TableName;
use tokio::sync::watch;

use crate::bootstrap::{self, BootstrapHandle};
use crate::config::Config;
use crate::wiring::{self, Role};
use crate::{Failure, shutdown, stdout};
use progress::Progress;

/// What `clone` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// The source; may be left out where only one has a [bootstrap.NAME] table.
    #[arg(long)]
    source: Option<String>,
    /// Tables to copy anew, as `database.table`, whatever the store has of them. Those that the store does not have are
    /// copied in any case.
    table: Vec<String>,
}

/// Runs until every table is published; fails where one could not be.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut config = Config::load(&arguments.config)?;
    let name = bootstrap::choose(&config, arguments.source.as_deref())?.to_owned();
    let anew = arguments.table.iter().map(|t| bootstrap::table_name(t)).collect::<Result<Vec<_>, _>>()?;
    config.relay = None;
    config.subscription.clear();
    config.source.retain(|source, _| *source == name);
    config.bootstrap.retain(|source, _| *source == name);
    let stop = shutdown::stopping()?;
    let base = arguments.config.parent().unwrap_or(Path::new("."));
    let mut pipeline = wiring::open(&config, base, Arc::new(stdout::Process), Role::Run).await?;
    pipeline.clone_anew(&name, anew.clone());
    let handle = pipeline.storages.first().expect("it has snapshot storage").clone();
    let copying = tokio::spawn(copied(handle, anew, stop.clone()));
    let ended = pipeline.run(stop.subscribe()).await;
    let all_copied = copying.await?;
    Ok(if ended.well() && all_copied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows progress until every table that was asked for has come to its end, then stops the process. Says whether all were
/// published, and those that were named are among them.
async fn copied(handle: BootstrapHandle, named: Vec<TableName>, stop: watch::Sender<bool>) -> bool {
    let mut progress = Progress::new();
    let (mut follower, mut clones) = (handle.follower.clone(), handle.clones.status());
    let mut told = stop.subscribe();
    let outcome = loop {
        let status = follower.borrow_and_update().as_ref().map(|follower| follower.status());
        let now = status.as_ref().map(|status| status.borrow().clone()).unwrap_or_default();
        let copies = clones.borrow_and_update().clone();
        progress.show(&copies);
        if *handle.asked.borrow()
            && let Some(mut outcome) = outcome(&copies, &now)
        {
            outcome.extend(not_there(&named, &copies, &now));
            break outcome;
        }
        if handle.ended.borrow().is_some() {
            // It has said why.
            progress.end();
            stop.send_replace(true);
            return false;
        }
        tokio::select! {
            biased;
            _ = told.wait_for(|told| *told) => {
                progress.end();
                eprintln!("interrupted: the next `tidemill clone` goes on where this one stood");
                return false;
            }
            () = tokio::time::sleep(progress::INTERVAL) => {}
        }
    };
    progress.end();
    for (table, problem) in &outcome {
        eprintln!("{table}: {problem}");
    }
    let has_some = follower.borrow().as_ref().is_some_and(|f| !f.status().borrow().tables.is_empty());
    if outcome.is_empty() && !has_some {
        eprintln!("no table was copied: the source shows none that its policy and `tables` take; {SHOW}");
    }
    stop.send_replace(true);
    outcome.is_empty() && has_some
}

/// What makes a source show a table.
const SHOW: &str = "check the names, and grant the user SELECT on its tables";

/// Tables that were named, and that nobody knows.
fn not_there(named: &[TableName], copies: &CloneStatus, status: &Status) -> Vec<(TableName, String)> {
    let problem = |name: &TableName| match copies.tables.get(name).map(|copy| &copy.stage) {
        Some(TableStage::Declined) => Some("the source's policy takes nothing of it".to_owned()),
        Some(_) => None,
        None if status.tables.contains_key(&name.to_string()) => None,
        None => Some(format!("the source shows no such table that is to be stored; {SHOW}")),
    };
    named.iter().filter_map(|name| Some((name.clone(), problem(name)?))).collect()
}

/// What did not become a published table, once nothing is left to do; `None`: something is.
fn outcome(copies: &CloneStatus, status: &Status) -> Option<Vec<(TableName, String)>> {
    let mut problems = vec![];
    for (name, copy) in &copies.tables {
        match &copy.stage {
            TableStage::Waiting | TableStage::Copying => return None,
            TableStage::Failed { reason } => problems.push((name.clone(), reason.clone())),
            TableStage::Declined => {}
            TableStage::Done if status.tables.get(&name.to_string()).is_some_and(is_published) => {}
            TableStage::Done => return None,
        }
    }
    let copied = |name: &String| copies.tables.keys().any(|table| table.to_string() == *name);
    let others = status.tables.iter().filter(|(name, _)| !copied(name));
    let is_open = others.into_iter().any(|(_, table)| !is_published(table));
    (!is_open).then_some(problems)
}

/// Whether a table can be read in its newest version.
pub fn is_published(table: &TableStatus) -> bool {
    table.clone.is_none() && table.stale.is_none() && table.published.is_some()
}

#[cfg(test)]
mod tests {
    use tidemill_bootstrap_clone::TableProgress;

    use super::*;

    #[test]
    fn a_table_that_was_named_and_is_not_there_is_told() {
        let (mut copies, mut status) = (CloneStatus::default(), Status::default());
        let of = |stage| TableProgress { stage, ..TableProgress::default() };
        let [stored, copied, declined, typo] =
            ["stored", "copied", "declined", "typo"].map(|table| TableName::new("shop", table));
        status.tables.insert(stored.to_string(), TableStatus::default());
        copies.tables.insert(copied.clone(), of(TableStage::Done));
        copies.tables.insert(declined.clone(), of(TableStage::Declined));
        let told = not_there(&[stored, copied, declined.clone(), typo.clone()], &copies, &status);
        let [(first, policy), (second, nothing)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((first, second), (&declined, &typo));
        assert!(policy.contains("policy") && nothing.contains("grant the user SELECT"), "{told:?}");
    }
}
