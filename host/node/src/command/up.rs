//! `tidemill up`: the sources and subscriptions of a configuration, in this process; where there is a `[relay]` table,
//! the sources are served too.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tracing::info;

use crate::command::relay;
use crate::config::Config;
use crate::wiring::{self, Role};
use crate::{Failure, shutdown, stdout};

/// What `up` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// End when everything that the sources have committed by now is delivered, instead of waiting for more. Serves
    /// nobody meanwhile.
    #[arg(long)]
    once: bool,
}

/// Runs until told to stop, or until every source has ended and everything is delivered.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let path = &arguments.config;
    let config = Config::load(path)?;
    if config.relay.is_some() && !arguments.once {
        let ended = relay::serve(config, path, Role::RunAndServe).await?;
        return Ok(if ended.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let stop = shutdown::on_signal()?;
    let base = path.parent().unwrap_or(Path::new("."));
    let role = if arguments.once { Role::Once } else { Role::Run };
    let pipeline = wiring::open(&config, base, Arc::new(stdout::Process), role).await?;
    let meters = pipeline.meters.clone();
    let ended = pipeline.run(stop).await;
    for (name, figures) in wiring::figures(&meters) {
        let (transactions, changes) = (figures.transactions, figures.changes);
        info!(subscription = %name, at = %figures.position, transactions, changes, "subscription ended");
    }
    Ok(if ended.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
