//! Steady load: transactions are sent at a fixed rate whether or not the last ones were answered, and each is timed from
//! its acknowledged commit, and from the moment at which it was to be sent, to its arrival at a reader. The second figure
//! counts what a slow answer delays (coordinated omission). Readers take turns: a bare client as the floor, the fetcher.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_event::TableSchema;
use tidemill_fetchers_api::{Fetcher, Selector, Start};
use tidemill_fetchers_mysql::{MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::{Options, Server};
use tokio::time::timeout;

use super::Family;
use super::bare::Bare;
use super::load::{self, Plan, Times, joined, keys, load, quantile, three};
use crate::Failure;
use crate::usage::{Usage, thread_cpu};

/// Steady load.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Transactions a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,
    /// How long each reader is measured; one second before it warms up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Whose binlog.
    #[arg(long, value_enum, default_value_t = Family::Mysql)]
    pub server: Family,
    /// Connections that the transactions are spread over.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub writers: u64,
    /// Turns of each reader; of each the one with the median p99 is reported.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Notes when the event is there.
    Bare,
    /// Gives windows.
    Fetcher,
}

/// One turn of one reader.
#[derive(Debug)]
struct Turn {
    /// From the acknowledged commit, sorted; an event that came before it counts as zero.
    since_commit: Vec<u64>,
    /// From the intended moment of sending, sorted.
    since_intended: Vec<u64>,
    /// The reader's processor time a second.
    cpu: f64,
    /// Transactions a second that were acknowledged.
    reached: f64,
}

/// What a reader noted: the key of each row and when it came, and its processor time.
type Noted = Result<(Vec<(u64, Instant)>, Duration), Failure>;

/// Runs the benchmark and prints its figures.
pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let kind = arguments.server.kind();
    let mut server = Server::start(kind, Options::default().argument("--binlog-checksum=CRC32")).await?;
    load::prepare(&server).await?;
    // A second more than is measured: it warms up.
    let count = arguments.rate * (arguments.seconds + 1);
    let mut plan =
        Plan { port: server.port(), rate: arguments.rate, writers: arguments.writers, first: 1, count };
    let (mut bare, mut fetcher) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds.max(1) {
        for (reader, turns) in [(Reader::Bare, &mut bare), (Reader::Fetcher, &mut fetcher)] {
            eprintln!("round {round}: {} transactions on {kind}, read by the {}", count, reader.name());
            turns.push(turn(&server, reader, plan).await?);
            plan.first += count;
        }
    }
    server.stop().await?;
    print(arguments, &median(bare), &median(fetcher));
    Ok(ExitCode::SUCCESS)
}

impl Reader {
    fn name(self) -> &'static str {
        match self {
            Reader::Bare => "bare client",
            Reader::Fetcher => "fetcher",
        }
    }
}

/// One reader under the load of a plan.
async fn turn(server: &Server, reader: Reader, plan: Plan) -> Result<Turn, Failure> {
    let (ready, is_ready) = mpsc::channel();
    let (file, offset) = server.binlog_end().await?;
    let password = Password::new(server.user_password());
    let options = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
    // A thread of its own: its processor time is the reader's alone.
    let reading: JoinHandle<Noted> = thread::spawn(move || match reader {
        Reader::Bare => read_bare(plan, &file, offset, &ready),
        Reader::Fetcher => read_windows(plan, options, &ready),
    });
    let loaded = tokio::task::spawn_blocking(move || {
        // An error of the reader closes the channel: it is told when the thread is joined.
        is_ready.recv().ok().map(|()| load(plan))
    });
    let Some(loaded) = loaded.await? else { return Err(joined(reading).err().unwrap_or("no reader".into())) };
    let (begun, mut times) = loaded?;
    let (noted, cpu) = tokio::task::spawn_blocking(move || joined(reading)).await??;
    for (key, at) in noted {
        let since = at.saturating_duration_since(begun).as_nanos() as u64;
        times[(key - plan.first) as usize].arrived = since;
    }
    Ok(figures(plan, &times, cpu))
}

fn figures(plan: Plan, times: &[Times], cpu: Duration) -> Turn {
    let last = times.iter().map(|t| t.acknowledged).max().unwrap_or_default();
    let seconds = Duration::from_nanos(last).as_secs_f64();
    let measured = &times[plan.rate as usize..];
    let sorted = |since: fn(&Times) -> u64| {
        let mut all: Vec<u64> = measured.iter().map(|t| t.arrived.saturating_sub(since(t))).collect();
        all.sort_unstable();
        all
    };
    Turn {
        since_commit: sorted(|t| t.acknowledged),
        since_intended: sorted(|t| t.intended),
        cpu: cpu.as_secs_f64() / seconds,
        reached: times.len() as f64 / seconds,
    }
}

fn read_bare(plan: Plan, file: &str, offset: u64, ready: &mpsc::Sender<()>) -> Noted {
    let mut connection = Bare::connect(plan.port)?;
    connection.dump(file, u32::try_from(offset)?)?;
    let before = thread_cpu();
    let mut noted = Vec::with_capacity(plan.count as usize);
    let _ = ready.send(());
    while noted.len() < plan.count as usize {
        let body = connection.inserted()?.body;
        let at = Instant::now();
        // The key is the last column of the only row.
        let key = body.last_chunk::<8>().ok_or("an insert has no key")?;
        noted.push((u64::from_le_bytes(*key), at));
    }
    Ok((noted, thread_cpu().saturating_sub(before)))
}

fn read_windows(plan: Plan, options: ServerOptions, ready: &mpsc::Sender<()>) -> Noted {
    /// From one window to the next under a steady load.
    const PAUSE_MAX: Duration = Duration::from_secs(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let selector: Selector =
            Arc::new(|schema: &Arc<TableSchema>| Ok(schema.name().database == "latency"));
        let origin = Origin::Server(options);
        let mut fetcher = MySqlFetcher::open("bench", origin, Start::Now, selector).await?;
        let before = thread_cpu();
        let mut noted = Vec::with_capacity(plan.count as usize);
        let _ = ready.send(());
        while noted.len() < plan.count as usize {
            let window = timeout(PAUSE_MAX, fetcher.next()).await.map_err(|_| "rows are missing")??;
            let at = Instant::now();
            let window = window.ok_or("the server's log has ended")?;
            noted.extend(keys(&window).into_iter().map(|key| (key, at)));
        }
        Ok((noted, thread_cpu().saturating_sub(before)))
    })
}

/// The turn with the median p99 since the commit.
fn median(mut turns: Vec<Turn>) -> Turn {
    turns.sort_by_key(|turn| quantile(&turn.since_commit, 0.99));
    let middle = turns.len() / 2;
    turns.swap_remove(middle)
}

fn object(turn: &Turn) -> Value {
    let of = |sorted: &[u64]| {
        let [p50, p99, max] = three(sorted);
        json!({ "p50_ms": p50, "p99_ms": p99, "max_ms": max })
    };
    json!({
        "since_commit": of(&turn.since_commit), "since_intended": of(&turn.since_intended),
        "cpu_s_per_s": turn.cpu, "transactions_per_s": turn.reached,
    })
}

fn print(arguments: &Arguments, bare: &Turn, fetcher: &Turn) {
    if arguments.json {
        // A transaction has one row here. The figures of every benchmark are the fetcher's, since the commit.
        let [p50, p99, max] = three(&fetcher.since_commit);
        let all = json!({
            "rows": fetcher.since_commit.len(), "rows_per_s": fetcher.reached,
            "cpu_s_per_million_rows": fetcher.cpu / fetcher.reached * 1e6,
            "peak_rss_mib": Usage::now().peak_rss as f64 / f64::from(1 << 20),
            "p50_ms": p50, "p99_ms": p99, "max_ms": max,
            "rate": arguments.rate, "seconds": arguments.seconds, "transactions": bare.since_commit.len(),
            "bare": object(bare), "fetcher": object(fetcher),
        });
        println!("{all}");
        return;
    }
    println!("latency: {} transactions/s for {} s", arguments.rate, arguments.seconds);
    for (reader, turn) in [(Reader::Bare, bare), (Reader::Fetcher, fetcher)] {
        let ([p50, p99, max], [i50, i99, imax]) = (three(&turn.since_commit), three(&turn.since_intended));
        println!(
            "  {}: {:.3} CPU-seconds a second, {:.0} a second reached",
            reader.name(),
            turn.cpu,
            turn.reached
        );
        println!("    since the acknowledged commit: p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.3} ms");
        println!("    since it was to be sent:       p50 {i50:.3} ms, p99 {i99:.3} ms, max {imax:.3} ms");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_that_warms_up_does_not_count_and_what_came_early_counts_as_zero() {
        let plan = Plan { port: 0, rate: 2, writers: 1, first: 1, count: 4 };
        let of = |intended, acknowledged, arrived| Times { intended, acknowledged, arrived };
        let times = [of(0, 9, 900), of(1, 9, 900), of(10, 30, 25), of(20, 40, 70)];
        let turn = figures(plan, &times, Duration::ZERO);
        assert_eq!((turn.since_commit, turn.since_intended), (vec![0, 30], vec![15, 50]));
    }
}
