//! A table of a private server, copied into snapshot storage and published, through the same wiring as `tidemill clone`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tidemill_servers::{Options, Server};
use tokio::sync::watch;

use super::Family;
use super::beside::{Beside, Figures, Task};
use crate::Failure;
use crate::command::clone::is_published;
use crate::config::Config;
use crate::stdout::Head;
use crate::usage::Usage;
use crate::wiring::{self, Role};

/// What `bench clone` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How many rows the table has.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Whose table.
    #[arg(long, value_enum, default_value_t = Family::Mysql)]
    server: Family,
    /// Connections at the same time.
    #[arg(long, default_value_t = 2)]
    connections: u32,
    /// Rows that are read in one go.
    #[arg(long, default_value_t = 50_000)]
    chunk_rows: u64,
    /// Copies; the median by wall time is reported.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Let another tool copy the same table, too, after each of our copies; may be given again for another one.
    #[arg(long, value_enum)]
    beside: Vec<Beside>,
    /// Keep the server until Enter is pressed, for another tool to copy the same table.
    #[arg(long)]
    hold: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Ten mixed columns, as in the backlog.
const TABLE: &str = "CREATE DATABASE bench; USE bench;
    CREATE TABLE numbers (n BIGINT PRIMARY KEY);
    CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, n INT NOT NULL, small SMALLINT, amount DECIMAL(12,4) NOT NULL,
        name VARCHAR(64) NOT NULL, town VARCHAR(64), at DATETIME(6) NOT NULL, body TEXT NOT NULL, doc JSON NOT NULL, ratio DOUBLE);";

const ROWS: &str = "INSERT INTO t SELECT n, n * 7 % 100000, IF(n % 5, n % 1000, NULL), n / 7, CONCAT('name ', n),
    IF(n % 3, CONCAT('Straße ', n % 977, ' 東京'), NULL), '2026-01-01' + INTERVAL n * 1001 MICROSECOND,
    REPEAT(SHA2(n, 256), 1 + n % 4), JSON_OBJECT('id', n, 'tags', JSON_ARRAY('a', 'b', n % 10)), IF(n % 4, n / 3, NULL)
    FROM numbers WHERE n BETWEEN";

/// Runs the benchmark and prints its figures.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let kind = arguments.server.kind();
    eprintln!("filling a table of {} rows on a private {kind} server", arguments.rows);
    let mut server = Server::start(kind, Options::for_load()).await?;
    arguments.beside.iter().try_for_each(|beside| beside.check(&server))?;
    fill(&server, arguments.rows).await?;
    let task = Task { connections: arguments.connections, chunk_rows: arguments.chunk_rows };
    let (mut rounds, mut others) = (vec![], vec![vec![]; arguments.beside.len()]);
    for _ in 0..arguments.rounds.max(1) {
        Usage::forget_peak();
        rounds.push(copy(&server, &arguments).await?);
        for (beside, rounds) in arguments.beside.iter().zip(&mut others) {
            rounds.push(beside.copy(&server, task).await?);
        }
    }
    let others: Vec<(Beside, Figures)> =
        arguments.beside.iter().copied().zip(others.into_iter().map(median)).collect();
    print(&arguments, &median(rounds), &others);
    if arguments.hold {
        let (user, port) = (Server::USER, server.port());
        eprintln!("127.0.0.1:{port}, user {user}, password {}; press Enter to end", server.user_password());
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    }
    server.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// The round with the median wall time.
fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by_key(|figures| figures.wall);
    rounds[rounds.len() / 2]
}

async fn fill(server: &Server, rows: u64) -> Result<(), Failure> {
    const AT_ONCE: u64 = 100_000;
    server.sql(TABLE).await?;
    server.sql("USE bench; INSERT INTO numbers VALUES (1)").await?;
    let mut made = 1;
    while made < rows {
        let more = made.min(rows - made);
        server
            .sql(&format!("USE bench; INSERT INTO numbers SELECT n + {made} FROM numbers WHERE n <= {more}"))
            .await?;
        made += more;
    }
    for first in (1..=rows).step_by(AT_ONCE as usize) {
        let last = rows.min(first + AT_ONCE - 1);
        server.sql(&format!("USE bench; {ROWS} {first} AND {last}")).await?;
    }
    Ok(server.sql("USE bench; DROP TABLE numbers").await?)
}

/// One copy into a directory of its own.
async fn copy(server: &Server, arguments: &Arguments) -> Result<Figures, Failure> {
    let scratch = tempfile::Builder::new().prefix("tidemill-bench-").tempdir()?;
    std::fs::write(scratch.path().join("password"), server.user_password())?;
    let kind = if server.kind().is_mysql() { "mysql" } else { "mariadb" };
    let text = format!(
        "data = \"data\"\n[source.bench]\nkind = \"{kind}\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\n\
         password = {{ file = \"password\" }}\nstart = \"now\"\nheartbeat = \"1 s\"\n[bootstrap.bench]\nstore = \"lake\"\n\
         tables = [\"bench.*\"]\nclone = {{ connections = {}, chunk_rows = {} }}\n",
        server.port(),
        Server::USER,
        arguments.connections,
        arguments.chunk_rows,
    );
    let path = scratch.path().join("tidemill.toml");
    let config = Config::parse(&text, &path)?.based_on(scratch.path());
    let (before, started) = (Usage::now(), Instant::now());
    let pipeline = wiring::open(&config, scratch.path(), Arc::new(Head::new(0)), Role::Run).await?;
    let mut follower = pipeline.storages.first().expect("it has snapshot storage").follower.clone();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(pipeline.run(stopped));
    let opened = follower.wait_for(Option::is_some).await?.clone();
    let mut status = opened.expect("it was waited for").status();
    let all =
        |status: &tidemill_bootstrap_service::Status| status.tables.get("bench.t").is_some_and(is_published);
    let rows: u64 = status.wait_for(all).await?.tables.values().map(|table| table.base_rows).sum();
    let (wall, now) = (started.elapsed(), Usage::now());
    stop.send_replace(true);
    let ended = running.await?;
    if !ended.well() {
        return Err(format!("the copy failed: {ended:?}").into());
    }
    if rows != arguments.rows {
        return Err(format!("the table has {} rows, {rows} were copied", arguments.rows).into());
    }
    let stored = bytes_of(&scratch.path().join("lake/bench/bench.t"))?;
    Ok(Figures { wall, cpu: now.cpu.saturating_sub(before.cpu), peak_rss: now.peak_rss, stored })
}

/// Bytes of the newest version of the table.
fn bytes_of(table: &Path) -> Result<u64, Failure> {
    let latest: serde_json::Value = serde_json::from_slice(&std::fs::read(table.join("LATEST.json"))?)?;
    let mut bytes = 0;
    for file in std::fs::read_dir(table.join(latest["path"].as_str().unwrap_or_default()))? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

fn print(arguments: &Arguments, ours: &Figures, others: &[(Beside, Figures)]) {
    let rows = arguments.rows as f64;
    if arguments.json {
        let mut object = object(ours, rows);
        object["bench"] = json!("clone");
        object["rows"] = json!(arguments.rows);
        for (beside, figures) in others {
            object["beside"][beside.name()] = self::object(figures, rows);
        }
        return println!("{object}");
    }
    println!("clone of {} rows to a published version: {} of Parquet", arguments.rows, text(ours, rows));
    for (beside, figures) in others {
        println!("  beside, {}: {}", beside.name(), text(figures, rows));
    }
}

/// Rows a second, CPU-seconds per million rows, peak RSS in MiB, megabytes that were written.
fn derived(figures: &Figures, rows: f64) -> (f64, f64, u64, f64) {
    let (rate, cpu) = (rows / figures.wall.as_secs_f64(), figures.cpu.as_secs_f64() / rows * 1e6);
    (rate, cpu, figures.peak_rss >> 20, figures.stored as f64 / 1e6)
}

fn object(figures: &Figures, rows: f64) -> serde_json::Value {
    let (rate, cpu, rss, megabytes) = derived(figures, rows);
    json!({
        "seconds": figures.wall.as_secs_f64(), "rows_per_second": rate, "cpu_seconds_per_million_rows": cpu,
        "peak_rss_mib": rss, "mb": megabytes,
    })
}

fn text(figures: &Figures, rows: f64) -> String {
    let (rate, cpu, rss, megabytes) = derived(figures, rows);
    let seconds = figures.wall.as_secs_f64();
    format!(
        "{seconds:.2} s, {:.2} M rows/s, {cpu:.2} CPU-s per million rows, peak RSS {rss} MiB, {megabytes:.0} MB",
        rate / 1e6
    )
}
