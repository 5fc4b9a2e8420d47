//! What serving is measured by. The registry, its text and every other number are the process's own.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::subscribers::Subscribers;

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
    subscriber_bytes: Family<Two, Counter>,
    labels: Arc<Mutex<HashSet<String>>>,
    pub(crate) subscribers: Subscribers,
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
        let help = "Bytes of changes sent, by source and subscriber";
        registry.register("subscriber_bytes", help, metrics.subscriber_bytes.clone());
        registry.register_collector(Box::new(metrics.subscribers.clone()));
        metrics
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

    /// The counter of a subscriber's bytes.
    pub(crate) fn bytes_of(&self, source: &str, subscriber: &str) -> Counter {
        let labels = [("source", source.to_owned()), ("subscriber", self.label(subscriber))];
        self.subscriber_bytes.get_or_create_owned(&labels)
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
