//! Fan-out: a relay in a process of its own, and any number of subscribers over HTTP. Two questions: how long from the
//! commit to every subscriber under a steady load, with and without subscribers that stand still; and how fast, and at
//! what cost, a log is served from memory. Every run ends with a check that each subscriber got every byte, once.

mod live;
mod serve;
mod subscriber;
mod tested;

use std::process::ExitCode;

use serde_json::{Value, json};

use super::Family;
use crate::Failure;

/// Fan-out.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Numbers of subscribers, each measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 500])]
    pub subscribers: Vec<usize>,
    /// Transactions a second of the steady load.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,
    /// How long each number of subscribers is measured; one second before it warms up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Subscribers that never read, for a second measurement beside them; 0: none.
    #[arg(long, default_value_t = 1)]
    pub stalled: usize,
    /// Turns of each measurement, with and without those in turn; the one with the median p99 is reported.
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// Whose binlog.
    #[arg(long, value_enum, default_value_t = Family::Mysql)]
    pub server: Family,
    /// Changes of the log that is served from memory; 0: only the steady load is measured.
    #[arg(long, default_value_t = 400_000)]
    pub changes: u64,
    /// Megabytes that all subscribers of one number read together from memory, at least.
    #[arg(long, default_value_t = 4000)]
    pub megabytes: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the benchmark and prints its figures.
pub async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let live = live::run(arguments).await?;
    let served = if arguments.changes == 0 { Vec::new() } else { serve::run(arguments).await? };
    if arguments.json {
        let live: Vec<Value> = live.iter().map(live::Turn::object).collect();
        let served: Vec<Value> = served.iter().map(serve::Turn::object).collect();
        println!("{}", json!({ "rate": arguments.rate, "live": live, "memory": served }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("fanout: {} transactions/s for {} s, commit to subscriber", arguments.rate, arguments.seconds);
    live.iter().for_each(live::Turn::print);
    if !served.is_empty() {
        println!("fanout: a log served from memory");
    }
    served.iter().for_each(serve::Turn::print);
    Ok(ExitCode::SUCCESS)
}
