//! A table read in chunks over one connection: ten columns, of numbers, times and texts.
//!
//! `cargo bench -p tidemill-fetchers-mysql --bench extract -- [--rows N] [--rounds N] [mysql|mariadb]`; one JSON object a line.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::time::Instant;

use tidemill_event::TableName;
use tidemill_fetchers_api::Selector;
use tidemill_fetchers_api::extract::{Bound, ChunkRead, Extract, ExtractSession};
use tidemill_fetchers_mysql::{MySqlExtract, Password, ServerOptions, Settings};
use tidemill_servers::{Kind, Options, Server};
use tidemill_world::usage::Usage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id BIGINT PRIMARY KEY, customer INT NOT NULL, state TINYINT NOT NULL, \
     price DECIMAL(12,2) NOT NULL, weight DOUBLE, day DATE NOT NULL, made DATETIME(6) NOT NULL, name VARCHAR(40) NOT NULL, \
     street VARCHAR(100), note VARCHAR(200))";
const CHUNK_ROWS: u64 = 50_000;

async fn fill(server: &Server, rows: u64) {
    server.sql(TABLE).await.unwrap();
    let mut made = 0;
    while made < rows {
        let numbers: Vec<String> = (made..rows.min(made + 1000)).map(|n| format!("({n})")).collect();
        let row = "n, n % 1000, n % 7, n / 7, n / 3e0, DATE'2026-01-01' + INTERVAL n % 365 DAY, \
                   TIMESTAMP'2026-01-01 00:00:00' + INTERVAL n SECOND, CONCAT('Customer ', n), \
                   CONCAT(n % 100, ' Mill Street, Tidewater'), IF(n % 3 = 0, NULL, 'left at the door')";
        let values = if server.kind().is_mysql() {
            format!("SELECT {row} FROM (VALUES {}) AS v (n)", numbers.join(", ").replace('(', "ROW("))
        } else {
            format!("SELECT {row} FROM (SELECT {made} + seq AS n FROM seq_0_to_{}) AS v", numbers.len() - 1)
        };
        server.sql(&format!("USE d; INSERT INTO t {values}")).await.unwrap();
        made += numbers.len() as u64;
    }
}

async fn run(kind: Kind, rows: u64, rounds: usize) {
    let server = Server::start(kind, Options::for_load()).await.unwrap();
    fill(&server, rows).await;
    let selector: Selector = std::sync::Arc::new(|_| Ok(true));
    let password = Password::new(server.user_password());
    let options = ServerOptions::new("127.0.0.1", server.port(), Server::USER, password);
    let extract = MySqlExtract::new(options, &Settings::from(selector));
    let table = extract.describe(&TableName::new("d", "t")).await.unwrap().unwrap();
    let columns: Vec<u32> = (0..table.schema.columns().len() as u32).collect();
    let mut session = extract.open().await.unwrap();
    for _ in 0..rounds {
        let (cpu, wall) = (Usage::now().cpu.as_secs_f64(), Instant::now());
        let (mut read, mut bytes, mut bounds_s) = (0u64, 0u64, 0.0);
        let mut after: Option<Bound> = None;
        loop {
            let asked = Instant::now();
            let upto = session.bound(&table, after.as_ref(), CHUNK_ROWS).await.unwrap();
            bounds_s += asked.elapsed().as_secs_f64();
            let chunk = ChunkRead {
                table: &table,
                columns: &columns,
                conditions: &[],
                after: after.as_ref(),
                upto: upto.as_ref(),
            };
            let mut give = |batch: arrow_array::RecordBatch| {
                read += batch.num_rows() as u64;
                bytes += batch.get_array_memory_size() as u64;
                true
            };
            session.read(&chunk, &mut give).await.unwrap();
            if upto.is_none() {
                break;
            }
            after = upto;
        }
        let (cpu, wall) = (Usage::now().cpu.as_secs_f64() - cpu, wall.elapsed().as_secs_f64());
        assert_eq!(read, rows);
        println!(
            r#"{{"bench":"extract {kind}","rows":{rows},"rows_per_s":{:.0},"client_cpu_ns_per_row":{:.0},"bytes_per_row":{},"bounds_share":{:.2}}}"#,
            rows as f64 / wall,
            cpu / rows as f64 * 1e9,
            bytes / rows,
            bounds_s / wall,
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = |name: &str| arguments.iter().position(|a| a == name).map(|at| arguments[at + 1].as_str());
    let number = |name: &str, default: u64| text(name).map_or(default, |n| n.parse().unwrap());
    let (rows, rounds) = (number("--rows", 1_000_000), number("--rounds", 3) as usize);
    let wanted = |kind: &str, other: &str| {
        arguments.iter().any(|a| a == kind) || !arguments.iter().any(|a| a == other)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("mysql", "mariadb") {
            run(Kind::MySql, rows, rounds).await;
        }
        if wanted("mariadb", "mysql") {
            run(Kind::MariaDb, rows, rounds).await;
        }
    });
}
