//! How far the open streams are behind their logs, in time and in the source's own clock, and the work that they share.
//! Looked up when somebody asks; nothing is counted meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tidemill_log::LogStats;

use super::subscribers::{Subscriber, Subscribers};
use crate::answer::Answers;
use crate::served::Served;

/// See the module. Empty until a relay serves. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Lag {
    serving: Arc<OnceLock<Serving>>,
}

struct Serving {
    served: Vec<Served>,
    answers: Answers,
    subscribers: Subscribers,
}

/// How far one stream is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Behind {
    /// Since the last transaction that it was given committed. 0: it has everything.
    pub(crate) seconds: f64,
    /// In the source's own clock. 0: it has everything, or is on an older timeline, where the clocks do not compare.
    pub(crate) positions: u64,
}

impl Lag {
    pub(crate) fn serve(&self, served: &[Served], answers: &Answers, subscribers: &Subscribers) {
        // Metrics that were given to two relays tell of the first.
        let _ = self.serving.set(Serving {
            served: served.to_vec(),
            answers: answers.clone(),
            subscribers: subscribers.clone(),
        });
    }
}

/// How far a stream is behind its log. Before its first window nothing is known.
pub(crate) fn behind(subscriber: &Subscriber, stats: &LogStats, now_us: i64) -> Option<Behind> {
    let given = subscriber.meter.read();
    let (position, latest) = (given.position?, stats.latest?);
    if position >= latest {
        return Some(Behind::default());
    }
    let is_same = position.timeline == latest.timeline;
    let positions = if is_same { latest.scn.0.saturating_sub(position.scn.0) } else { 0 };
    let since = if given.commit_time_us == 0 { now_us } else { given.commit_time_us };
    Some(Behind { seconds: (now_us - since).max(0) as f64 / 1e6, positions })
}

pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

impl Serving {
    /// The greatest lag of each subscriber's streams.
    fn behind(&self) -> BTreeMap<[(&'static str, String); 2], Behind> {
        let stats: BTreeMap<&str, LogStats> =
            self.served.iter().map(|served| (&*served.name, served.log.stats())).collect();
        let (mut all, now_us) = (BTreeMap::<_, Behind>::new(), now_us());
        for subscriber in self.subscribers.open() {
            let stats = stats.get(&*subscriber.source);
            let Some(lag) = stats.and_then(|stats| behind(&subscriber, stats, now_us)) else { continue };
            let worst = all.entry(subscriber.labels()).or_default();
            worst.seconds = worst.seconds.max(lag.seconds);
            worst.positions = worst.positions.max(lag.positions);
        }
        all
    }
}

impl Collector for Lag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(serving) = self.serving.get() else { return Ok(()) };
        let (behind, kind) = (serving.behind(), ConstGauge::new(0i64));
        let help = "Seconds since the commit of the last transaction given, 0 at the log's end";
        let mut metric =
            encoder.encode_descriptor("subscriber_lag_seconds", help, None, kind.metric_type())?;
        for (labels, lag) in &behind {
            ConstGauge::new(lag.seconds).encode(metric.encode_family(labels)?)?;
        }
        let help = "What is not given yet, in the source's own clock";
        let mut metric =
            encoder.encode_descriptor("subscriber_lag_positions", help, None, kind.metric_type())?;
        for (labels, lag) in &behind {
            let positions = i64::try_from(lag.positions).unwrap_or(i64::MAX);
            ConstGauge::new(positions).encode(metric.encode_family(labels)?)?;
        }
        let stats = serving.answers.stats();
        for (name, help, value) in [
            ("views", "Selections in use", stats.views as i64),
            ("shared_bytes", "Bytes kept for other subscribers of a selection", stats.shared_bytes as i64),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in [
            ("evaluations", "Windows that a selection was evaluated on", stats.evaluations),
            ("encodings", "Windows that were written in a format", stats.encodings),
            ("evaluation_microseconds", "Time in evaluations, guests included", stats.evaluation_us),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lag").finish_non_exhaustive()
    }
}
