//! `tidemill relay`: the sources of a configuration, served to others. No subscription runs here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::serving::{self, Registered};
use crate::wiring::{self, Role};
use crate::{Failure, shutdown, stdout};

/// What `relay` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
}

/// Serves until told to stop.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config)?;
    if config.relay.is_none() {
        let path = arguments.config.display();
        return Err(format!("{path}: there is no [relay] table; add one, if only with `listen`").into());
    }
    let ended = serve(config, &arguments.config, Role::Serve).await?;
    Ok(if ended.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the sources of a configuration with a `[relay]` table, and in that role its subscriptions, and serves.
pub async fn serve(config: Config, path: &Path, role: Role) -> Result<wiring::Ended, Failure> {
    let stop = shutdown::stopping()?;
    let base = path.parent().unwrap_or(Path::new("."));
    let mut pipeline = wiring::open(&config, base, Arc::new(stdout::Process), role).await?;
    let config = Arc::new(config);
    let registered = Registered::new(pipeline.sandbox.clone(), Arc::clone(&config), base);
    registered.check()?;
    let table = config.relay.as_ref().expect("the caller looked").get_ref();
    let relay = serving::open(table, registered, &pipeline, stop.clone())?;
    pipeline.serve(relay, stop.clone());
    Ok(pipeline.run(stop.subscribe()).await)
}
