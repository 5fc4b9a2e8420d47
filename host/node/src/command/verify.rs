//! `tidemill verify`: a source against its snapshot storage, while both are in use. Only real differences are reported.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use tidemill_bootstrap_clone::Policy;
use tidemill_bootstrap_service::verify::{Difference, DifferenceKind, TableReport, Verify, VerifyOptions};
use tidemill_event::chain;
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_sandbox::{Sandbox, SandboxConfig};

use crate::config::{Config, Time};
use crate::guests::Guests;
use crate::{Failure, bootstrap, fetch};

/// What `verify` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// One JSON object a table.
    #[arg(long)]
    json: bool,
    /// How long to wait until the store has reached what the source was read at.
    #[arg(long, default_value = "5 min", value_parser = |text: &str| Time::try_from(text.to_owned()))]
    patience: Time,
    /// The source; may be left out where only one has a [bootstrap.NAME] table.
    #[arg(long)]
    source: Option<String>,
    /// The tables, as `database.table`; all of the store unless given.
    table: Vec<String>,
}

/// Compares; fails where something differs, or could not be compared.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config)?;
    let base = arguments.config.parent().unwrap_or(Path::new("."));
    let name = bootstrap::choose(&config, arguments.source.as_deref())?;
    let verify = open(&config, base, name, &arguments)?;
    let tables = match arguments.table.is_empty() {
        true => verify.tables().await?,
        false => arguments.table.iter().map(|t| bootstrap::table_name(t)).collect::<Result<_, _>>()?,
    };
    if tables.is_empty() {
        return Err(format!("the store of `{name}` has no tables yet; run `tidemill up` first").into());
    }
    let mut well = true;
    for table in tables {
        match verify.table(&table).await {
            Ok(report) => {
                well &= report.differences.is_empty() && report.unjudged.is_empty();
                if arguments.json { print_json(&report) } else { print(&report) }
            }
            Err(error) => {
                well = false;
                match arguments.json {
                    true => println!("{}", json!({ "table": table.to_string(), "error": chain(&error) })),
                    false => println!("{table}: not compared: {}", chain(&error)),
                }
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(
    config: &Config,
    base: &Path,
    name: &str,
    arguments: &Arguments,
) -> Result<Verify<MySqlExtract>, Failure> {
    let source = config.source[name].get_ref();
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let policy = fetch::open_policy(name, source, &Guests { sandbox: &sandbox, config, base })?;
    let policy = policy.map_or_else(Policy::none, Policy::shared);
    let extract = fetch::extract(source)?;
    let store = bootstrap::open_store(config, name)?;
    let options = VerifyOptions { patience: arguments.patience.0, ..VerifyOptions::default() };
    Ok(Verify::new(extract, policy, store, options))
}

fn word(kind: DifferenceKind) -> &'static str {
    match kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Extra => "extra",
        DifferenceKind::Different => "different",
    }
}

fn print(report: &TableReport) {
    let TableReport { table, rows, version, differences, unjudged } = report;
    let found = match differences.len() {
        0 => "no difference".to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    };
    println!("{table}: {found} in {rows} rows, at version {version}");
    for Difference { key, kind } in differences {
        println!("  {:<9} {key}", word(*kind));
    }
    for key in unjudged {
        println!("  changes all the time, not judged: {key}");
    }
}

fn print_json(report: &TableReport) {
    let difference = |d: &Difference| json!({ "kind": word(d.kind), "key": d.key });
    println!(
        "{}",
        json!({
            "table": report.table.to_string(),
            "rows": report.rows,
            "version": report.version,
            "differences": report.differences.iter().map(difference).collect::<Vec<_>>(),
            "unjudged": report.unjudged,
        })
    );
}
