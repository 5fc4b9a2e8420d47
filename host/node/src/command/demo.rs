//! `tidemill demo`: the configuration of `examples/quickstart` on binlog that a real MySQL server wrote. With `--live`
//! a private MariaDB server is started, and a shop trades on it while we watch.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_event::Scn;
use tidemill_servers::workload::Shop;
use tidemill_servers::{MariaDb, Options, Server};
use tokio::sync::watch;

use crate::config::{Config, SecretRef, SourceConfig, SourceKind};
use crate::status::Figures;
use crate::stdout::Head;
use crate::wiring::{self, Ended, Role};
use crate::{Failure, shutdown};

const CONFIG: &str = include_str!("../../../../examples/quickstart/tidemill.toml");
const RECORDED: [(&str, &[u8]); 3] = [
    ("binlog.000001", include_bytes!("../../../../examples/quickstart/binlog.000001")),
    ("binlog.000002", include_bytes!("../../../../examples/quickstart/binlog.000002")),
    ("masking.key", include_bytes!("../../../../examples/quickstart/masking.key")),
];
const SUBSCRIPTION: &str = "people";
const PASSWORD: &str = "TIDEMILL_DEMO_PASSWORD";

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Start a private MariaDB server (installed under .tools if there is none) and follow a shop that trades on it.
    #[arg(long)]
    live: bool,
    /// With --live: how many transactions the shop makes.
    #[arg(long, default_value_t = 2000)]
    transactions: u64,
    /// How many changes to show; the rest is only counted.
    #[arg(long, default_value_t = 8)]
    lines: usize,
}

/// Runs the demo and prints its summary.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let scratch = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
    for (name, bytes) in RECORDED {
        std::fs::write(scratch.path().join(name), bytes)?;
    }
    let path = scratch.path().join("tidemill.toml");
    std::fs::write(&path, CONFIG)?;
    let config = Config::load(&path)?;
    let ended = if arguments.live {
        live(config, scratch.path(), &arguments).await?
    } else {
        recorded(config, scratch.path(), &arguments).await?
    };
    Ok(if ended.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn recorded(config: Config, base: &Path, arguments: &Arguments) -> Result<Ended, Failure> {
    println!("A shop's year, recorded from MySQL 9.7, through builtin:select, :where, :mask and :print.");
    println!("The first {} changes, as a consumer sees them:\n", arguments.lines);
    let started = Instant::now();
    let pipeline = wiring::open(&config, base, Arc::new(Head::new(arguments.lines)), Role::Run).await?;
    let (meters, read) = (pipeline.meters.clone(), pipeline.fetched(SOURCE));
    let ended = pipeline.run(shutdown::on_signal()?).await;
    let figures = meters[SUBSCRIPTION].figures();
    summary(&figures, read.changes(), started.elapsed(), "read to delivered", &figures.lag_read);
    println!("  then  cargo run --release -- demo --live   the same on a live MariaDB server");
    Ok(ended)
}

const SOURCE: &str = "shop";

async fn live(mut config: Config, base: &Path, arguments: &Arguments) -> Result<Ended, Failure> {
    println!("Looking for MariaDB; what is missing is unpacked under .tools, nothing is installed.");
    let mut server = MariaDb::start(Options::default()).await?;
    println!("A private MariaDB listens on {}; a shop trades on it.", server.address());
    println!("The first {} changes, as a consumer sees them:\n", arguments.lines);
    let password = base.join(PASSWORD);
    std::fs::write(&password, server.user_password())?;
    let source = config.source.get_mut(SOURCE).expect("the demo's configuration has this source").get_mut();
    *source = live_source(source, &server, password);
    let started = Instant::now();
    let pipeline = wiring::open(&config, base, Arc::new(Head::new(arguments.lines)), Role::Run).await?;
    let (meter, read) = (pipeline.meters[SUBSCRIPTION].clone(), pipeline.fetched(SOURCE));
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(pipeline.run(stopped));
    let mut interrupted = shutdown::on_signal()?;
    let mut shop = Shop::create(server.root(), 7).await?.alter_at(arguments.transactions / 2);
    while shop.transactions() < arguments.transactions
        && !*interrupted.borrow_and_update()
        && !meter.figures().ended
    {
        shop.next_transaction().await?;
    }
    shop.close().await?;
    let end = end_of(&server).await?;
    tokio::select! {
        () = meter.wait(|figures| figures.position.scn >= end) => {}
        () = shutdown::stopped(&mut interrupted) => {}
    }
    stop.send_replace(true);
    let ended = running.await?;
    let figures = meter.figures();
    summary(&figures, read.changes(), started.elapsed(), "committed to delivered", &figures.lag_commit);
    server.stop().await?;
    Ok(ended)
}

/// The position behind everything that the server has committed.
async fn end_of(server: &Server) -> Result<Scn, Failure> {
    let (file, offset) = server.binlog_end().await?;
    let number = file.rsplit('.').next().and_then(|number| number.parse().ok());
    let end = number.and_then(|number| Scn::from_binlog(number, offset));
    end.ok_or_else(|| format!("the server names its binlog {file}, which has no number").into())
}

/// The demo's source, on a server in place of files.
fn live_source(of_files: &SourceConfig, server: &Server, password: PathBuf) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Mariadb,
        host: Some(server.address().ip().to_string()),
        port: Some(server.port()),
        user: Some(Server::USER.to_owned()),
        password: Some(SecretRef::File(password)),
        directory: None,
        ..of_files.clone()
    }
}

fn summary(figures: &Figures, changes: u64, took: Duration, lag_of: &str, lag: &crate::lag::Lag) {
    let ms = |q: f64| lag.quantile(q).as_secs_f64() * 1000.0;
    println!();
    println!(
        "  {:>8} transactions, {changes} changes captured in {:.2} s",
        figures.transactions_passed,
        took.as_secs_f64()
    );
    println!(
        "  {:>8} transactions, {} changes delivered to the consumer",
        figures.transactions, figures.changes
    );
    println!("  lag, {lag_of}: p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99));
    println!();
    println!("  look  examples/quickstart/tidemill.toml     the configuration that ran");
    println!("  look  guests/README.md                      a filter of your own in three lines");
}
