//! `tidemill consume`: the subscriptions of a configuration straight from upstream relays, without a log of their own.
//! Checkpoints, state and output are where `tidemill up` keeps them, so that a subscription may change from one to the
//! other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tidemill_client::{
    Control, PhasedFeed, RelayBootstrap, RelayFeed, RelayOptions, Selection, Start as ClientStart,
};
use tidemill_event::Checkpoint;
use tidemill_sandbox::{Sandbox, SandboxConfig};
use tidemill_sink::EmbeddedStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info};

use crate::config::{Config, SourceKind, Start, SubscriptionConfig};
use crate::guests::Guests;
use crate::status::Fetched;
use crate::stdout::{Process, Stdout};
use crate::subscription::{End, Subscription};
use crate::wiring::{open_delivery, store_path};
use crate::{Failure, bootstrap, fetch, shutdown};
use tidemill_event::chain;

/// What `consume` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "tidemill.toml")]
    config: PathBuf,
    /// End when everything that the relays have by now is delivered, instead of waiting for more.
    #[arg(long)]
    once: bool,
    /// The subscriptions; all of the file unless given.
    subscription: Vec<String>,
}

/// Runs until told to stop, or until every subscription has everything or pauses.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = Config::load(&arguments.config)?;
    let chosen = choose(&config, &arguments.subscription)?;
    let stop = shutdown::on_signal()?;
    let base = arguments.config.parent().unwrap_or(Path::new("."));
    let sandbox = Sandbox::new(SandboxConfig::new(config.guest_cache()))?;
    let guests = Guests { sandbox: &sandbox, config: &config, base };
    let store = EmbeddedStore::open(&store_path(&config))?;
    let stdout: Arc<dyn Stdout> = Arc::new(Process);
    let mut opened = Vec::new();
    for (name, subscription) in chosen {
        let checkpoint = store.checkpoint(name)?;
        let options = relay_options(&config, name, subscription)?;
        let feed = open_feed(options, subscription.start, checkpoint, arguments.once).await?;
        let consumer =
            open_delivery(name, subscription, &guests, &store, &stdout, Fetched::default()).await?;
        opened.push(Subscription { feed, consumer, retries: subscription.retries });
    }
    Ok(if run_all(opened, stop).await { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stream of relays, with snapshot storage before it where the subscription begins with a snapshot.
type SubscriptionFeed = PhasedFeed<RelayFeed, RelayBootstrap>;

/// Says whether all ended well.
async fn run_all(subscriptions: Vec<Subscription<SubscriptionFeed>>, stop: watch::Receiver<bool>) -> bool {
    let mut running = JoinSet::new();
    for subscription in subscriptions {
        let (name, meter) = (subscription.consumer.name.clone(), subscription.consumer.meter.clone());
        let (_switch, control) = Control::new(stop.clone());
        running.spawn(async move { (name, meter, subscription.run(control).await) });
    }
    let mut well = true;
    while let Some(ended) = running.join_next().await {
        let (name, meter, end) = ended.expect("a subscription's task does not panic");
        if let End::Paused(paused) = end {
            error!(error = %chain(&paused), "a subscription paused");
            well = false;
        }
        let figures = meter.figures();
        let (transactions, changes) = (figures.transactions, figures.changes);
        info!(subscription = %name, at = %figures.position, transactions, changes, "subscription ended");
    }
    well
}

/// The subscriptions to run; each must come from a relay, and unchanged.
fn choose<'a>(
    config: &'a Config,
    wanted: &[String],
) -> Result<Vec<(&'a str, &'a SubscriptionConfig)>, Failure> {
    if let Some(unknown) = wanted.iter().find(|name| !config.subscription.contains_key(*name)) {
        let known = config.subscription.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(format!("there is no subscription `{unknown}`; there are: {known}").into());
    }
    let all = config.subscription.iter().map(|(name, subscription)| (name.as_str(), subscription.get_ref()));
    let chosen: Vec<_> =
        all.filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)).collect();
    if chosen.is_empty() {
        return Err("there is no subscription; add a [subscription.NAME] table".into());
    }
    for (name, subscription) in &chosen {
        if subscription.start == Start::Copy {
            return Err(format!(
                "subscription `{name}`: a copy is followed by a log here, and `consume` has none; run it with \
                 `tidemill up`, or set start = \"snapshot\" where the relay has snapshot storage"
            )
            .into());
        }
        let (source, config) = (&subscription.source, config.source[&subscription.source].get_ref());
        if config.kind != SourceKind::Relay {
            return Err(format!(
                "subscription `{name}`: its source `{source}` is no relay; run it with `tidemill up`, or set \
                 kind = \"relay\""
            )
            .into());
        }
        if config.policy.is_some() {
            return Err(format!(
                "subscription `{name}`: the policy of source `{source}` judges what is stored in a log here, and \
                 `consume` has none; run it with `tidemill up`, or give the policy to the relay"
            )
            .into());
        }
    }
    Ok(chosen)
}

fn relay_options(
    config: &Config,
    name: &str,
    subscription: &SubscriptionConfig,
) -> Result<RelayOptions, Failure> {
    let source = config.source[&subscription.source].get_ref();
    let mut options = fetch::relay_options(&subscription.source, source)?;
    // A relay takes only such names; the figures there are no reason to refuse another one here.
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    options.name = (name.len() <= 64 && name.bytes().all(fits)).then(|| name.to_owned());
    let at_relay = subscription.at_relay.clone().unwrap_or_default();
    options.selection = Selection {
        tables: at_relay.tables,
        columns: at_relay.columns,
        predicates: at_relay.predicates,
        partition: at_relay.partition,
        filters: at_relay.filters,
        projections: at_relay.projections,
    };
    Ok(options)
}

async fn open_feed(
    options: RelayOptions,
    start: Start,
    checkpoint: Option<Checkpoint>,
    once: bool,
) -> Result<SubscriptionFeed, Failure> {
    let from = checkpoint.clone().map_or_else(|| client_start(start), ClientStart::At);
    let mut feed = RelayFeed::new(options.clone(), from)?;
    if once {
        match feed.source().await?.checkpoint {
            Some(end) => feed.end_at(end),
            None => feed.end_now(),
        }
    }
    Ok(match bootstrap::is_read(start, checkpoint.as_ref()) {
        true => PhasedFeed::new(feed, RelayBootstrap::new(options)?, checkpoint),
        false => PhasedFeed::without_storage(feed),
    })
}

fn client_start(start: Start) -> ClientStart {
    match start {
        Start::Earliest => ClientStart::Earliest,
        Start::Now => ClientStart::Now,
        Start::Time(us) => ClientStart::Time(us),
        Start::Position(position) => ClientStart::After(position),
        // The stream's turn comes later, and is told then where it begins.
        Start::Snapshot => ClientStart::Now,
        Start::Copy => unreachable!("it was refused before"),
    }
}
