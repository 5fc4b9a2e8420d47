//! What is measured, as OpenMetrics: read from where it is counted at the moment that somebody asks. Names, positions and
//! counts only; never a value of a row.

use std::fmt::{self, Debug};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tidemill_bootstrap_clone::{TableProgress, TableStage};
use tidemill_bootstrap_service::{State, Status, TableStatus};
use tidemill_client::State as SubscriptionState;
use tidemill_event::Position;
use tidemill_log::{HistoryStats, LogStats};

use crate::bootstrap::BootstrapHandle;
use crate::handle::{Condition, Doing, SourceHandle};
use crate::lag::Lag;
use crate::status::{FetchFigures, Figures};
use crate::usage::{self, Usage};
use crate::wiring::SubscriptionHandle;

/// Adds everything of a pipeline to a registry.
pub fn register(
    registry: &mut Registry,
    sources: &[SourceHandle],
    subscriptions: &[SubscriptionHandle],
    storages: &[BootstrapHandle],
) {
    registry.register_collector(Box::new(Storages(storages.to_vec())));
    registry.register_collector(Box::new(Sources(sources.to_vec())));
    registry.register_collector(Box::new(Subscriptions(subscriptions.to_vec())));
    registry.register_collector(Box::new(Process));
}

type Labels = Vec<(&'static str, String)>;

/// One family: each of `all` has its labels and a value.
fn gauges<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl IntoIterator<Item = (Labels, V)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in all {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// As [`gauges`], for what only grows.
fn counters<V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl IntoIterator<Item = (Labels, V)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in all {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A lag's quantiles, in seconds.
fn quantiles(labels: &Labels, lag: &Lag) -> Vec<(Labels, f64)> {
    let quantile = |(text, q): (&str, f64)| {
        let mut labels = labels.clone();
        labels.push(("quantile", text.to_owned()));
        (labels, lag.quantile(q).as_secs_f64())
    };
    [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)].into_iter().map(quantile).collect()
}

/// The timeline and the clock of a position.
type Placed = Option<Position>;

/// Snapshot storage of sources.
struct Storages(Vec<BootstrapHandle>);

impl Debug for Storages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storages").field(&self.0.len()).finish()
    }
}

impl Collector for Storages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let now = |storage: &BootstrapHandle| {
            let status =
                storage.follower.borrow().as_ref().map(|follower| follower.status().borrow().clone());
            (vec![("source", storage.source.to_string())], status.unwrap_or_default())
        };
        let all: Vec<(Labels, Status)> = self.0.iter().map(now).collect();
        let of =
            |f: &dyn Fn(&Status) -> i64| -> Vec<_> { all.iter().map(|(l, s)| (l.clone(), f(s))).collect() };
        let e = &mut encoder;
        let following = of(&|s| (s.state == State::Following).into());
        gauges(e, "tidemill_storage_up", "Whether snapshot storage follows its source", following)?;
        let version = of(&|s| i64::try_from(s.manifest).unwrap_or(i64::MAX));
        gauges(e, "tidemill_storage_version", "The newest manifest", version)?;
        let scn = |scn: u64| i64::try_from(scn).unwrap_or(i64::MAX);
        let help = "What was read, is durable, and is in tables: the source's clock";
        gauges(e, "tidemill_storage_read_scn", help, of(&|s| scn(s.read.scn.0)))?;
        gauges(e, "tidemill_storage_logged_scn", help, of(&|s| scn(s.logged.scn.0)))?;
        gauges(e, "tidemill_storage_applied_scn", help, of(&|s| scn(s.applied.scn.0)))?;
        let behind = of(&|s| (s.read_time_us - s.applied_time_us).max(0) / 1_000_000);
        let help = "How much older the newest applied transaction is than the newest that was read";
        gauges(e, "tidemill_storage_behind_seconds", help, behind)?;
        let count =
            |s: &Status, f: &dyn Fn(&TableStatus) -> bool| s.tables.values().filter(|t| f(t)).count() as i64;
        let cloning = of(&|s| count(s, &|t| t.clone.is_some()));
        gauges(e, "tidemill_storage_tables_cloning", "Tables that are being copied", cloning)?;
        let stale = of(&|s| count(s, &|t| t.stale.is_some()));
        gauges(e, "tidemill_storage_tables_stale", "Tables whose content is in doubt", stale)?;
        let tables = of(&|s| s.tables.len() as i64);
        gauges(e, "tidemill_storage_tables", "Tables", tables)
    }
}

struct Sources(Vec<SourceHandle>);

impl Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.0.len()).finish()
    }
}

/// What one source says at the moment of the scrape.
struct SourceNow {
    labels: Labels,
    condition: Condition,
    figures: FetchFigures,
    log: LogStats,
    history: Option<HistoryStats>,
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = |source: &SourceHandle| SourceNow {
            labels: vec![("source", source.name.to_string())],
            condition: source.condition(),
            figures: source.fetched.figures(),
            log: source.log.stats(),
            history: source.log.history_stats(),
        };
        let all: Vec<SourceNow> = self.0.iter().map(now).collect();
        source_states(&mut encoder, &all)?;
        source_counts(&mut encoder, &all)?;
        source_logs(&mut encoder, &all)?;
        source_histories(&mut encoder, &all)?;
        let costs = self.0.iter().flat_map(|s| costs(&[("source", s.name.to_string())], s.costs.all()));
        guest_costs(&mut encoder, "tidemill_source_guest", costs.collect())
    }
}

fn source_states(encoder: &mut DescriptorEncoder<'_>, all: &[SourceNow]) -> fmt::Result {
    let healthy = |s: &SourceNow| s.condition.doing == Doing::Running && s.condition.why.is_none();
    let of =
        |f: &dyn Fn(&SourceNow) -> i64| -> Vec<_> { all.iter().map(|s| (s.labels.clone(), f(s))).collect() };
    gauges(
        encoder,
        "tidemill_source_up",
        "Whether the source is read and answers",
        of(&|s| healthy(s).into()),
    )?;
    let paused = of(&|s| (s.condition.doing == Doing::Paused).into());
    gauges(encoder, "tidemill_source_paused", "Whether an operator paused it", paused)?;
    let failed = of(&|s| matches!(s.condition.doing, Doing::Failed | Doing::Retrying).into());
    gauges(encoder, "tidemill_source_failed", "Whether an error stopped it", failed)
}

fn source_counts(encoder: &mut DescriptorEncoder<'_>, all: &[SourceNow]) -> fmt::Result {
    let of = |f: fn(&SourceNow) -> u64| all.iter().map(move |s| (s.labels.clone(), f(s)));
    counters(encoder, "tidemill_source_windows", "Windows read", of(|s| s.figures.windows))?;
    let help = "Transactions read and stored";
    counters(encoder, "tidemill_source_transactions", help, of(|s| s.figures.transactions))?;
    let help = "Changes read, before the policy";
    counters(encoder, "tidemill_source_changes", help, of(|s| s.figures.changes))?;
    let help = "Row images stored, after the policy; an update has two";
    counters(encoder, "tidemill_source_rows", help, of(|s| s.figures.rows))?;
    counters(encoder, "tidemill_source_errors", "Errors that stopped it", of(|s| s.condition.errors))?;
    let last = all.iter().filter_map(|s| Some((s.labels.clone(), s.figures.lag_last?.as_secs_f64())));
    let help = "From the commit of the newest transaction to its place in the log";
    gauges(encoder, "tidemill_source_lag_seconds", help, last)?;
    let lags = all.iter().filter(|s| s.figures.lag_last.is_some());
    let lags = lags.flat_map(|s| quantiles(&s.labels, &s.figures.lag));
    let help = "The same, over all transactions since the start";
    gauges(encoder, "tidemill_source_lag_quantile_seconds", help, lags)?;
    let newest = |s: &SourceNow| {
        let time = s.figures.commit_time_us.or(s.log.latest_time_us)?;
        Some((s.labels.clone(), time as f64 / 1e6))
    };
    let help = "When the newest stored transaction committed, in seconds since 1970";
    gauges(encoder, "tidemill_source_commit_time_seconds", help, all.iter().filter_map(newest))
}

fn source_logs(encoder: &mut DescriptorEncoder<'_>, all: &[SourceNow]) -> fmt::Result {
    let of = |f: fn(&SourceNow) -> u64| all.iter().map(move |s| (s.labels.clone(), f(s)));
    let place = |f: fn(&SourceNow) -> Placed| {
        let at = move |s: &SourceNow| f(s).map(|at| (s.labels.clone(), at));
        all.iter().filter_map(at)
    };
    let help = "Bytes of the log in memory";
    gauges(encoder, "tidemill_log_memory_bytes", help, of(|s| s.log.memory_bytes as u64))?;
    gauges(encoder, "tidemill_log_disk_bytes", "Bytes of the log on disk", of(|s| s.log.disk_bytes))?;
    let help = "Segments of the log on disk";
    gauges(encoder, "tidemill_log_segments", help, of(|s| s.log.segment_count as u64))?;
    positions(encoder, "tidemill_log_earliest", "where the log can be read from", place(|s| s.log.earliest))?;
    positions(encoder, "tidemill_log_latest", "where it ends", place(|s| s.log.latest))?;
    positions(encoder, "tidemill_log_durable", "what survives a loss of power", place(|s| s.log.durable))
}

fn source_histories(encoder: &mut DescriptorEncoder<'_>, all: &[SourceNow]) -> fmt::Result {
    let with = |s: &SourceNow| s.history.clone().map(|history| (s.labels.clone(), history));
    let all: Vec<(Labels, HistoryStats)> = all.iter().filter_map(with).collect();
    let of = |f: fn(&HistoryStats) -> u64| all.iter().map(move |(labels, h)| (labels.clone(), f(h)));
    let place = |f: fn(&HistoryStats) -> Placed| {
        all.iter().filter_map(move |(labels, h)| Some((labels.clone(), f(h)?)))
    };
    gauges(encoder, "tidemill_history_bytes", "Bytes of the change history", of(|h| h.bytes))?;
    let help = "Segments of the change history";
    gauges(encoder, "tidemill_history_segments", help, of(|h| h.segment_count as u64))?;
    let help = "Bytes of the log that only this disk has";
    gauges(encoder, "tidemill_history_waiting_bytes", help, of(|h| h.waiting_bytes))?;
    let help = "Bytes on disk that were fetched from the change history";
    gauges(encoder, "tidemill_history_cache_bytes", help, of(|h| h.cache_bytes))?;
    let help = "Whether uploads fail, or the disk has more than it should for want of them";
    let failing = |h: &HistoryStats| u64::from(h.last_error.is_some() || h.is_over_limit);
    gauges(encoder, "tidemill_history_failing", help, of(failing))?;
    positions(encoder, "tidemill_history_earliest", "where history can be read from", place(|h| h.earliest))?;
    positions(encoder, "tidemill_history_archived", "what history has", place(|h| h.archived))
}

/// A position as two gauges: positions order by timeline first.
fn positions(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    what: &str,
    all: impl Iterator<Item = (Labels, Position)>,
) -> fmt::Result {
    let all: Vec<_> = all.collect();
    let timelines = all.iter().map(|(labels, at)| (labels.clone(), u64::from(at.timeline)));
    gauges(encoder, &format!("{name}_timeline"), &format!("The timeline of {what}"), timelines)?;
    let scns = all.iter().map(|(labels, at)| (labels.clone(), at.scn.0));
    gauges(encoder, &format!("{name}_scn"), &format!("The SCN of {what}"), scns)
}

struct Subscriptions(Vec<SubscriptionHandle>);

impl Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscriptions").field(&self.0.len()).finish()
    }
}

struct SubscriptionNow {
    labels: Labels,
    state: SubscriptionState,
    retries: u64,
    figures: Figures,
}

fn labels_of(subscription: &SubscriptionHandle) -> Labels {
    vec![("source", subscription.source.clone()), ("subscription", subscription.name.clone())]
}

impl Collector for Subscriptions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = |subscription: &SubscriptionHandle| {
            let status = subscription.switch.status();
            let (labels, figures) = (labels_of(subscription), subscription.meter.figures());
            SubscriptionNow { labels, state: status.state, retries: status.retries, figures }
        };
        let all: Vec<SubscriptionNow> = self.0.iter().map(now).collect();
        subscription_states(&mut encoder, &all)?;
        subscription_counts(&mut encoder, &all)?;
        subscription_copies(&mut encoder, &self.0)?;
        let costs = self.0.iter().flat_map(|s| costs(&labels_of(s), s.meter.costs().all()));
        guest_costs(&mut encoder, "tidemill_subscription_guest", costs.collect())
    }
}

fn subscription_states(encoder: &mut DescriptorEncoder<'_>, all: &[SubscriptionNow]) -> fmt::Result {
    let is = |state: SubscriptionState| {
        let of = move |s: &SubscriptionNow| (s.labels.clone(), i64::from(s.state == state));
        all.iter().map(of).collect::<Vec<_>>()
    };
    gauges(encoder, "tidemill_subscription_up", "Whether it delivers", is(SubscriptionState::Running))?;
    let help = "Whether an operator paused it";
    gauges(encoder, "tidemill_subscription_paused", help, is(SubscriptionState::PausedByOperator))?;
    let help = "Whether an error paused it";
    gauges(encoder, "tidemill_subscription_failed", help, is(SubscriptionState::PausedByError))?;
    let at = all.iter().filter(|s| s.figures.position.timeline > 0);
    let at = at.map(|s| (s.labels.clone(), s.figures.position));
    positions(encoder, "tidemill_subscription", "its checkpoint", at)?;
    let last = all.iter().filter_map(|s| Some((s.labels.clone(), s.figures.lag_last?.as_secs_f64())));
    let help =
        "From the commit of the newest delivered transaction at the source to the commit of its effects";
    gauges(encoder, "tidemill_subscription_lag_seconds", help, last)?;
    let lags = all.iter().filter(|s| s.figures.lag_last.is_some());
    let lags = lags.flat_map(|s| quantiles(&s.labels, &s.figures.lag_commit));
    let help = "The same, over all transactions since the start";
    gauges(encoder, "tidemill_subscription_lag_quantile_seconds", help, lags)
}

fn subscription_counts(encoder: &mut DescriptorEncoder<'_>, all: &[SubscriptionNow]) -> fmt::Result {
    let of = |f: fn(&SubscriptionNow) -> u64| all.iter().map(move |s| (s.labels.clone(), f(s)));
    let mut counter =
        |name: &str, help: &str, f: fn(&SubscriptionNow) -> u64| counters(encoder, name, help, of(f));
    let name = "tidemill_subscription_transactions_passed";
    counter(name, "Transactions passed, with or without a change for the consumer", |s| {
        s.figures.transactions_passed
    })?;
    let name = "tidemill_subscription_transactions";
    counter(name, "Transactions that the consumer saw", |s| s.figures.transactions)?;
    let name = "tidemill_subscription_changes_read";
    counter(name, "Changes and events read", |s| s.figures.changes_read)?;
    let name = "tidemill_subscription_changes_filtered";
    counter(name, "Of those read, what filters and projections left out", |s| s.figures.changes_filtered)?;
    let name = "tidemill_subscription_changes_delivered";
    counter(name, "Of those read, what the consumer saw", |s| s.figures.changes)?;
    let name = "tidemill_subscription_changes_unwanted";
    counter(name, "Of those read, what the consumer does not take", |s| {
        s.figures.changes_read.saturating_sub(s.figures.changes_filtered + s.figures.changes)
    })?;
    let name = "tidemill_subscription_commits";
    counter(name, "Commits of effects with their checkpoint", |s| s.figures.commits)?;
    let name = "tidemill_subscription_rollbacks";
    counter(name, "Deliveries that were rolled back", |s| s.figures.rollbacks)?;
    let name = "tidemill_subscription_retries";
    counter(name, "Deliveries that were tried again", |s| s.retries)
}

/// The tables of the copies that subscriptions begin with.
fn subscription_copies(encoder: &mut DescriptorEncoder<'_>, all: &[SubscriptionHandle]) -> fmt::Result {
    let mut tables: Vec<(Labels, TableProgress)> = vec![];
    for subscription in all {
        let Some(copy) = &subscription.copy else { continue };
        for (table, progress) in &copy.status().borrow().tables {
            let mut labels = labels_of(subscription);
            labels.push(("table", table.to_string()));
            tables.push((labels, progress.clone()));
        }
    }
    if tables.is_empty() {
        return Ok(());
    }
    let of = |f: fn(&TableProgress) -> u64| tables.iter().map(move |(labels, p)| (labels.clone(), f(p)));
    let name = "tidemill_subscription_copy_done";
    gauges(encoder, name, "Whether the table was copied", of(|p| u64::from(p.stage == TableStage::Done)))?;
    let name = "tidemill_subscription_copy_rows";
    gauges(encoder, name, "Rows of the table that this process copied", of(|p| p.rows))?;
    let name = "tidemill_subscription_copy_chunks";
    gauges(encoder, name, "Chunks of the table that are copied", of(|p| p.chunks_done.into()))?;
    let name = "tidemill_subscription_copy_chunks_expected";
    gauges(encoder, name, "About how many there will be", of(|p| p.chunks_expected.into()))
}

type StageCosts = std::collections::BTreeMap<String, crate::status::Cost>;

fn costs(labels: &[(&'static str, String)], stages: StageCosts) -> Vec<(Labels, crate::status::Cost)> {
    let with = |(stage, cost)| {
        let mut labels = labels.to_vec();
        labels.push(("stage", stage));
        (labels, cost)
    };
    stages.into_iter().map(with).collect()
}

fn guest_costs(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    all: Vec<(Labels, crate::status::Cost)>,
) -> fmt::Result {
    let times = all.iter().map(|(labels, cost)| (labels.clone(), cost.time.as_secs_f64()));
    counters(encoder, &format!("{name}_seconds"), "Time in guests, by stage", times)?;
    let calls = all.iter().map(|(labels, cost)| (labels.clone(), cost.calls));
    counters(encoder, &format!("{name}_calls"), "Windows given to guests, by stage", calls)
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let used = Usage::now();
        one(
            &mut encoder,
            "process_cpu_seconds",
            "Processor time of all threads",
            ConstCounter::new(used.cpu.as_secs_f64()),
        )?;
        one(
            &mut encoder,
            "process_resident_memory_bytes",
            "Memory that is resident",
            ConstGauge::new(usage::rss()),
        )?;
        let help = "The most memory that was resident at once";
        one(&mut encoder, "process_peak_resident_memory_bytes", help, ConstGauge::new(used.peak_rss))
    }
}

/// A metric without labels.
fn one(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: impl EncodeMetric) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, value.metric_type())?;
    value.encode(metric)
}
