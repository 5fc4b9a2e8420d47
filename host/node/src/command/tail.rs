//! `tidemill tail`: a source's changes as JSON lines, through its policy, without log or checkpoint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tidemill_event::Window;
use tidemill_fetchers_api::Fetcher;
use tidemill_sandbox::{BoxError, ConsumerStage, DeliveryPhase, FilterStage, Sandbox, SandboxConfig};

use crate::config::{Config, GuestConfig, SourceConfig, Start};
use crate::guests::Guests;
use crate::shutdown::{self, stopped};
use crate::status::Costs;
use crate::stdout::{Process, Stdout};
use crate::{Failure, fetch};

/// What `tail` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// The source's name; may be left out where there is one source.
    source: Option<String>,
    /// Where to begin: earliest, now, or time:2026-11-20T08:00:00Z.
    #[arg(long, default_value = "now")]
    start: String,
    /// Only the rows that fulfil this, in the tables that have its columns: "amount > 50 and status = 'paid'".
    #[arg(long, value_name = "PREDICATE", requires = "table")]
    r#where: Option<String>,
    /// Only these tables, as `database.table` with `*`.
    #[arg(long)]
    table: Vec<String>,
    /// End after that many transactions.
    #[arg(long, value_name = "N")]
    transactions: Option<u64>,
}

/// Prints until told to stop, until the source ends, or until enough was printed.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config)?;
    let (name, source) = pick(&config, arguments.source.as_deref())?;
    let base = arguments.config.parent().unwrap_or(Path::new("."));
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config: &config, base };
    let start = match Start::try_from(arguments.start.clone())? {
        Start::Position(_) | Start::Snapshot | Start::Copy => {
            return Err("tail starts at earliest, now or a time".into());
        }
        start => fetch::fetch_start(start),
    };
    let policy = fetch::open_policy(name, source, &guests)?;
    // A tail begins anew each time: what it keeps goes with it.
    let kept = tempfile::tempdir()?;
    let mut fetcher =
        fetch::open_fetcher(name, source, policy, start, kept.path(), &Costs::default()).await?;
    let mut filter = row_filter(&arguments, name, &guests)?;
    let mut consumer = printer(name, &guests).await?;
    let mut stop = shutdown::on_signal()?;
    let mut printed = 0;
    while arguments.transactions.is_none_or(|most| printed < most) {
        let next = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            next = fetcher.next() => next?,
        };
        let Some(mut window) = next else { break };
        let chosen = |name: &str| arguments.table.is_empty() || arguments.table.iter().any(|p| fits(p, name));
        window.tables.retain(|t| chosen(&t.schema.name().to_string()));
        window.events.retain(|event| {
            let tables = event.kind.tables();
            tables.is_empty() || tables.iter().any(|table| chosen(&table.to_string()))
        });
        if let Some(filter) = &mut filter {
            window = filter.apply(window)?;
        }
        printed += print(&mut consumer, &window).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn print(consumer: &mut ConsumerStage, window: &Window) -> Result<u64, Failure> {
    let delivered = consumer.deliver(window, DeliveryPhase::Live).await.map_err(|failed| failed.error)?;
    Process.write(&delivered.stdout)?;
    Ok(delivered.transactions)
}

fn pick<'a>(config: &'a Config, name: Option<&str>) -> Result<(&'a str, &'a SourceConfig), Failure> {
    let known = || config.source.keys().cloned().collect::<Vec<_>>().join(", ");
    let found = match name {
        Some(name) => config.source.get_key_value(name),
        None if config.source.len() == 1 => config.source.first_key_value(),
        None => return Err(format!("say which source to tail: {}", known()).into()),
    };
    let (name, source) = found.ok_or_else(|| format!("there is no such source; there are: {}", known()))?;
    Ok((name, source.get_ref()))
}

/// The rows of the chosen tables that fulfil the predicate.
fn row_filter(
    arguments: &Arguments,
    source: &str,
    guests: &Guests<'_>,
) -> Result<Option<FilterStage>, Failure> {
    let Some(predicate) = &arguments.r#where else { return Ok(None) };
    let mut config = toml::Table::new();
    config.insert("tables".into(), arguments.table.clone().into());
    config.insert("where".into(), predicate.clone().into());
    Ok(Some(guests.filter(source, &GuestConfig::builtin("where", config))?))
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            ends.into_iter().any(|at| fits(rest, &tail[at..]))
        }),
    }
}

async fn printer(source: &str, guests: &Guests<'_>) -> Result<ConsumerStage, Failure> {
    let nothing = Arc::new(|_: &[u8]| Ok::<_, BoxError>(None::<Vec<u8>>));
    let mut guest = GuestConfig::builtin("print", toml::Table::new());
    guest.grants.push("stdout".into());
    Ok(guests.consumer(source, &guest, nothing).await?)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("shop.orders", "shop.orders", true),
            ("shop.*", "shop.orders", true),
            ("*.orders", "shop.orders", true),
            ("s*.o*s", "shop.orders", true),
            ("shop.*", "bank.orders", false),
            ("shop.order", "shop.orders", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
