//! The process as its operators see it over HTTP: states, pause and resume, health, metrics, and its end.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tidemill_bootstrap_clone::{CloneStatus, TableStage};
use tidemill_bootstrap_service::{State as Following, Status};
use tidemill_client::State;
use tidemill_relay::{
    Activity, ComparisonAsked, Health, OperateError, OperatedPart, Operator, SourceStatus, SubscriptionStatus,
};
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::bootstrap::BootstrapHandle;
use crate::comparison::Comparisons;
use crate::copy;
use crate::handle::{Condition, Doing, SourceHandle};
use crate::wiring::SubscriptionHandle;

/// See the module.
pub struct Process {
    /// The sources.
    pub sources: Vec<SourceHandle>,
    /// The subscriptions.
    pub subscriptions: Vec<SubscriptionHandle>,
    /// The snapshot storage of sources.
    pub storages: Vec<BootstrapHandle>,
    /// What compares subscriptions with their sources.
    pub comparisons: Option<Comparisons>,
    /// Everything that is measured.
    pub registry: Registry,
    /// Turned true, the process ends.
    pub stop: watch::Sender<bool>,
}

impl Process {
    fn pause(&self, part: OperatedPart, name: &str, paused: bool) -> Result<(), OperateError> {
        let not_found = || OperateError::NotFound { part, name: name.to_owned() };
        match part {
            OperatedPart::Source => {
                let source = self.sources.iter().find(|s| *s.name == *name).ok_or_else(not_found)?;
                refuse_ended(source.condition().doing == Doing::Ended, part)?;
                if paused { source.pause() } else { source.resume() }
            }
            OperatedPart::Subscription => {
                let found = self.subscriptions.iter().find(|s| s.name == name).ok_or_else(not_found)?;
                refuse_ended(found.switch.status().state == State::Ended, part)?;
                if paused { found.switch.pause() } else { found.switch.resume() }
            }
            OperatedPart::Clone => {
                let found = self.storages.iter().find(|s| *s.source == *name).ok_or_else(not_found)?;
                if paused { found.clones.pause() } else { found.clones.resume() }
            }
        }
        info!(%part, name, paused, "an operator decided");
        Ok(())
    }
}

fn refuse_ended(ended: bool, part: OperatedPart) -> Result<(), OperateError> {
    if ended { Err(OperateError::Refused(format!("the {part} has ended"))) } else { Ok(()) }
}

impl Operator for Process {
    fn sources(&self) -> Vec<SourceStatus> {
        let status = |source: &SourceHandle| {
            let condition = source.condition();
            SourceStatus {
                name: source.name.to_string(),
                activity: activity(condition.doing),
                why: condition.why,
                position: source.log.stats().latest,
                lag_us: source.fetched.figures().lag_last.map(micros),
            }
        };
        self.sources.iter().map(status).collect()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        let status = |subscription: &SubscriptionHandle| {
            let (status, figures) = (subscription.switch.status(), subscription.meter.figures());
            let failed = status.state == State::PausedByError;
            SubscriptionStatus {
                name: subscription.name.clone(),
                source: subscription.source.clone(),
                activity: match status.state {
                    State::Running => Activity::Running,
                    State::PausedByOperator => Activity::Paused,
                    State::PausedByError => Activity::Failed,
                    State::Ended => Activity::Ended,
                },
                why: status.last_error.filter(|_| failed),
                position: (figures.position.timeline > 0).then_some(figures.position),
                lag_us: figures.lag_last.map(micros),
            }
        };
        self.subscriptions.iter().map(status).collect()
    }

    fn set_paused(
        &self,
        part: OperatedPart,
        name: &str,
        paused: bool,
    ) -> Pin<Box<dyn Future<Output = Result<(), OperateError>> + Send>> {
        let done = self.pause(part, name, paused);
        Box::pin(std::future::ready(done))
    }

    fn compare(
        &self,
        subscription: &str,
        asked: ComparisonAsked,
    ) -> Result<mpsc::Receiver<String>, OperateError> {
        let (part, name) = (OperatedPart::Subscription, subscription.to_owned());
        let not_found = || OperateError::NotFound { part, name };
        let found = self.subscriptions.iter().find(|s| s.name == subscription);
        let source = found.and_then(|found| self.sources.iter().find(|s| *s.name == *found.source));
        let (Some(comparisons), Some(source)) = (&self.comparisons, source) else { return Err(not_found()) };
        comparisons.begin(subscription, &source.log, asked)
    }

    fn shutdown(&self) {
        info!("told to stop by an operator");
        self.stop.send_replace(true);
    }

    fn health(&self) -> Vec<Health> {
        let source = |source: &SourceHandle| {
            let (healthy, why) = well(&source.condition());
            Health { name: format!("source {}", source.name), healthy, why }
        };
        let subscription = |(status, handle): (SubscriptionStatus, &SubscriptionHandle)| {
            let (healthy, why) = match status.activity {
                Activity::Failed => (false, status.why),
                Activity::Paused => (true, Some("paused by an operator".to_owned())),
                Activity::Running => (true, handle.copy.as_ref().and_then(copy::progress)),
                Activity::Ended => (true, None),
            };
            Health { name: format!("subscription {}", status.name), healthy, why }
        };
        let subscriptions = self.subscriptions().into_iter().zip(&self.subscriptions).map(subscription);
        let histories = self.sources.iter().filter_map(history);
        let storages = self.storages.iter().map(storage);
        self.sources.iter().map(source).chain(histories).chain(storages).chain(subscriptions).collect()
    }

    /// Logs are open and the address is listened on, or nobody could ask; so it is the sources' first connection.
    fn ready(&self) -> Vec<Health> {
        let source = |source: &SourceHandle| {
            let condition = source.condition();
            let why = condition.why.unwrap_or_else(|| "it was not open yet".to_owned());
            let (healthy, why) = (condition.was_open, (!condition.was_open).then_some(why));
            Health { name: format!("source {}", source.name), healthy, why }
        };
        self.sources.iter().map(source).collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string does not fail");
        text
    }
}

fn activity(doing: Doing) -> Activity {
    match doing {
        Doing::Opening | Doing::Running => Activity::Running,
        Doing::Paused => Activity::Paused,
        Doing::Retrying | Doing::Failed => Activity::Failed,
        Doing::Ended => Activity::Ended,
    }
}

/// Whether a source makes progress, and what is to know.
fn well(condition: &Condition) -> (bool, Option<String>) {
    let said = || condition.why.clone();
    match condition.doing {
        Doing::Opening => (false, Some("it was not open yet".to_owned())),
        Doing::Running => (condition.why.is_none(), said()),
        Doing::Paused => (true, Some("paused by an operator".to_owned())),
        Doing::Retrying | Doing::Failed => (false, said()),
        Doing::Ended => (true, Some("the source has ended".to_owned())),
    }
}

/// A change history is well while uploads go through.
fn history(source: &SourceHandle) -> Option<Health> {
    let stats = source.log.history_stats()?;
    Some(Health {
        name: format!("history of {}", source.name),
        healthy: stats.last_error.is_none(),
        why: stats.last_error,
    })
}

/// Snapshot storage is well while it follows and no table's content is in doubt.
fn storage(storage: &BootstrapHandle) -> Health {
    let name = format!("snapshot storage of {}", storage.source);
    if let Some(error) = &*storage.ended.borrow() {
        return Health { name, healthy: false, why: Some(error.clone()) };
    }
    let Some(follower) = storage.follower.borrow().clone() else {
        let why = storage.trouble.borrow().clone().unwrap_or_else(|| "it is not open yet".to_owned());
        return Health { name, healthy: false, why: Some(why) };
    };
    let status = follower.status();
    let status = status.borrow();
    let why = match &status.state {
        Following::Gap { missing } => Some(format!("a stretch of the source's log is gone: {missing}")),
        Following::Fenced => Some("another process writes it".to_owned()),
        Following::Starting | Following::Following | Following::Ended => {
            in_doubt(&status, &storage.clones.status().borrow()).or_else(|| storage.trouble.borrow().clone())
        }
    };
    Health { name, healthy: why.is_none(), why }
}

/// The first table whose content is not the source's, or not there, and what stands in the way.
fn in_doubt(status: &Status, copies: &CloneStatus) -> Option<String> {
    for (name, copy) in &copies.tables {
        if let TableStage::Failed { reason } = &copy.stage {
            return Some(format!("table {name} is not copied: {reason}"));
        }
    }
    let mut stale = status.tables.iter().filter_map(|(name, table)| Some((name, table.stale.as_ref()?)));
    if let Some((name, reason)) = stale.next() {
        return Some(format!("table {name} is stale: {reason}"));
    }
    let mut old = status.tables.iter().filter_map(|(name, table)| Some((name, table.trouble.as_ref()?)));
    old.next().map(|(name, why)| {
        format!(
            "table {name} gets no new version; what is lost comes again by `tidemill clone {name}`: {why}"
        )
    })
}

fn micros(lag: Duration) -> i64 {
    i64::try_from(lag.as_micros()).unwrap_or(i64::MAX)
}
