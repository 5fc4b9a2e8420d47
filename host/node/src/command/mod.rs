//! The commands, one file each.

pub mod bench;
pub mod check;
pub mod checkpoint;
pub mod clone;
pub mod consume;
pub mod demo;
pub mod relay;
pub mod snapshot;
pub mod tail;
pub mod up;
pub mod verify;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Change data capture with your own code in it: a database's committed transactions, in commit order, whole, through
/// Wasm guests.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sources and subscriptions of a configuration until told to stop (SIGINT or SIGTERM).
    Up(up::Arguments),
    /// Serve the sources of a configuration over HTTP until told to stop, without its subscriptions.
    Relay(relay::Arguments),
    /// Run subscriptions straight from upstream relays, without a log here, until told to stop.
    Consume(consume::Arguments),
    /// Print a source's changes as JSON lines: through its policy, without log or checkpoint.
    Tail(tail::Arguments),
    /// Look before the start: is the server ready for capture, do the guests load? Each finding says its fix.
    Check(Config),
    /// Look at the checkpoints of subscriptions, or move one. No process may run on the same data meanwhile.
    #[command(subcommand)]
    Checkpoint(checkpoint::Command),
    /// Look into snapshot storage where it lies, without the service that writes it.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Copy a source's tables into its snapshot storage, in parallel and without locks, and publish them. Goes on where an
    /// interrupted one stood.
    Clone(clone::Arguments),
    /// Compare a source with its snapshot storage, while both are in use: only real differences are reported.
    Verify(verify::Arguments),
    /// Watch a shop's real MySQL transactions flow through a policy, a filter, a mask and a consumer.
    Demo(demo::Arguments),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(bench::Command),
}

/// A configuration file.
#[derive(Debug, clap::Args)]
pub struct Config {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    pub config: PathBuf,
}
