//! The whole path: fetch, log, filter, consumer, commit, through the same wiring as `up`.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::{Loaded, Measured, Origin};
use crate::Failure;
use crate::config::Config;
use crate::stdout::Head;
use crate::usage::Usage;
use crate::wiring::{self, Role};

/// The filter passes nine rows in ten; the consumer hashes every value of the rest.
const SUBSCRIPTION: &str = r#"
[subscription.bench]
source = "bench"
[[subscription.bench.filter]]
module = "builtin:where"
config = { where = "small is null or small < 900" }
[subscription.bench.consumer]
module = "builtin:replica-check"
"#;

/// Drains the backlog once through a pipeline with a directory of its own.
pub async fn drain(loaded: &Loaded) -> Result<Measured, Failure> {
    let scratch = tempfile::Builder::new().prefix("tidemill-bench-").tempdir()?;
    let path = scratch.path().join("tidemill.toml");
    std::fs::write(scratch.path().join("password"), loaded.server.user_password())?;
    let text = format!("data = \"data\"\n[source.bench]\n{}\n{SUBSCRIPTION}", source(loaded));
    let config = Config::parse(&text, &path)?.based_on(scratch.path());
    let pipeline = wiring::open(&config, scratch.path(), Arc::new(Head::new(0)), Role::Run).await?;
    let meter = pipeline.meters["bench"].clone();
    let read = pipeline.fetched("bench");
    let (before, started) = (Usage::now(), Instant::now());
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(pipeline.run(stopped));
    let all = |position| read.changes() >= loaded.changes && position >= read.position();
    meter.wait(|figures| all(figures.position)).await;
    let measured = loaded.measured(read.changes(), started, before, Some(meter.figures().lag_read));
    stop.send_replace(true);
    let ended = running.await?;
    if let Some(paused) = ended.paused.into_iter().next() {
        return Err(paused.into());
    }
    if let Some(stopped) = ended.stopped.into_iter().next() {
        return Err(stopped.into());
    }
    measured
}

fn source(loaded: &Loaded) -> String {
    match loaded.from {
        Origin::Files => {
            let directory = loaded.server.datadir();
            format!("kind = \"binlog-files\"\ndirectory = {:?}\nbase = \"binlog\"", directory)
        }
        Origin::Live => format!(
            "kind = \"mysql\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\npassword = {{ file = \"password\" }}",
            loaded.server.port(),
            tidemill_servers::Server::USER,
        ),
    }
}
