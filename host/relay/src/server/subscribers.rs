//! The streams that are open now, how many there may be, how far each of them is, and what all of a subscriber's streams
//! were given together. No position outlives its stream: the relay keeps none for anybody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::answer::{Meter, Metered};
use crate::asked::Format;

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Arc<Subscriber>>,
    /// What streams were given that are no longer open.
    ended: BTreeMap<Labels, Totals>,
}

/// Source and subscriber, as metrics name them.
type Labels = [(&'static str, String); 2];

/// One of them.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// The grant's name.
    pub(crate) grant: String,
    /// The one that it gives itself, or nothing.
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) format: Format,
    /// What metrics call it.
    pub(crate) label: String,
    /// What it was given.
    pub(crate) meter: Meter,
}

/// A seat among them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
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

/// Sums over a subscriber's streams.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    streams: u64,
    bytes: u64,
    windows: u64,
    transactions: u64,
    rows_read: u64,
    rows_given: u64,
    heartbeats: u64,
}

impl Subscribers {
    /// Takes a seat for one more, if there is one.
    pub(crate) fn enter(
        &self,
        subscriber: Subscriber,
        max: usize,
        max_of_grant: usize,
    ) -> Result<Seat, Full> {
        let mut state = self.state();
        if state.open.len() >= max {
            return Err(Full::All);
        }
        if state.open.values().filter(|other| other.grant == subscriber.grant).count() >= max_of_grant {
            return Err(Full::Grant);
        }
        let (number, subscriber) = (state.next, Arc::new(subscriber));
        state.next += 1;
        state.open.insert(number, Arc::clone(&subscriber));
        Ok(Seat { number, subscribers: self.clone(), subscriber })
    }

    /// Those that are open now, oldest first.
    pub(crate) fn open(&self) -> Vec<Arc<Subscriber>> {
        self.state().open.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the subscribers")
    }

    /// Streams that are open, and the sums of all that were ever, per subscriber.
    fn totals(&self) -> BTreeMap<Labels, (i64, Totals)> {
        let state = self.state();
        let mut all: BTreeMap<Labels, (i64, Totals)> =
            state.ended.iter().map(|(labels, totals)| (labels.clone(), (0, *totals))).collect();
        for subscriber in state.open.values() {
            let (open, totals) = all.entry(subscriber.labels()).or_default();
            *open += 1;
            totals.add(&subscriber.meter.read());
        }
        all
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.subscribers.state();
        state.open.remove(&self.number);
        state.ended.entry(self.subscriber.labels()).or_default().add(&self.subscriber.meter.read());
    }
}

impl Subscriber {
    pub(crate) fn labels(&self) -> Labels {
        [("source", self.source.clone()), ("subscriber", self.label.clone())]
    }
}

impl Totals {
    fn add(&mut self, given: &Metered) {
        self.streams += 1;
        self.bytes += given.bytes;
        self.windows += given.windows;
        self.transactions += given.transactions;
        self.rows_read += given.rows_read;
        self.rows_given += given.rows_given;
        self.heartbeats += given.heartbeats;
    }
}

/// A counter's name, what it counts, and where it stands in the sums.
type Counted = (&'static str, &'static str, fn(&Totals) -> u64);

const COUNTED: [Counted; 8] = [
    ("subscriber_streams", "Streams that a subscriber opened", |t| t.streams),
    ("subscriber_bytes", "Bytes of changes handed to connections, as they were sent", |t| t.bytes),
    ("subscriber_windows", "Windows read for subscribers", |t| t.windows),
    ("subscriber_transactions", "Transactions given, filtered ones included", |t| t.transactions),
    ("subscriber_rows_read", "Row images read for subscribers", |t| t.rows_read),
    ("subscriber_rows_given", "Row images given to subscribers", |t| t.rows_given),
    ("subscriber_rows_filtered", "Row images that selections left out", |t| {
        t.rows_read - t.rows_given.min(t.rows_read)
    }),
    ("subscriber_heartbeats", "Signs of life sent to subscribers", |t| t.heartbeats),
];

impl Collector for Subscribers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let totals = self.totals();
        let kind = ConstGauge::new(0i64);
        let mut metric =
            encoder.encode_descriptor("subscribers", "Streams that are open", None, kind.metric_type())?;
        for (labels, (open, _)) in &totals {
            ConstGauge::new(*open).encode(metric.encode_family(labels)?)?;
        }
        let kind = ConstCounter::new(0u64);
        for (name, help, value) in COUNTED {
            let mut metric = encoder.encode_descriptor(name, help, None, kind.metric_type())?;
            for (labels, (_, totals)) in &totals {
                ConstCounter::new(value(totals)).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}
