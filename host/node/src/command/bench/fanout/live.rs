//! The steady load: from the acknowledged commit to every subscriber.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_event::{Decoded, Frame, SchemaSet, Scn, Window, decode};
use tidemill_servers::{Options, Server};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Arguments;
use super::subscriber::{Frames, Subscriber};
use super::tested::Tested;
use crate::Failure;
use crate::command::bench::load::{self, Plan, Times, keys, load, quantile};

/// From one window to the next, heartbeats included.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a small read takes: live windows are small, and there are many subscribers.
const READ_BYTES: usize = 16 << 10;

const PATH: &str = "/v1/sources/bench/changes?from=now&format=frames&follow=true";

/// One measurement.
pub struct Turn {
    subscribers: usize,
    stalled: usize,
    /// p50, p99 and the longest, in milliseconds, over all subscribers and transactions.
    since_commit: [f64; 3],
    /// The same from the moment at which a transaction was to be sent.
    since_intended: [f64; 3],
    /// The relay's processor time a second.
    cpu: f64,
    /// Bytes a second that all subscribers got.
    bytes: f64,
    peak_rss: u64,
}

/// What one subscriber saw: up to where, and when it had that.
struct Seen {
    windows: Vec<(Scn, Instant)>,
    bytes: u64,
}

/// Measures every number of subscribers.
pub async fn run(arguments: &Arguments) -> Result<Vec<Turn>, Failure> {
    let kind = arguments.server.kind();
    let mut server = Server::start(kind, Options::default()).await?;
    load::prepare(&server).await?;
    let relay = Tested::start(&server, "start = \"now\"").await?;
    let count = arguments.rate * (arguments.seconds + 1);
    let (port, rate) = (server.port(), arguments.rate);
    let mut plan = Plan { port, rate, writers: 8, first: 1, count };
    let mut turns = Vec::new();
    for subscribers in arguments.subscribers.iter().copied() {
        let beside = if arguments.stalled == 0 { vec![0] } else { vec![0, arguments.stalled] };
        let mut rounds: Vec<Vec<Turn>> = beside.iter().map(|_| Vec::new()).collect();
        for round in 1..=arguments.rounds.max(1) {
            for (stalled, turns) in beside.iter().zip(&mut rounds) {
                eprintln!("round {round}: {subscribers} subscribers, {stalled} that stand still, on {kind}");
                turns.push(turn(&relay, subscribers, *stalled, plan).await?);
                plan.first += count;
            }
        }
        turns.extend(rounds.into_iter().map(median));
    }
    drop(relay);
    server.stop().await?;
    Ok(turns)
}

/// The turn with the median p99 since the commit.
fn median(mut turns: Vec<Turn>) -> Turn {
    turns.sort_by(|a, b| a.since_commit[1].total_cmp(&b.since_commit[1]));
    let middle = turns.len() / 2;
    turns.swap_remove(middle)
}

async fn turn(relay: &Tested, subscribers: usize, stalled: usize, plan: Plan) -> Result<Turn, Failure> {
    let mut still = Vec::new();
    for _ in 0..stalled {
        still.push(Subscriber::open(relay.address(), PATH, READ_BYTES).await?);
    }
    let open = Arc::new(Barrier::new(subscribers + 2));
    let reference = tokio::spawn(follow_rows(relay.address(), plan, Arc::clone(&open)));
    let mut all = JoinSet::new();
    for _ in 0..subscribers {
        all.spawn(follow(relay.address(), plan, Arc::clone(&open)));
    }
    open.wait().await;
    let cpu = relay.cpu();
    let (begun, times) = tokio::task::spawn_blocking(move || load(plan)).await??;
    let commits = reference.await??;
    let mut seen = Vec::new();
    while let Some(one) = all.join_next().await {
        seen.push(one??);
    }
    drop(still);
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = relay.cpu().saturating_sub(cpu).as_secs_f64() / seconds;
    let bytes = seen.iter().map(|s| s.bytes).sum::<u64>() as f64 / seconds;
    let (commit, intended) = latencies(plan, &commits, &times, begun, &seen)?;
    let three = |sorted: &[u64]| [0.5, 0.99, 1.0].map(|q| quantile(sorted, q) as f64 / 1e6);
    let (since_commit, since_intended) = (three(&commit), three(&intended));
    Ok(Turn { subscribers, stalled, since_commit, since_intended, cpu, bytes, peak_rss: relay.peak_rss() })
}

/// Reads until the last transaction of the plan is there, and gives each one's SCN by its key's place in the plan.
async fn follow_rows(address: SocketAddr, plan: Plan, open: Arc<Barrier>) -> Result<Vec<Scn>, Failure> {
    let opened = Subscriber::open(address, PATH, READ_BYTES).await;
    open.wait().await;
    let (mut subscriber, mut frames, mut schemas) = (opened?, Frames::default(), SchemaSet::default());
    let (mut commits, mut missing) = (vec![Scn::ZERO; plan.count as usize], plan.count);
    while missing > 0 {
        let mut windows: Vec<Window> = Vec::new();
        let mut failed = Ok(());
        let mut each = |frame: &[u8]| {
            match decode(&Frame::read(frame)?, &schemas)? {
                Decoded::Schema(schema) => drop(schemas.insert(schema)),
                Decoded::Window(window) => windows.push(window),
            }
            Ok(())
        };
        let more = subscriber.read(|piece| failed = frames.feed(piece, &mut each));
        if !timeout(PAUSE_MAX, more).await.map_err(|_| "windows are missing")?? {
            return Err("the relay ended the answer".into());
        }
        failed?;
        for window in &windows {
            for (key, transaction) in keys(window).iter().zip(&window.transactions) {
                commits[(key - plan.first) as usize] = transaction.scn;
                missing -= 1;
            }
        }
    }
    Ok(commits)
}

/// Reads until it has as many transactions as the plan. Checks that each frame is sound and follows the one before.
async fn follow(address: SocketAddr, plan: Plan, open: Arc<Barrier>) -> Result<Seen, Failure> {
    let opened = Subscriber::open(address, PATH, READ_BYTES).await;
    open.wait().await;
    let (mut subscriber, mut frames) = (opened?, Frames::default());
    let mut seen = Seen { windows: Vec::with_capacity(plan.count as usize), bytes: 0 };
    let mut transactions = 0;
    while transactions < plan.count {
        let mut failed = Ok(());
        let mut each = |frame: &[u8]| {
            let frame = Frame::read(frame)?;
            let Some((position, span)) = frame.window_span()? else { return Ok(()) };
            if seen.windows.last().is_some_and(|(upto, _)| *upto != span.after) {
                return Err(format!("a window after {} does not follow", span.after).into());
            }
            if span.after < span.upto {
                seen.windows.push((position.scn, Instant::now()));
                transactions += u64::from(frame.transaction_count()?);
            }
            Ok(())
        };
        let mut bytes = 0;
        let more = subscriber.read(|piece| {
            bytes += piece.len() as u64;
            failed = frames.feed(piece, &mut each);
        });
        if !timeout(PAUSE_MAX, more).await.map_err(|_| "windows are missing")?? {
            return Err("the relay ended the answer".into());
        }
        failed?;
        seen.bytes += bytes;
    }
    Ok(seen)
}

/// Nanoseconds from the acknowledgement, and from the intended moment, of every transaction to every subscriber, sorted.
/// The second that warms up does not count.
fn latencies(
    plan: Plan,
    commits: &[Scn],
    times: &[Times],
    begun: Instant,
    seen: &[Seen],
) -> Result<(Vec<u64>, Vec<u64>), Failure> {
    let warm = plan.rate as usize;
    let mut order: Vec<usize> = (0..commits.len()).collect();
    order.sort_by_key(|at| commits[*at]);
    let (mut commit, mut intended) = (Vec::new(), Vec::new());
    for one in seen {
        let mut windows = one.windows.iter().peekable();
        for at in &order {
            while windows.peek().is_some_and(|(upto, _)| *upto < commits[*at]) {
                windows.next();
            }
            let (_, arrived) = windows.peek().ok_or("a subscriber lacks a transaction")?;
            if *at >= warm {
                let arrived = arrived.saturating_duration_since(begun).as_nanos() as u64;
                commit.push(arrived.saturating_sub(times[*at].acknowledged));
                intended.push(arrived.saturating_sub(times[*at].intended));
            }
        }
    }
    commit.sort_unstable();
    intended.sort_unstable();
    Ok((commit, intended))
}

impl Turn {
    /// Its figures as JSON.
    pub fn object(&self) -> Value {
        let [p50, p99, max] = self.since_commit;
        let [_, intended_p99, _] = self.since_intended;
        json!({
            "subscribers": self.subscribers, "stalled": self.stalled, "p50_ms": p50, "p99_ms": p99, "max_ms": max,
            "p99_since_intended_ms": intended_p99, "relay_cpu_s_per_s": self.cpu,
            "mb_per_s": self.bytes / 1e6, "relay_peak_rss_mib": self.peak_rss >> 20,
        })
    }

    /// Its figures for people.
    pub fn print(&self) {
        let ([p50, p99, max], [_, intended, _]) = (self.since_commit, self.since_intended);
        let (subscribers, stalled, rss) = (self.subscribers, self.stalled, self.peak_rss >> 20);
        println!("  {subscribers} subscribers, {stalled} more that stand still:");
        println!(
            "    p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms; since it was to be sent p99 {intended:.2} ms"
        );
        println!(
            "    relay: {:.2} CPU-seconds a second, {:.1} MB/s, peak RSS {rss} MiB",
            self.cpu,
            self.bytes / 1e6
        );
    }
}
