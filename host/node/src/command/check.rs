//! `tidemill check`: looks before the start. Every finding says its fix.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tidemill_fetchers_mysql::{Finding, Level, preflight};
use tidemill_sandbox::{BoxError, Sandbox, SandboxConfig};

use crate::config::{Config, SourceConfig, SourceKind};
use crate::guests::{Guests, OpenError};
use crate::report::chain;
use crate::{Failure, fetch};

/// Checks sources and guests; fails where something would keep `up` from running.
pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(path)?;
    let base = path.parent().unwrap_or(Path::new("."));
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config: &config, base };
    let mut errors = 0;
    for (name, source) in &config.source {
        println!("source {name}");
        errors += report(&source_findings(source.get_ref()).await);
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
    }
    println!("{}", if errors == 0 { "ready" } else { "not ready: mend the errors above" });
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn source_findings(source: &SourceConfig) -> Vec<Finding> {
    let error = |what: String, fix: &str| vec![Finding { level: Level::Error, what, fix: fix.to_owned() }];
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
    let finding =
        |e| Finding { level: Level::Error, what: chain(&e), fix: "mend this guest's table".to_owned() };
    opened.err().map(finding).into_iter().collect()
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
