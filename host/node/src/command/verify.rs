//! `tidemill verify`: a source against its snapshot storage, or against what a subscription has written, while all are in use.
//! Only real differences are reported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tidemill_bootstrap_service::verify::{Replica, Shape, Verify, VerifyOptions};
use tidemill_client::{ClientTls, RelayOptions, Reports, Token};
use tidemill_event::TableName;
use tidemill_fetchers_mysql::MySqlExtract;
use tidemill_sandbox::{Sandbox, SandboxConfig};
use tidemill_sink::EmbeddedStore;

use crate::comparison::{self, Asked, Report};
use crate::config::{Config, RelayConfig, Time};
use crate::guests::Guests;
use crate::{Failure, bootstrap, fetch, wiring};

/// What `verify` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// One JSON object a table.
    #[arg(long)]
    json: bool,
    /// How long to wait until the other side has reached what the source was read at.
    #[arg(long, default_value = "5 min", value_parser = |text: &str| Time::try_from(text.to_owned()))]
    patience: Time,
    /// The source; may be left out where only one has a [bootstrap.NAME] table.
    #[arg(long, conflicts_with = "subscription")]
    source: Option<String>,
    /// Compare with the output tables of this subscription instead of snapshot storage. Where a process runs it, that one
    /// compares: it is asked through its relay.
    #[arg(long, value_name = "NAME")]
    subscription: Option<String>,
    /// An output table that is a copy of a table of the source and not named after it, as DATABASE.TABLE=OUTPUT.
    #[arg(long, value_name = "TABLE=OUTPUT", requires = "subscription", value_parser = mapped)]
    map: Vec<(String, String)>,
    /// Where the process listens that runs the subscription; what [relay] says unless given.
    #[arg(long, value_name = "URL", requires = "subscription")]
    relay: Option<String>,
    /// The authorities that may have signed that process's certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "relay")]
    ca: Option<PathBuf>,
    /// The tables, as `database.table`; all of them unless given.
    table: Vec<String>,
}

fn mapped(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(table, output)| !table.is_empty() && !output.is_empty());
    let (table, output) = parts.ok_or("write DATABASE.TABLE=OUTPUT")?;
    Ok((table.to_owned(), output.to_owned()))
}

/// What was found, as it comes.
struct Findings {
    as_json: bool,
    count: u64,
    are_well: bool,
}

/// Compares; fails where something differs, or could not be compared.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config)?;
    let mut findings = Findings { as_json: arguments.json, count: 0, are_well: true };
    match &arguments.subscription {
        Some(name) => subscription(&config, name, &arguments, &mut findings).await?,
        None => storage(&config, &arguments, &mut findings).await?,
    }
    Ok(if findings.are_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn storage(config: &Config, arguments: &Arguments, findings: &mut Findings) -> Result<(), Failure> {
    let name = bootstrap::choose(config, arguments.source.as_deref())?;
    let source = config.source[name].get_ref();
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config, base: base(arguments) };
    let policy = fetch::reading_policy(name, source, &guests, 1)?;
    let options = VerifyOptions { patience: arguments.patience.0, ..VerifyOptions::default() };
    let store = bootstrap::open_store(config, name)?;
    let verify = Verify::new(fetch::extract(source)?, Shape::stored(name, policy), store, options);
    let tables = arguments.table.iter().map(|t| bootstrap::table_name(t)).collect::<Result<_, _>>()?;
    findings.add_all(&verify, tables).await?;
    if findings.count == 0 {
        return Err(format!("the store of `{name}` has no tables yet; run `tidemill up` first").into());
    }
    Ok(())
}

async fn subscription(
    config: &Config,
    name: &str,
    arguments: &Arguments,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let Some(found) = config.subscription.get(name) else {
        let known = config.subscription.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(format!("there is no subscription `{name}`; there are: {known}").into());
    };
    let map: BTreeMap<String, String> = arguments.map.iter().cloned().collect();
    let asked = Asked::read(&arguments.table, &map, arguments.patience.0)?;
    // Asked first whether it can be: a message about the store would lead astray.
    fetch::extract(config.source[&found.get_ref().source].get_ref())?;
    match EmbeddedStore::open(&wiring::store_path(config)) {
        Ok(store) => at_rest(config, name, store, asked, arguments, findings).await?,
        Err(error) if error.is_in_use() => {
            let options = process(config, arguments).map_err(|what| {
                format!("a process has the output of `{name}`, and it cannot be asked: {what}")
            })?;
            let body = serde_json::json!({
                "tables": arguments.table,
                "map": map,
                "patience_seconds": arguments.patience.0.as_secs(),
            });
            let mut reports = Reports::compare(&options, name, body.to_string()).await?;
            while let Some(report) = reports.next().await? {
                findings.add(&serde_json::from_slice(&report)?);
            }
        }
        Err(error) => return Err(error.into()),
    }
    if findings.count == 0 {
        let what =
            "has written no table that is named after one of its source; say which is which with --map";
        return Err(format!("subscription `{name}` {what}").into());
    }
    Ok(())
}

/// Nobody runs the subscription: what it has is all that it will have, so nothing is waited for.
async fn at_rest(
    config: &Config,
    name: &str,
    store: EmbeddedStore,
    asked: Asked,
    arguments: &Arguments,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let log = wiring::open_log(config, &config.subscription[name].get_ref().source).await?;
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config, base: base(arguments) };
    let asked = Asked { patience: Duration::ZERO, ..asked };
    let verify = comparison::open(&guests, name, store, log, &asked)?;
    findings.add_all(&verify, asked.tables).await
}

fn base(arguments: &Arguments) -> &Path {
    arguments.config.parent().unwrap_or(Path::new("."))
}

/// How the process that runs the configuration is asked, or why it cannot be.
fn process(config: &Config, arguments: &Arguments) -> Result<RelayOptions, String> {
    let table = config.relay.as_ref().map(|relay| relay.get_ref());
    let table = table.ok_or("it has no [relay] table; add one, if only with `listen`, or stop it")?;
    let url = match &arguments.relay {
        Some(url) => url.clone(),
        None if table.tls.is_some() => {
            return Err("its relay is encrypted; say --relay https://NAME:PORT and --ca FILE".to_owned());
        }
        None if table.listen.port() == 0 => {
            return Err("its relay listens on any free port; say --relay http://127.0.0.1:PORT".to_owned());
        }
        None => format!("http://{}", table.listen),
    };
    let mut options = RelayOptions::new("", [url]);
    options.tls = ClientTls { ca: arguments.ca.clone(), identity: None };
    options.token = token(table)?;
    Ok(options)
}

/// The token of an operator, where the relay wants one.
fn token(table: &RelayConfig) -> Result<Option<Token>, String> {
    if table.grant.is_empty() {
        return Ok(None);
    }
    let operators = table.grant.iter().map(|grant| grant.get_ref()).filter(|grant| grant.admin);
    let token = operators.filter_map(|grant| grant.token.as_ref()).next();
    let token = token.ok_or("no [[relay.grant]] has a token and `admin = true`; add one")?;
    Ok(Some(Token::new(token.fetch()?.reveal())))
}

impl Findings {
    async fn add_all<R: Replica>(
        &mut self,
        verify: &Verify<MySqlExtract, R>,
        tables: Vec<TableName>,
    ) -> Result<(), Failure> {
        for table in comparison::chosen(verify, tables).await? {
            self.add(&Report::of(verify, table).await.json());
        }
        Ok(())
    }

    fn add(&mut self, report: &Value) {
        let none = |list: &str| report[list].as_array().is_some_and(Vec::is_empty);
        self.count += 1;
        self.are_well &= none("differences") && none("unjudged");
        if self.as_json { println!("{report}") } else { print(report) }
    }
}

fn print(report: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    if let Some(error) = report["error"].as_str() {
        // One without a table is about all of them.
        let table = report["table"].as_str().map(|table| format!("{table}: ")).unwrap_or_default();
        return println!("{table}not compared: {error}");
    }
    let table = text(&report["table"]);
    let differences = list("differences");
    let found = match differences.len() {
        0 => "no difference".to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    };
    let at = match &report["version"] {
        Value::Null => format!("position {}", text(&report["position"])),
        version => format!("version {version}"),
    };
    println!("{table}: {found} in {} rows, at {at}", report["rows"]);
    for column in list("left_out") {
        println!("  only on one side, not compared: column {}", text(&column));
    }
    for difference in differences {
        println!("  {:<9} {}", text(&difference["kind"]), text(&difference["key"]));
    }
    for key in list("unjudged") {
        println!("  changes all the time, not judged: {}", text(&key));
    }
}
