//! Fills a private server with a backlog and says how long it took: `cargo run --release -p tidemill-servers --example fill -- mysql 1000000`.

use std::{error::Error, time::Instant};

use tidemill_servers::{Kind, Options, Server, workload::Backlog};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: fill mysql|mariadb CHANGES";
    let mut arguments = std::env::args().skip(1);
    let kind = match arguments.next().as_deref() {
        Some("mysql") => Kind::MySql,
        Some("mariadb") => Kind::MariaDb,
        _ => return Err(usage.into()),
    };
    let changes = arguments.next().ok_or(usage)?.parse()?;
    let begin = Instant::now();
    let mut server = Server::start(kind, Options::for_load()).await?;
    println!("{kind} answers after {:.2} s", begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    let count = Backlog { changes, connections: 2, seed: 1 }.write(server.root()).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let bytes: u64 =
        server.binlog_files()?.iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum();
    println!(
        "{} changes in {seconds:.1} s, {} bytes of binlog a change: {count:?}",
        count.changes(),
        bytes / count.changes()
    );
    server.stop().await?;
    Ok(())
}
