//! `tidemill checkpoint`: looks at the checkpoints of a configuration's subscriptions, and moves one. No process may hold
//! the store meanwhile, so nobody moves a checkpoint under a subscription that runs.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use serde_json::{Value, json};
use tidemill_event::{Checkpoint, Cursor, Phase, Position, Scn};
use tidemill_log::{From, Log};
use tidemill_sink::{Effects, EmbeddedStore};

use crate::config::{Config, SourceKind, Start, SubscriptionConfig};
use crate::{Failure, wiring};

/// What `checkpoint` takes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Each subscription with its position.
    List(Chosen),
    /// Everything that the checkpoint of one says.
    Show(One),
    /// Moves the checkpoint of one, back or forth. Its consumer's state and output stay as they are: what lies behind
    /// the new checkpoint is delivered, once more if it was before.
    Set {
        /// Which one.
        #[command(flatten)]
        one: One,
        /// Where to: earliest, now, time:2026-11-20T08:00:00Z, position:TIMELINE/SCN, or deltas: where it stands, and
        /// over snapshot storage from there, whatever the log still has.
        #[arg(long, value_name = "PLACE")]
        to: String,
    },
}

/// A configuration, and how to print.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One subscription of a configuration.
#[derive(Debug, clap::Args)]
pub struct One {
    #[command(flatten)]
    chosen: Chosen,
    /// The subscription; may be left out where there is one.
    subscription: Option<String>,
}

/// Does it, and prints what there is now.
pub async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List(chosen) => list(&chosen)?,
        Command::Show(one) => {
            let (config, store) = open(&one.chosen)?;
            let (name, subscription) = pick(&config, one.subscription.as_deref())?;
            print(name, subscription, store.checkpoint(name)?.as_ref(), one.chosen.json);
        }
        Command::Set { one, to } => {
            let (config, store) = open(&one.chosen)?;
            let (name, subscription) = pick(&config, one.subscription.as_deref())?;
            let before = store.checkpoint(name)?;
            let to = match to.as_str() {
                "deltas" => over_storage(&config, name, subscription, before)?,
                _ => place(&config, subscription, before.as_ref(), Start::try_from(to)?).await?,
            };
            store.commit(name, &to, &Effects::default())?;
            print(name, subscription, Some(&to), one.chosen.json);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(chosen: &Chosen) -> Result<(Config, EmbeddedStore), Failure> {
    let config = Config::load(&chosen.config)?;
    let store = EmbeddedStore::open(&wiring::store_path(&config))?;
    Ok((config, store))
}

fn list(chosen: &Chosen) -> Result<(), Failure> {
    let (config, store) = open(chosen)?;
    let mut all = Vec::new();
    for (name, subscription) in &config.subscription {
        let checkpoint = store.checkpoint(name)?;
        if chosen.json {
            all.push(fields(name, subscription.get_ref(), checkpoint.as_ref()));
        } else {
            let position = checkpoint.map_or_else(|| "none yet".to_owned(), |c| c.position.to_string());
            println!("{name:<24} {:<24} {position}", subscription.get_ref().source);
        }
    }
    // Whatever the store has beside, of subscriptions that the configuration no longer names.
    for name in store.subscriptions()?.iter().filter(|name| !config.subscription.contains_key(*name)) {
        eprintln!("the store also has a checkpoint of `{name}`, which is not in the configuration");
    }
    if chosen.json {
        println!("{}", Value::Array(all));
    }
    Ok(())
}

fn pick<'a>(config: &'a Config, name: Option<&str>) -> Result<(&'a str, &'a SubscriptionConfig), Failure> {
    let all = &config.subscription;
    let known = || all.keys().cloned().collect::<Vec<_>>().join(", ");
    let found = match name {
        Some(name) => all.get_key_value(name),
        None if all.len() == 1 => all.first_key_value(),
        None => return Err(format!("say which subscription: {}", known()).into()),
    };
    let (name, found) =
        found.ok_or_else(|| format!("there is no such subscription; there are: {}", known()))?;
    Ok((name, found.get_ref()))
}

/// The same place, to be left over snapshot storage: what changed since then, and tables anew that changed otherwise.
fn over_storage(
    config: &Config,
    name: &str,
    subscription: &SubscriptionConfig,
    before: Option<Checkpoint>,
) -> Result<Checkpoint, Failure> {
    let source = &subscription.source;
    let is_served =
        config.source.get(source).is_some_and(|source| source.get_ref().kind == SourceKind::Relay);
    if !is_served && !config.bootstrap.contains_key(source) {
        let what = "which has no snapshot storage; a [bootstrap";
        return Err(
            format!("subscription `{name}` reads `{source}`, {what}.{source}] table makes some").into()
        );
    }
    match before {
        Some(before) if before.phase == Phase::Stream => {
            Ok(Checkpoint { phase: Phase::Deltas(Cursor::default()), ..before })
        }
        Some(before) => Err(format!("subscription `{name}` is in {} already", phase(&before.phase)).into()),
        None => {
            Err(format!("subscription `{name}` has nothing yet; let it begin with `start = \"snapshot\"`")
                .into())
        }
    }
}

/// The checkpoint of a place in the log of the subscription's source.
async fn place(
    config: &Config,
    subscription: &SubscriptionConfig,
    before: Option<&Checkpoint>,
    to: Start,
) -> Result<Checkpoint, Failure> {
    let directory = wiring::log_path(config, &subscription.source);
    if !directory.exists() {
        let what = "is not here, so only a position of the server that the checkpoint names can be set";
        let (Some(before), Start::Position(position)) = (before, to) else {
            return Err(format!("the log of source `{}` {what}", subscription.source).into());
        };
        return Ok(Checkpoint { position, gtid_set: String::new(), phase: Phase::Stream, ..before.clone() });
    }
    let log = wiring::open_log(config, &subscription.source).await?;
    let end = log.checkpoint().ok_or("the log is empty; there is no place in it yet")?;
    // Nothing follows, so that a reader at the end is told so instead of waiting.
    log.writer()?.close()?;
    match to {
        Start::Now => Ok(end),
        Start::Earliest => before_first(&log, From::Earliest, end).await,
        Start::Time(us) => before_first(&log, From::Time(us), end).await,
        Start::Position(position) => at(&log, position, end).await,
        Start::Snapshot | Start::Copy => {
            let what = "a snapshot or a copy is for who has nothing; set `start` to it in a subscription of another name";
            Err(what.into())
        }
    }
}

/// Before the first transaction that a reader from there gets; the end, where there is none.
async fn before_first(log: &Log, from: From, end: Checkpoint) -> Result<Checkpoint, Failure> {
    let Some(first) = log.reader(from)?.next().await? else { return Ok(end) };
    let (timeline, after) = (first.timeline.number, first.span.after);
    // The window may have lost transactions at its beginning: the last of them is what comes before.
    let whole = log.reader(From::After(Position { timeline, scn: after }))?.next().await?;
    let earlier = |scn: &Scn| first.transactions.first().is_some_and(|kept| *scn < kept.scn);
    let lost = whole.iter().flat_map(|whole| &whole.transactions).map(|t| t.scn).filter(earlier);
    let scn = lost.max().unwrap_or(after);
    Ok(moved(end, Position { timeline, scn }, &first.timeline.server))
}

/// At a position, if a reader from there gets all that follows.
async fn at(log: &Log, position: Position, end: Checkpoint) -> Result<Checkpoint, Failure> {
    if position > end.position {
        return Err(format!("position {position} is ahead of the log, which ends at {}", end.position).into());
    }
    log.reader(From::After(position))?.next().await?;
    let timeline = log.timelines().into_iter().find(|t| t.number == position.timeline);
    let timeline =
        timeline.ok_or_else(|| format!("the log has nothing of timeline {}", position.timeline))?;
    Ok(moved(end, position, &timeline.server))
}

/// A checkpoint at a position. Which set of transactions that is, only the stream itself can say: the next commit does.
fn moved(end: Checkpoint, position: Position, server: &str) -> Checkpoint {
    Checkpoint { position, server: server.to_owned(), gtid_set: String::new(), phase: Phase::Stream, ..end }
}

fn fields(name: &str, subscription: &SubscriptionConfig, checkpoint: Option<&Checkpoint>) -> Value {
    let Some(at) = checkpoint else {
        return json!({ "subscription": name, "source": subscription.source, "checkpoint": null });
    };
    json!({
        "subscription": name,
        "source": at.source,
        "server": at.server,
        "position": at.position.to_string(),
        "timeline": at.position.timeline,
        "scn": at.position.scn.0,
        "gtid_set": at.gtid_set,
        "phase": phase(&at.phase),
        "checkpoint": URL_SAFE_NO_PAD.encode(at.encode()),
    })
}

fn phase(phase: &Phase) -> String {
    let cursor = |name, at: &Cursor| match at.table.as_str() {
        "" => format!("{name} of version {}: nothing yet", at.version),
        table => format!("{name} of version {}: table {table}", at.version),
    };
    match phase {
        Phase::Snapshot(at) if at.version == 0 => format!("copy: table {}", at.table),
        Phase::Snapshot(at) => cursor("snapshot", at),
        Phase::Deltas(at) => cursor("deltas", at),
        Phase::Stream => "stream".to_owned(),
    }
}

fn print(name: &str, subscription: &SubscriptionConfig, checkpoint: Option<&Checkpoint>, as_json: bool) {
    let fields = fields(name, subscription, checkpoint);
    if as_json {
        println!("{fields}");
        return;
    }
    for (field, value) in fields.as_object().expect("it was made as one") {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        println!("{field:<14} {}", if value.is_null() { "none yet" } else { &text });
    }
}
