//! The fetcher alone, draining a backlog into windows: from a live server and from its files.
//!
//! `cargo bench -p tidemill-fetchers-mysql -- [--changes N] [--rounds N] [mysql|mariadb]`; one JSON object a line.
//! `--keep DIRECTORY` copies the binlog files there; `--directory DIRECTORY` drains those and needs no server.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Instant;

use tidemill_event::TableSchema;
use tidemill_fetchers_api::{Fetcher, Selector, Start};
use tidemill_fetchers_mysql::{FileOptions, MySqlFetcher, Origin, Password, ServerOptions};
use tidemill_servers::workload::Backlog;
use tidemill_servers::{Kind, Options, Server};
use tidemill_world::usage::Usage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

async fn drain(name: &str, origin: Origin, changes: u64) {
    let selector: Selector = Arc::new(|schema: &Arc<TableSchema>| Ok(schema.name().database == "backlog"));
    let mut fetcher = MySqlFetcher::open("bench", origin, Start::Earliest, selector).await.unwrap();
    let (cpu, wall) = (Usage::now().cpu.as_secs_f64(), Instant::now());
    let (mut windows, mut images) = (0u64, 0u64);
    while fetcher.counters().changes < changes {
        let Some(window) = fetcher.next().await.unwrap() else { break };
        windows += 1;
        images += window.row_count() as u64;
    }
    let (cpu, wall) = (Usage::now().cpu.as_secs_f64() - cpu, wall.elapsed().as_secs_f64());
    let counters = fetcher.counters();
    assert_eq!(counters.changes, changes);
    println!(
        r#"{{"bench":"{name}","rows":{changes},"images":{images},"windows":{windows},"rows_per_s":{:.0},"mb_per_s":{:.0},"cpu_s_per_million_rows":{:.3},"peak_rss_mib":{:.0}}}"#,
        changes as f64 / wall,
        counters.bytes as f64 / wall / 1e6,
        cpu / changes as f64 * 1e6,
        Usage::now().peak_rss as f64 / f64::from(1 << 20),
    );
}

async fn run(kind: Kind, changes: u64, rounds: usize, keep: Option<&str>) {
    let server = Server::start(kind, Options::for_load()).await.unwrap();
    let backlog = Backlog { changes, connections: 2, seed: 7 };
    let changes = backlog.write(server.root()).await.unwrap().changes();
    if let Some(directory) = keep {
        for file in server.binlog_files().unwrap() {
            std::fs::copy(&file, std::path::Path::new(directory).join(file.file_name().unwrap())).unwrap();
        }
    }
    for _ in 0..rounds {
        let password = Password::new(server.user_password());
        let live = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
        drain(&format!("{kind} live"), Origin::Server(live), changes).await;
        let files = FileOptions::directory(server.datadir(), "binlog");
        drain(&format!("{kind} files"), Origin::Files(files), changes).await;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].as_str());
    let number = |name: &str, default: u64| text(name).map_or(default, |n| n.parse().unwrap());
    let (changes, rounds) = (number("--changes", 1_000_000), number("--rounds", 3) as usize);
    let wanted = |kind: &str, other: &str| {
        arguments.iter().any(|a| a == kind) || !arguments.iter().any(|a| a == other)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Some(directory) = text("--directory") {
            for _ in 0..rounds {
                let files = FileOptions::directory(directory, "binlog");
                drain("files", Origin::Files(files), changes).await;
            }
            return;
        }
        if wanted("mysql", "mariadb") {
            run(Kind::MySql, changes, rounds, text("--keep")).await;
        }
        if wanted("mariadb", "mysql") {
            run(Kind::MariaDb, changes, rounds, text("--keep")).await;
        }
    });
}
