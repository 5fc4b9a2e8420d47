//! A log served from memory, as fast as its subscribers take it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_event::{Decoded, Frame, SchemaSet, decode};
use tidemill_servers::workload::Backlog;
use tidemill_servers::{Options, Server};
use tokio::task::JoinSet;

use super::Arguments;
use super::subscriber::{Frames, Subscriber};
use super::tested::Tested;
use crate::Failure;

/// One measurement.
pub struct Turn {
    subscribers: usize,
    bytes: u64,
    wall: Duration,
    /// The relay's processor time.
    cpu: Duration,
    peak_rss: u64,
}

/// The stream that every subscriber must get: its length, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stream {
    bytes: u64,
    crc: u32,
}

/// Measures every number of subscribers.
pub async fn run(arguments: &Arguments) -> Result<Vec<Turn>, Failure> {
    let kind = arguments.server.kind();
    eprintln!("writing a backlog of {} changes to a private {kind} server", arguments.changes);
    let mut server = Server::start(kind, Options::for_load()).await?;
    let backlog = Backlog { changes: arguments.changes, connections: 4, seed: 7 };
    let changes = backlog.write(server.root()).await?.changes();
    let relay = Tested::start(&server, "log = { memory = \"4 GiB\" }").await?;
    let first = fill(&relay, changes).await?;
    let mut turns = Vec::new();
    for subscribers in arguments.subscribers.iter().copied() {
        let rounds = (arguments.megabytes * 1_000_000 / (first.bytes * subscribers as u64)).max(1);
        eprintln!("{subscribers} subscribers read {} MB, {rounds} times", first.bytes / 1_000_000);
        turns.push(turn(&relay, subscribers, rounds, first).await?);
    }
    drop(relay);
    server.stop().await?;
    Ok(turns)
}

/// Follows until the log holds every change, and gives the stream that it then is.
async fn fill(relay: &Tested, changes: u64) -> Result<Stream, Failure> {
    let path = "/v1/sources/bench/changes?from=earliest&format=frames&follow=true";
    let mut subscriber = Subscriber::open(relay.address(), path, usize::MAX).await?;
    let (mut frames, mut schemas, mut seen) = (Frames::default(), SchemaSet::default(), 0);
    while seen < changes {
        let mut failed = Ok(());
        let mut each = |frame: &[u8]| {
            match decode(&Frame::read(frame)?, &schemas)? {
                Decoded::Schema(schema) => drop(schemas.insert(schema)),
                Decoded::Window(window) => seen += window.source_change_count(),
            }
            Ok(())
        };
        if !subscriber.read(|piece| failed = frames.feed(piece, &mut each)).await? {
            return Err("the relay ended the answer".into());
        }
        failed?;
    }
    read_all(relay.address()).await
}

async fn turn(relay: &Tested, subscribers: usize, rounds: u64, expected: Stream) -> Result<Turn, Failure> {
    let (address, cpu, begun) = (relay.address(), relay.cpu(), Instant::now());
    let mut all = JoinSet::new();
    for _ in 0..subscribers {
        all.spawn(async move {
            for _ in 0..rounds {
                let read = read_all(address).await?;
                if read != expected {
                    return Err(Failure::from(format!("{read:?} came instead of {expected:?}")));
                }
            }
            Ok(())
        });
    }
    while let Some(one) = all.join_next().await {
        one??;
    }
    let (wall, cpu) = (begun.elapsed(), relay.cpu().saturating_sub(cpu));
    let bytes = expected.bytes * rounds * subscribers as u64;
    Ok(Turn { subscribers, bytes, wall, cpu, peak_rss: relay.peak_rss() })
}

async fn read_all(address: std::net::SocketAddr) -> Result<Stream, Failure> {
    let path = "/v1/sources/bench/changes?from=earliest&format=frames&follow=false";
    let mut subscriber = Subscriber::open(address, path, usize::MAX).await?;
    let mut stream = Stream { bytes: 0, crc: 0 };
    let mut more = true;
    while more {
        let take = |piece: &[u8]| {
            stream.bytes += piece.len() as u64;
            stream.crc = crc32c::crc32c_append(stream.crc, piece);
        };
        more = subscriber.read(take).await?;
    }
    Ok(stream)
}

impl Turn {
    fn figures(&self) -> [f64; 2] {
        let gigabytes = self.bytes as f64 / 1e9;
        [gigabytes * 1000.0 / self.wall.as_secs_f64(), self.cpu.as_secs_f64() / gigabytes]
    }

    /// Its figures as JSON.
    pub fn object(&self) -> Value {
        let [mb_per_s, cpu] = self.figures();
        json!({
            "subscribers": self.subscribers, "mb_per_s": mb_per_s, "relay_cpu_s_per_gb": cpu,
            "relay_peak_rss_mib": self.peak_rss >> 20,
        })
    }

    /// Its figures for people.
    pub fn print(&self) {
        let ([mb_per_s, cpu], rss) = (self.figures(), self.peak_rss >> 20);
        let subscribers = self.subscribers;
        println!(
            "  {subscribers} subscribers: {mb_per_s:.0} MB/s, relay {cpu:.2} CPU-seconds per GB, peak RSS {rss} MiB"
        );
    }
}
