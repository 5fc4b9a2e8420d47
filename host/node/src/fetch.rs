//! From a source's configuration to a fetcher, of whichever kind. What is done with its windows is `source`'s.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tidemill_bootstrap_clone::Policy;
use tidemill_client::{ClientTls, RelayOptions, Token};
use tidemill_event::{Checkpoint, Frame, Position, Scn, Window};
use tidemill_fetchers_api::{FetchError, Fetcher, Judge, Liveness, Selector, Start as FetchStart};
use tidemill_fetchers_mysql as mysql;
use tidemill_fetchers_mysql::{
    FileOptions, MySqlExtract, MySqlFetcher, Origin, Password, ServerOptions, Tls, TlsIdentity, TlsMode,
};
use tidemill_fetchers_relay::RelayFetcher;
use tidemill_sandbox::PolicyStage;

use crate::config::{self, BadText, SecretRef, SourceConfig, SourceKind, Start, ZeroDates};
use crate::guests::{Guests, OpenError};
use crate::status::Costs;

/// The policy, asked by its source's fetcher about tables and about windows.
pub type SharedPolicy = Arc<Mutex<PolicyStage>>;

/// A fetcher of whichever kind.
pub enum AnyFetcher {
    /// Of a server's binlog, or of binlog files.
    MySql(Box<MySqlFetcher>),
    /// Of a source that other relays serve.
    Relay(Box<RelayFetcher>),
}

impl AnyFetcher {
    /// Where the source's own log ended when this was opened; `None` where it ends by itself.
    pub fn end_at_open(&self) -> Option<Scn> {
        match self {
            AnyFetcher::MySql(fetcher) => fetcher.end_at_open(),
            AnyFetcher::Relay(fetcher) => fetcher.end_at_open(),
        }
    }
}

impl Fetcher for AnyFetcher {
    async fn next(&mut self) -> Result<Option<Window>, FetchError> {
        match self {
            AnyFetcher::MySql(fetcher) => fetcher.next().await,
            AnyFetcher::Relay(fetcher) => fetcher.next().await,
        }
    }

    fn stored(&mut self, upto: Position) {
        match self {
            AnyFetcher::MySql(fetcher) => fetcher.stored(upto),
            AnyFetcher::Relay(fetcher) => fetcher.stored(upto),
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        match self {
            AnyFetcher::MySql(fetcher) => fetcher.take_frame(),
            AnyFetcher::Relay(fetcher) => fetcher.take_frame(),
        }
    }

    fn liveness(&self) -> Liveness {
        match self {
            AnyFetcher::MySql(fetcher) => fetcher.liveness(),
            AnyFetcher::Relay(fetcher) => fetcher.liveness(),
        }
    }
}

/// Opens a source's fetcher, as often as it must.
pub struct Opener {
    /// The source's name.
    pub name: String,
    /// Its configuration.
    pub config: SourceConfig,
    /// Its policy, if it has one.
    pub policy: Option<SharedPolicy>,
    /// The directory for what has to outlive a fetcher.
    pub kept: PathBuf,
    /// What the policy has cost.
    pub costs: Costs,
}

impl Opener {
    /// A fetcher behind what is stored, or where the configuration lets a new log begin.
    pub async fn open(&self, stored: Option<Checkpoint>) -> Result<AnyFetcher, FetchError> {
        let start = stored.map_or_else(|| fetch_start(self.config.start), FetchStart::At);
        open_fetcher(&self.name, &self.config, self.policy.clone(), start, &self.kept, &self.costs).await
    }
}

/// Which tables of a source are decoded at all: those that its policy takes.
fn selector(policy: &Option<SharedPolicy>) -> Selector {
    let Some(policy) = policy.clone() else { return Arc::new(|_| Ok(true)) };
    Arc::new(move |table| {
        let decided = policy.lock().expect("no holder panics").decides(table);
        decided.map_err(|error| tidemill_event::chain(&error))
    })
}

/// What may be stored of a window. Guest code runs for long on the runtime's thread, which is told so.
fn judge(policy: SharedPolicy, costs: Costs) -> Judge {
    Arc::new(move |window| {
        let began = Instant::now();
        let judged = tokio::task::block_in_place(|| policy.lock().expect("no holder panics").apply(window));
        costs.add("policy", began);
        judged.map_err(Into::into)
    })
}

/// A source's policy, for `up` and `tail` alike.
pub fn open_policy(
    name: &str,
    source: &SourceConfig,
    guests: &Guests<'_>,
) -> Result<Option<SharedPolicy>, OpenError> {
    let policy = source.policy.as_ref().map(|guest| guests.policy(name, guest)).transpose()?;
    Ok(policy.map(|policy| Arc::new(Mutex::new(policy))))
}

/// A source's policy for what is read of its tables, judged by that many readers at once. An instance of its own: the
/// stream does not wait for what a copy judges.
pub fn reading_policy(
    name: &str,
    source: &SourceConfig,
    guests: &Guests<'_>,
    readers: u32,
) -> Result<Policy, OpenError> {
    Ok(match open_policy(name, source, guests)? {
        Some(policy) => Policy::for_readers(policy, readers as usize)?,
        None => Policy::none(),
    })
}

/// A source's fetcher, for `up` and `tail` alike. `kept`: the directory for what has to outlive it;
/// `costs`: where the policy's time is counted.
pub async fn open_fetcher(
    name: &str,
    source: &SourceConfig,
    policy: Option<SharedPolicy>,
    start: FetchStart,
    kept: &Path,
    costs: &Costs,
) -> Result<AnyFetcher, FetchError> {
    if source.kind == SourceKind::Relay {
        let judge = policy.map(|policy| judge(policy, costs.clone()));
        let fetcher = RelayFetcher::open(relay_options(name, source)?, start, judge).await?;
        return Ok(AnyFetcher::Relay(Box::new(fetcher)));
    }
    let mut settings = mysql::Settings::from(selector(&policy));
    settings.judge = policy.map(|policy| judge(policy, costs.clone()));
    settings.directory = Some(kept.to_owned());
    settings.values = value_policy(source);
    settings.declared_types = source.declared_types;
    let fetcher = MySqlFetcher::open(name, origin(source)?, start, settings).await?;
    Ok(AnyFetcher::MySql(Box::new(fetcher)))
}

fn value_policy(source: &SourceConfig) -> mysql::ValuePolicy {
    mysql::ValuePolicy {
        zero_dates: match source.zero_dates {
            ZeroDates::Error => mysql::ZeroDates::Error,
            ZeroDates::Null => mysql::ZeroDates::Null,
        },
        bad_text: match source.bad_text {
            BadText::Error => mysql::BadText::Error,
            BadText::Replace => mysql::BadText::Replace,
        },
    }
}

/// The tables of a source, for whoever copies or compares them.
pub fn extract(source: &SourceConfig) -> Result<MySqlExtract, FetchError> {
    if !matches!(source.kind, SourceKind::Mysql | SourceKind::Mariadb) {
        let what = "only a server's tables can be copied or compared".to_owned();
        let mend = "run this where the source's kind is \"mysql\" or \"mariadb\"".to_owned();
        return Err(FetchError::Setup { what, mend });
    }
    let mut settings = mysql::Settings::from(selector(&None));
    settings.values = value_policy(source);
    settings.declared_types = source.declared_types;
    Ok(MySqlExtract::new(server_options(source)?, &settings))
}

/// Where a fetcher begins without a checkpoint.
pub fn fetch_start(start: Start) -> FetchStart {
    match start {
        Start::Earliest => FetchStart::Earliest,
        Start::Now => FetchStart::Now,
        Start::Time(us) => FetchStart::Time(us),
        Start::Position(_) | Start::Snapshot | Start::Copy => {
            unreachable!("validation lets no source start there")
        }
    }
}

/// Where a source's binlog is read from.
pub fn origin(source: &SourceConfig) -> Result<Origin, FetchError> {
    if source.kind == SourceKind::Relay {
        let mend = "follow its relay instead".into();
        return Err(FetchError::Setup { what: "a relay has no binlog".into(), mend });
    }
    if source.kind == SourceKind::BinlogFiles {
        let directory = source.directory.as_ref().expect("validated");
        let base = source.base.clone().map_or_else(|| base_name(directory), Ok)?;
        let mut options = FileOptions::directory(directory, base);
        options.follow = source.follow;
        return Ok(Origin::Files(options));
    }
    server_options(source).map(Origin::Server)
}

/// How a source's relays are reached, and what we say there.
pub fn relay_options(name: &str, source: &SourceConfig) -> Result<RelayOptions, FetchError> {
    let mut options = RelayOptions::new(name, &source.relays);
    let token = source.token.as_ref().map(SecretRef::fetch).transpose();
    let token = token.map_err(|mend| FetchError::Setup { what: "there is no token".into(), mend })?;
    options.token = token.map(|token| Token::new(token.reveal()));
    let identity = source.tls_certificate.clone().zip(source.tls_key.clone());
    options.tls = ClientTls { ca: source.tls_ca.clone(), identity };
    // Elsewhere a copy more costs more than it saves.
    options.compressed = source.relays.iter().any(|url| url.starts_with("https://"));
    Ok(options)
}

/// How a source's server is reached.
pub fn server_options(source: &SourceConfig) -> Result<ServerOptions, FetchError> {
    let password =
        source.password.as_ref().map_or_else(|| Ok(String::new()), |p| Ok(p.fetch()?.reveal().to_owned()));
    let password =
        password.map_err(|mend: String| FetchError::Setup { what: "there is no password".into(), mend })?;
    let (host, user) = (source.host.as_ref().expect("validated"), source.user.as_ref().expect("validated"));
    let mut options = ServerOptions::new(host, source.port.unwrap_or(3306), user, Password::new(password));
    options.server_id = source.server_id;
    if let Some(heartbeat) = source.heartbeat {
        options.heartbeat = heartbeat.0;
    }
    options.tls = tls(source, options.tls.mode);
    options.cleartext_password = source.cleartext_password.unwrap_or(false);
    options.semi_sync = source.semi_sync.unwrap_or(false);
    Ok(options)
}

fn tls(source: &SourceConfig, unless_given: TlsMode) -> Tls {
    let mode = source.tls.map_or(unless_given, |tls| match tls {
        config::Tls::Off => TlsMode::Off,
        config::Tls::Prefer => TlsMode::Prefer,
        config::Tls::Require => TlsMode::Require,
        config::Tls::VerifyCa => TlsMode::VerifyCa,
        config::Tls::VerifyIdentity => TlsMode::VerifyIdentity,
    });
    let identity = source.tls_certificate.clone().zip(source.tls_key.clone());
    let identity = identity.map(|(certificate, key)| TlsIdentity { certificate, key });
    Tls { mode, ca: source.tls_ca.clone(), identity }
}

/// The one base name of the binlog files in a directory.
fn base_name(directory: &Path) -> Result<String, FetchError> {
    let unreadable = |source| FetchError::Io { what: directory.display().to_string(), source };
    let mut bases = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if let Some((base, number)) = name.rsplit_once('.')
            && number.len() >= 6
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            bases.insert(base.to_owned());
        }
    }
    let found = bases.len();
    bases.pop_first().filter(|_| found == 1).ok_or_else(|| FetchError::Setup {
        what: format!("{} has binlog files of {found} base names", directory.display()),
        mend: "say which with `base`, as in base = \"binlog\" for binlog.000001".into(),
    })
}
