//! The tidemill binary: one process that can hold every role. This file parses the command line and reports how it
//! ended; the roles are put together in `wiring`.

mod bootstrap;
mod command;
mod comparison;
mod config;
mod copy;
mod fetch;
mod guests;
mod handle;
mod lag;
mod metrics;
mod operator;
mod serving;
mod shutdown;
mod source;
mod status;
mod stdout;
mod subscription;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use command::{Arguments, Command};
// What benchmarks and metrics show of this process.
use tidemill_world::usage;

/// Decoding allocates and frees column buffers all the time; an allocator that keeps them doubles its speed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a command may fail with: its chain is printed, then the process ends with 1.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEMILL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,tidemill=info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // One JSON object a line, for programs that read logs.
    if std::env::var_os("TIDEMILL_LOG_FORMAT").is_some_and(|format| format == "json") {
        log.json().flatten_event(true).init();
    } else {
        log.init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidemill: {}", tidemill_event::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(arguments) => command::up::run(arguments).await,
        Command::Consume(arguments) => command::consume::run(arguments).await,
        Command::Relay(arguments) => command::relay::run(arguments).await,
        Command::Tail(arguments) => command::tail::run(arguments).await,
        Command::Check(arguments) => command::check::run(&arguments.config).await,
        Command::Checkpoint(command) => command::checkpoint::run(command).await,
        Command::Snapshot(command) => command::snapshot::run(command).await,
        Command::Clone(arguments) => command::clone::run(arguments).await,
        Command::Verify(arguments) => command::verify::run(arguments).await,
        Command::Demo(arguments) => command::demo::run(arguments).await,
        Command::Bench(command) => command::bench::run(command).await,
    }
}
