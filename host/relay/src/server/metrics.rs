//! What serving is measured by. The registry, its text and every other number are the process's own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::lag::Lag;
use super::subscribers::Subscribers;
use crate::answer::Answers;
use crate::served::Served;

/// So many subscribers have numbers of their own; those after them are counted together as `other`. A subscriber chooses
/// its name, so without a bound one could fill the memory with names.
const SUBSCRIBER_LABELS_MAX: usize = 1000;

/// The label of those that have none of their own.
const OTHER: &str = "other";

type One = [(&'static str, String); 1];
type Two = [(&'static str, String); 2];

/// The numbers. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct ServingMetrics {
    pub(crate) connections: Gauge,
    accepted: Counter,
    refused: Family<One, Counter>,
    requests: Family<Two, Counter>,
    labels: Arc<Mutex<HashSet<String>>>,
    pub(crate) subscribers: Subscribers,
    lag: Lag,
}

impl ServingMetrics {
    /// Adds them to a registry, as `tidemill_relay_…`.
    pub fn register(registry: &mut Registry) -> ServingMetrics {
        let metrics = ServingMetrics::default();
        let registry = registry.sub_registry_with_prefix("tidemill_relay");
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("accepted", "Connections accepted", metrics.accepted.clone());
        let help = "Connections and requests refused, by why";
        registry.register("refused", help, metrics.refused.clone());
        let help = "Requests answered, by route and status or error code";
        registry.register("requests", help, metrics.requests.clone());
        registry.register_collector(Box::new(metrics.subscribers.clone()));
        registry.register_collector(Box::new(metrics.lag.clone()));
        metrics
    }

    /// What is served, and by what: known when the relay is made.
    pub(crate) fn serve(&self, served: &[Served], answers: &Answers) {
        self.lag.serve(served, answers, &self.subscribers);
    }

    pub(crate) fn accepted(&self) {
        self.accepted.inc();
    }

    /// A connection or a request was refused before it reached a route.
    pub(crate) fn refused(&self, why: &'static str) {
        self.refused.get_or_create(&[("why", why.to_owned())]).inc();
    }

    /// A request was answered. `code`: the error code, or the status.
    pub(crate) fn answered(&self, route: &str, code: &str) {
        self.requests.get_or_create(&[("route", route.to_owned()), ("code", code.to_owned())]).inc();
    }

    /// A subscriber's label, from a bounded set.
    pub(crate) fn label(&self, subscriber: &str) -> String {
        let mut labels = self.labels.lock().expect("nothing panics while it holds the labels");
        let is_known = labels.contains(subscriber);
        if !is_known && labels.len() >= SUBSCRIBER_LABELS_MAX {
            return OTHER.to_owned();
        }
        if !is_known {
            labels.insert(subscriber.to_owned());
        }
        subscriber.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_that_invent_names_share_one_label_in_the_end() {
        let metrics = ServingMetrics::default();
        let labels: HashSet<String> = (0..3000).map(|n| metrics.label(&format!("reports/{n}"))).collect();
        assert_eq!(labels.len(), SUBSCRIBER_LABELS_MAX + 1);
        assert_eq!(metrics.label("reports/7"), "reports/7");
    }
}
