//! `tidemill bench`: a backlog of row changes is written to a private server, then drained; the drain is measured.
//! The workload is the one that other capture tools were measured on: four tables of ten mixed columns, transactions
//! of five changes over two tables. The figures are this process's alone; the server is another one.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidemill_fetchers_api::{Fetcher, Selector, Start};
use tidemill_fetchers_mysql as mysql;
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Password, ServerOptions};
use tidemill_servers::workload::Backlog;
use tidemill_servers::{Kind, Options, Server};

use crate::Failure;
use crate::lag::Lag;
use crate::usage::Usage;

mod bare;
mod beside;
mod clone;
mod fanout;
mod floor;
mod latency;
mod load;
mod pipeline;
mod tool;

/// What is measured.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// From the source to windows.
    Capture(Arguments),
    /// From the source through log, filter and consumer, checkpoints committed.
    Pipeline(Arguments),
    /// Transactions at a fixed rate: from the commit to the reader, beside a bare client.
    Latency(latency::Arguments),
    /// A relay and many subscribers: latency under a steady load, throughput from memory.
    Fanout(fanout::Arguments),
    /// A table copied into snapshot storage and published.
    Clone(clone::Arguments),
}

/// What every benchmark takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How many row changes the backlog has.
    #[arg(long, default_value_t = 1_000_000)]
    pub changes: u64,
    /// Drain from the live server or from its files on disk.
    #[arg(long, value_enum, default_value_t = Origin::Live)]
    pub from: Origin,
    /// Whose binlog.
    #[arg(long, value_enum, default_value_t = Family::Mysql)]
    pub server: Family,
    /// Drains; the median by rows a second is reported.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Let the server's own tool copy the same log, too: the floor.
    #[arg(long)]
    pub floor: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Where the backlog is drained from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// A replication connection.
    Live,
    /// The binlog files.
    Files,
}

/// Server families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Family {
    /// MySQL 9.7.
    Mysql,
    /// MariaDB 10.11 or newer.
    Mariadb,
}

/// One drain's figures.
#[derive(Clone, Debug)]
pub struct Measured {
    rows: u64,
    bytes: u64,
    wall: Duration,
    cpu: Duration,
    peak_rss: u64,
    lag: Option<Lag>,
}

/// A server with a backlog.
pub struct Loaded {
    server: Server,
    changes: u64,
    bytes: u64,
    from: Origin,
}

/// Runs a benchmark and prints its figures.
pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    let (name, arguments) = match &command {
        Command::Capture(arguments) => ("capture", arguments.clone()),
        Command::Pipeline(arguments) => ("pipeline", arguments.clone()),
        Command::Latency(arguments) => return latency::run(arguments).await,
        Command::Fanout(arguments) => return fanout::run(arguments).await,
        Command::Clone(arguments) => return clone::run(arguments.clone()).await,
    };
    let mut loaded = Loaded::new(&arguments).await?;
    let (mut rounds, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        // What writing the backlog took is not the drain's.
        Usage::forget_peak();
        rounds.push(match name {
            "capture" => capture(&loaded).await?,
            _ => pipeline::drain(&loaded).await?,
        });
        if arguments.floor {
            floors.push(floor::copy(&loaded).await?);
        }
    }
    print(name, &median(rounds), arguments.floor.then(|| median(floors)).as_ref(), arguments.json);
    loaded.server.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// The round with the median wall time.
fn median(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by_key(|m| m.wall);
    let middle = rounds.len() / 2;
    rounds.swap_remove(middle)
}

impl Family {
    fn kind(self) -> Kind {
        match self {
            Family::Mysql => Kind::MySql,
            Family::Mariadb => Kind::MariaDb,
        }
    }
}

impl Loaded {
    async fn new(arguments: &Arguments) -> Result<Loaded, Failure> {
        let kind = arguments.server.kind();
        eprintln!("writing a backlog of {} changes to a private {kind} server", arguments.changes);
        let server = Server::start(kind, Options::for_load()).await?;
        let backlog = Backlog { changes: arguments.changes, connections: 4, seed: 7 };
        let changes = backlog.write(server.root()).await?.changes();
        let mut bytes = 0;
        for file in server.binlog_files()? {
            bytes += std::fs::metadata(file)?.len();
        }
        Ok(Loaded { server, changes, bytes, from: arguments.from })
    }

    /// Where this backlog is read from.
    fn origin(&self) -> Result<mysql::Origin, Failure> {
        Ok(match self.from {
            Origin::Files => mysql::Origin::Files(FileOptions::list(self.server.binlog_files()?)),
            Origin::Live => {
                let password = Password::new(self.server.user_password());
                mysql::Origin::Server(ServerOptions::new(
                    "127.0.0.1",
                    self.server.port(),
                    Server::USER,
                    password,
                ))
            }
        })
    }

    async fn fetcher(&self) -> Result<MySqlFetcher, Failure> {
        let every: Selector = std::sync::Arc::new(|_: &_| Ok(true));
        Ok(MySqlFetcher::open("bench", self.origin()?, Start::Earliest, every).await?)
    }
}

async fn capture(loaded: &Loaded) -> Result<Measured, Failure> {
    let mut fetcher = loaded.fetcher().await?;
    let (before, started, mut rows) = (Usage::now(), Instant::now(), 0);
    while rows < loaded.changes {
        let Some(window) = fetcher.next().await? else { break };
        rows += window.source_change_count();
    }
    loaded.measured(rows, started, before, None)
}

impl Loaded {
    fn measured(
        &self,
        rows: u64,
        started: Instant,
        before: Usage,
        lag: Option<Lag>,
    ) -> Result<Measured, Failure> {
        if rows != self.changes {
            return Err(format!("{} changes were written, {rows} came out", self.changes).into());
        }
        let (wall, now) = (started.elapsed(), Usage::now());
        let cpu = now.cpu.saturating_sub(before.cpu);
        Ok(Measured { rows, bytes: self.bytes, wall, cpu, peak_rss: now.peak_rss, lag })
    }
}

fn print(name: &str, m: &Measured, floor: Option<&Measured>, json: bool) {
    if json {
        let mut object = m.object();
        if let Some(floor) = floor {
            object["floor"] = floor.object();
        }
        println!("{object}");
        return;
    }
    m.print(name);
    if let Some((p50, p99, max)) = m.lag_ms() {
        println!("  read to delivered: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms");
    }
    if let Some(floor) = floor {
        floor.print("floor, mysqlbinlog --read-from-remote-server --raw");
    }
}

impl Measured {
    /// Rows a second, megabytes a second, CPU-seconds per million rows, peak RSS in MiB.
    fn figures(&self) -> [f64; 4] {
        let (rows, wall) = (self.rows as f64, self.wall.as_secs_f64());
        let cpu = self.cpu.as_secs_f64() / rows * 1e6;
        [rows / wall, self.bytes as f64 / 1e6 / wall, cpu, self.peak_rss as f64 / f64::from(1 << 20)]
    }

    fn lag_ms(&self) -> Option<(f64, f64, f64)> {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        self.lag.as_ref().map(|l| (ms(l.quantile(0.5)), ms(l.quantile(0.99)), ms(l.max())))
    }

    fn object(&self) -> serde_json::Value {
        let [rows_per_s, mb_per_s, cpu, rss] = self.figures();
        let mut object = serde_json::json!({
            "rows": self.rows, "rows_per_s": rows_per_s, "mb_per_s": mb_per_s,
            "cpu_s_per_million_rows": cpu, "peak_rss_mib": rss,
        });
        if let Some((p50, p99, max)) = self.lag_ms() {
            object["p50_ms"] = p50.into();
            object["p99_ms"] = p99.into();
            object["max_ms"] = max.into();
        }
        object
    }

    fn print(&self, name: &str) {
        let [rows_per_s, mb_per_s, cpu, rss] = self.figures();
        println!("{name}: {} rows, {rows_per_s:.0} rows/s, {mb_per_s:.0} MB/s of binlog", self.rows);
        println!("  {cpu:.3} CPU-seconds per million rows, peak RSS {rss:.0} MiB");
    }
}
