//! The streams that are open now: how many there may be, and how far each of them is. Nothing outlives its stream.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, Arc<Subscriber>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// The grant's name, and the one that it gives itself.
    pub(crate) grant: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) format: &'static str,
    /// What metrics call it.
    pub(crate) label: String,
    /// Bytes of its answer so far.
    pub(crate) bytes: AtomicU64,
}

/// A place among them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    subscribers: Subscribers,
    pub(crate) subscriber: Arc<Subscriber>,
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of all grants together.
    All,
    /// Of this grant.
    Grant,
}

impl Subscribers {
    /// Takes a place for one more, if there is one.
    pub(crate) fn enter(
        &self,
        subscriber: Subscriber,
        max: usize,
        max_of_grant: usize,
    ) -> Result<Place, Full> {
        let mut open = self.open();
        if open.all.len() >= max {
            return Err(Full::All);
        }
        if open.all.values().filter(|other| other.grant == subscriber.grant).count() >= max_of_grant {
            return Err(Full::Grant);
        }
        let (number, subscriber) = (open.next, Arc::new(subscriber));
        open.next += 1;
        open.all.insert(number, Arc::clone(&subscriber));
        Ok(Place { number, subscribers: self.clone(), subscriber })
    }

    /// Those that are open now, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Subscriber>> {
        self.open().all.values().cloned().collect()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nothing panics while it holds the subscribers")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.subscribers.open().all.remove(&self.number);
    }
}

impl Collector for Subscribers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut counts = BTreeMap::<[(&str, String); 2], i64>::new();
        for subscriber in self.all() {
            let labels = [("source", subscriber.source.clone()), ("subscriber", subscriber.label.clone())];
            *counts.entry(labels).or_default() += 1;
        }
        let kind = ConstGauge::new(0i64);
        let mut metric =
            encoder.encode_descriptor("subscribers", "Streams that are open", None, kind.metric_type())?;
        for (labels, count) in &counts {
            ConstGauge::new(*count).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

impl Subscriber {
    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
