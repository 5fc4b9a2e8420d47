//! `tidemill check`: looks before the start. Every finding says its fix.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tidemill_client::{RelayFeed, Start};
use tidemill_fetchers_mysql::{Finding, Level, preflight};
use tidemill_sandbox::{BoxError, Sandbox, SandboxConfig};

use crate::config::{Config, SourceConfig, SourceKind};
use crate::guests::{Guests, OpenError};
use crate::serving::{self, Registered};
use crate::{Failure, fetch, wiring};
use tidemill_event::chain;

/// Checks sources, guests and the relay; fails where something would keep them from running.
pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    let config = Arc::new(Config::load(path)?);
    let base = path.parent().unwrap_or(Path::new("."));
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config: &config, base };
    let mut errors = 0;
    for (name, source) in &config.source {
        println!("source {name}");
        errors += report(&source_findings(name, source.get_ref()).await);
        if let Some(history) = &source.get_ref().history {
            errors += report(&history_findings(name, &history.url).await);
        }
        errors += report(&guest_finding(fetch::open_policy(name, source.get_ref(), &guests).map(drop)));
    }
    for (name, subscription) in &config.subscription {
        println!("subscription {name}");
        let subscription = subscription.get_ref();
        for filter in &subscription.filter {
            errors += report(&guest_finding(guests.filter(&subscription.source, filter).map(drop)));
        }
        for projection in &subscription.projection {
            errors += report(&guest_finding(guests.projection(&subscription.source, projection).map(drop)));
        }
        let nothing = Arc::new(|_: &[u8]| Ok::<_, BoxError>(None::<Vec<u8>>));
        let consumer = guests.consumer(&subscription.source, &subscription.consumer, nothing).await;
        errors += report(&guest_finding(consumer.map(drop)));
        if let Some(server) = subscription.copy.as_ref().and_then(|copy| copy.server.as_deref()) {
            errors += report(&source_findings("copy.server", server).await);
        }
    }
    for (name, bootstrap) in &config.bootstrap {
        println!("snapshot storage of {name}");
        errors += report(&storage_findings(&config, name).await);
        if let Some(server) = bootstrap.get_ref().clone.server.as_deref() {
            errors += report(&source_findings("clone.server", server).await);
        }
    }
    if let Some(relay) = &config.relay {
        println!("relay");
        let registered = Registered::new(sandbox.clone(), Arc::clone(&config), base);
        let checked = serving::check(relay.get_ref(), registered);
        errors +=
            report(&failed(checked.map_err(|e| chain(&*e)), "mend the [relay] table, or what it names"));
    }
    println!("{}", if errors == 0 { "ready" } else { "not ready: mend the errors above" });
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The error, with what mends it.
fn failed(checked: Result<(), String>, fix: &str) -> Vec<Finding> {
    let finding = |what| Finding { level: Level::Error, what, fix: fix.to_owned() };
    checked.err().map(finding).into_iter().collect()
}

/// Whether the relays serve the source, and to us.
async fn relay_findings(name: &str, source: &SourceConfig) -> Vec<Finding> {
    let options = fetch::relay_options(name, source).map_err(|e| chain(&e));
    let feed = options.and_then(|options| RelayFeed::new(options, Start::Now).map_err(|e| chain(&e)));
    let served = match feed {
        Ok(feed) => feed.source().await.map(drop).map_err(|e| chain(&e)),
        Err(error) => Err(error),
    };
    failed(served, "let one of `relays` serve this source and grant it to this token or certificate")
}

/// Whether the history's store takes objects, gives them back and keeps the first of a name.
async fn history_findings(name: &str, url: &str) -> Vec<Finding> {
    let probed = wiring::probe_history(name, url).await.map_err(|e| chain(&*e));
    let fix = "give `url` a store that exists, and the environment the credentials to write there";
    failed(probed.map_err(|e| format!("the change history cannot be kept at {url}: {e}")), fix)
}

/// The same of snapshot storage.
async fn storage_findings(config: &Config, name: &str) -> Vec<Finding> {
    let url = &config.bootstrap[name].get_ref().store;
    let probed = wiring::probe_storage(name, url).await.map_err(|e| chain(&*e));
    let fix = "give `store` a place that exists, and the environment the credentials to write there";
    failed(probed.map_err(|e| format!("snapshots cannot be kept at {url}: {e}")), fix)
}

async fn source_findings(name: &str, source: &SourceConfig) -> Vec<Finding> {
    let error = |what: String, fix: &str| failed(Err(what), fix);
    if source.kind == SourceKind::Relay {
        return relay_findings(name, source).await;
    }
    if source.kind == SourceKind::BinlogFiles {
        return match fetch::origin(source) {
            Ok(_) => vec![],
            Err(e) => error(chain(&e), "point `directory` at the folder of the binlog files"),
        };
    }
    match fetch::server_options(source) {
        Ok(options) => preflight(&options).await,
        Err(e) => error(chain(&e), "export the variable, or write the file, before the start"),
    }
}

fn guest_finding(opened: Result<(), OpenError>) -> Vec<Finding> {
    failed(opened.map_err(|e| chain(&e)), "mend this guest's table")
}

/// Prints findings; gives the number of errors.
fn report(findings: &[Finding]) -> usize {
    for finding in findings {
        let mark = match finding.level {
            Level::Error => "ERROR  ",
            Level::Warning => "warning",
            Level::Note => "note   ",
        };
        println!("  {mark} {}\n          fix: {}", finding.what, finding.fix);
    }
    findings.iter().filter(|f| f.level == Level::Error).count()
}
