//! What a subscription to relays is told: which relays, who we are to them, what of the source is wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::error::ClientError;
use crate::limits;

/// The settings of a [`RelayFeed`](super::RelayFeed).
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// The source's name, at every relay.
    pub source: String,
    /// Where the relays are: `https://host:port`, or `http://` without encryption. Each serves the source; the first that
    /// answers is asked, the next when it fails.
    pub relays: Vec<String>,
    /// The bearer token, if one is needed.
    pub token: Option<Token>,
    /// Encryption.
    pub tls: ClientTls,
    /// How this subscriber is called in the relays' metrics: `[a-z0-9_-]{1,64}`.
    pub name: Option<String>,
    /// What the relays do before they send.
    pub selection: Selection,
    /// Whether answers are compressed (zstd).
    pub compressed: bool,
    /// At most so many bytes of windows are decoded and not yet done with; one window more, if it is larger.
    pub in_flight_bytes: usize,
    /// How often a relay says that it is alive when nothing commits: whole seconds, 1 to 60. One that is silent for three
    /// times as long counts as lost.
    pub heartbeat: Duration,
    /// How long connecting may take, and the beginning of an answer.
    pub patience: Duration,
    /// The waits between rounds over all relays.
    pub backoff: Backoff,
}

impl RelayOptions {
    /// The defaults: the whole source, uncompressed, 16 MiB in flight, a heartbeat every 5 seconds.
    pub fn new(
        source: impl Into<String>,
        relays: impl IntoIterator<Item = impl Into<String>>,
    ) -> RelayOptions {
        RelayOptions {
            source: source.into(),
            relays: relays.into_iter().map(Into::into).collect(),
            token: None,
            tls: ClientTls::default(),
            name: None,
            selection: Selection::default(),
            compressed: false,
            in_flight_bytes: limits::IN_FLIGHT_BYTES,
            heartbeat: limits::HEARTBEAT,
            patience: limits::PATIENCE,
            backoff: Backoff::default(),
        }
    }
}

/// A bearer token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from its text.
    pub fn new(text: impl Into<String>) -> Token {
        Token(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Files of encryption, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Certificates of the authorities that may sign a relay's; `https` needs it.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, where the relays ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What the relays do before they send; each part as in the relays' interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `database.table`, `database.*`; empty: everything that we may see.
    pub tables: Vec<String>,
    /// Columns by `database.table`.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Which rows, by `database.table`: `total >= 100 and state = 'paid'`.
    pub predicates: BTreeMap<String, String>,
    /// `hash:TAKE/OF`, `mod:TAKE/OF:COLUMN` or `range:TAKE:B1+B2:COLUMN`.
    pub partition: Option<String>,
    /// Registered filters, in order.
    pub filters: Vec<String>,
    /// Registered projections, in order.
    pub projections: Vec<String>,
}

/// Waits that double, each cut to a random part between a half and the whole, so that subscribers whom one failure cut off
/// do not all come back at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: limits::RECONNECT_FIRST, most: limits::RECONNECT_MOST }
    }
}

impl Backoff {
    /// The wait with that number, from 0. `dice` is any number.
    pub(crate) fn wait(&self, round: u32, dice: u64) -> Duration {
        let whole = self.first.saturating_mul(2_u32.saturating_pow(round)).min(self.most);
        let half = whole / 2;
        half + half.mul_f64((dice % 1000) as f64 / 1000.0)
    }
}

/// A relay's address, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) encrypted: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Relay {
    pub(crate) fn parse(text: &str) -> Result<Relay, ClientError> {
        let wrong = |what: &str| ClientError::Setup {
            // The text is not shown: someone may have written a password into it.
            what: format!("a relay's address {what}"),
            mend: "write it as https://host:port, with nothing before or after".into(),
        };
        let uri: Uri = text.parse().map_err(|_| wrong("cannot be read"))?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("does not begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds a user; a token belongs into `token`"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        Ok(Relay { encrypted, host, port })
    }

    /// Whether nobody but this machine can listen.
    pub(crate) fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port as requests name them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.encrypted { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, shown) in [
            ("https://r1.example:7878", "https://r1.example:7878"),
            ("https://r1.example", "https://r1.example:443"),
            ("http://[::1]:7878/", "http://[::1]:7878"),
        ] {
            assert_eq!(Relay::parse(text).expect(text).to_string(), shown);
        }
        assert!(Relay::parse("http://[::1]:1").expect("reads").is_local());
        assert!(!Relay::parse("http://r1.example:1").expect("reads").is_local());
    }

    #[test]
    fn an_address_with_more_in_it_is_refused_and_not_repeated() {
        for text in
            ["r1:7878", "ftp://r1", "https://me:canary@r1", "https://r1/x", "https://r1?token=canary", ""]
        {
            let error = Relay::parse(text).expect_err(text).to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let mut options = RelayOptions::new("shop", ["https://r1"]);
        options.token = Some(Token::new("canary"));
        assert!(!format!("{options:?}").contains("canary"));
    }

    #[test]
    fn waits_double_within_their_bounds_and_differ() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        for (round, most) in [(0, 100), (1, 200), (3, 800), (4, 1000), (99, 1000)] {
            for dice in [0, 1, 499, 999, u64::MAX] {
                let wait = backoff.wait(round, dice).as_millis();
                assert!((most / 2..=most).contains(&wait), "{round} {dice}: {wait}");
            }
        }
        assert_ne!(backoff.wait(0, 1), backoff.wait(0, 900));
    }
}
