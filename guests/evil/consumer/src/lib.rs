//! A consumer that misbehaves as its configuration says: `{"do": "fail", "error": "retry", "k": 3}`.
//!
//! Calls of `process` are counted in this instance, from 1; `k` is the call in which it begins, and
//! `times` for how many calls it lasts (without the key, for good). In all other calls it counts, in the
//! state key `processed`, the changes that it got, which shows what was committed and what was rolled
//! back. With `"done": n` a failure claims that n transactions were done. It is never shipped.

mod reach;

use serde::Deserialize;
use tidemill_guest::consumer::{Batch, Consumer, Failure, Interested};
use tidemill_guest::host::{self, Level};
use tidemill_guest::{Error, RowError, TableDef, output, state};

/// What the configuration can ask for under `do`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Nothing bad at all.
    Behave,
    /// Answers the typed `error`, after it wrote state that must be rolled back.
    Fail,
    /// Traps, after it wrote state that must be rolled back.
    Trap,
    /// Panics.
    Panic,
    /// Never ends.
    Spin,
    /// Sleeps through the host's clock for an hour.
    Sleep,
    /// Takes memory until there is none.
    Memory,
    /// Writes 64 MiB of state.
    StateFlood,
    /// 100 000 lines of log in one call.
    LogFlood,
    /// 16 MiB on standard output.
    StdoutFlood,
    /// Writes state in `plan`, where it may not.
    StateInPlan,
    /// Truncates tables of no name for ever.
    TruncateFlood,
    /// Truncates a table in `plan`, where it may not.
    TruncateInPlan,
    /// Traps in `close`.
    TrapInClose,
    /// Tries files, the environment and the network, and answers with `fatal` what it got.
    Snoop,
    /// Tries to write a file, and answers with `fatal` what it got.
    WriteFiles,
    /// Tries to open sockets, and answers with `fatal` what it got.
    OpenSocket,
}

/// The typed errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `config`
    Config,
    /// `unsupported`
    Unsupported,
    /// `retry`
    #[default]
    Retry,
    /// `rejected`, for the change in place 0
    Rejected,
    /// `fatal`
    Fatal,
}

/// The configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "do")]
    deed: Deed,
    #[serde(default)]
    error: Kind,
    #[serde(default = "first")]
    k: u32,
    times: Option<u32>,
    #[serde(default)]
    done: u32,
}

fn first() -> u32 {
    1
}

/// The consumer.
#[derive(Debug)]
pub struct Evil {
    config: Config,
    calls: u32,
}

impl Consumer for Evil {
    type Config = Config;
    type Plan = ();

    fn setup(config: Config) -> Result<Self, Error> {
        Ok(Evil { config, calls: 0 })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Interested<()>>, Error> {
        if self.config.deed == Deed::StateInPlan {
            state::set("planned", b"1");
        }
        if self.config.deed == Deed::TruncateInPlan {
            output::truncate("planned")?;
        }
        Ok(Some(Interested { after: table.ordinals(), before: table.key.clone(), plan: () }))
    }

    fn process(&mut self, batch: &Batch<'_, ()>) -> Result<(), Failure> {
        self.calls += 1;
        let Config { deed, k, times, .. } = self.config;
        let last = times.map_or(u32::MAX, |times| k.saturating_add(times).saturating_sub(1));
        if (k..=last).contains(&self.calls) && deed != Deed::Behave {
            return self.commit();
        }
        count_processed(batch.len());
        Ok(())
    }

    fn close(&mut self) {
        if self.config.deed == Deed::TrapInClose {
            trap();
        }
        host::log(Level::Info, "evil-consumer was closed");
    }
}

impl Evil {
    /// Does it.
    fn commit(&self) -> Result<(), Failure> {
        match self.config.deed {
            Deed::Fail => {
                state::set("processed", b"of a call that failed");
                Err(Failure { done: self.config.done, cause: self.cause() })
            }
            Deed::Trap => {
                state::set("processed", b"of a call that trapped");
                trap();
            }
            Deed::Panic => panic!("evil-consumer was asked to panic"),
            Deed::Spin => loop {
                std::hint::black_box(());
            },
            Deed::Sleep => {
                std::thread::sleep(std::time::Duration::from_secs(3_600));
                Ok(())
            }
            Deed::Memory => eat_memory(),
            Deed::StateFlood => {
                (0..64u8).for_each(|key| state::set(&format!("flood/{key}"), &vec![key; 1 << 20]));
                Ok(())
            }
            Deed::LogFlood => {
                (0..100_000).for_each(|number| host::log(Level::Error, &format!("flood {number}")));
                Ok(())
            }
            Deed::StdoutFlood => {
                let line = "x".repeat(1023);
                (0..16 * 1024).for_each(|_| println!("{line}"));
                Ok(())
            }
            Deed::Snoop => Err(Error::Fatal(reach::everything()).into()),
            Deed::WriteFiles => Err(Error::Fatal(reach::files()).into()),
            Deed::OpenSocket => Err(Error::Fatal(reach::sockets()).into()),
            Deed::TruncateFlood => loop {
                output::truncate("")?;
            },
            Deed::Behave | Deed::StateInPlan | Deed::TruncateInPlan | Deed::TrapInClose => Ok(()),
        }
    }

    fn cause(&self) -> Error {
        let message = || "asked to fail".to_owned();
        match self.config.error {
            Kind::Config => Error::Config(message()),
            Kind::Unsupported => Error::Unsupported(message()),
            Kind::Retry => Error::Retry(message()),
            Kind::Rejected => Error::Rejected(vec![RowError { row: 0, message: message() }]),
            Kind::Fatal => Error::Fatal(message()),
        }
    }
}

/// Adds to the state key `processed`: decimal digits.
fn count_processed(changes: usize) {
    let text = state::get("processed").and_then(|bytes| String::from_utf8(bytes).ok());
    let before: usize = text.and_then(|text| text.parse().ok()).unwrap_or(0);
    state::set("processed", (before + changes).to_string().as_bytes());
}

fn eat_memory() -> Result<(), Failure> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

tidemill_guest::export_consumer!(Evil);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Evil;
    use tidemill_guest::consumer::{Failure, Part, Phase, RawBatch, Running};
    use tidemill_guest::testing::{self, Deliveries};
    use tidemill_guest::{Error, build, state};

    fn batch() -> RawBatch {
        let table = testing::table("shop.orders", &[("id", "int64")], &["id"]);
        let ints = || vec![build::Ints::of(&[1, 2])];
        let mut deliveries = Deliveries::new(Phase::Live);
        deliveries.begin("t", Part::Whole).changes(&table, &[0, 0], ints(), ints());
        deliveries.batch()
    }

    #[test]
    fn it_fails_in_the_named_calls_with_the_named_error() {
        let mut evil =
            Running::<Evil>::setup(r#"{"do":"fail","error":"fatal","k":2,"times":1,"done":0}"#).unwrap();
        evil.plan(&testing::table("shop.orders", &[("id", "int64")], &["id"])).unwrap();
        assert_eq!(evil.process(&batch()), Ok(()));
        assert!(matches!(evil.process(&batch()), Err(Failure { done: 0, cause: Error::Fatal(_) })));
        // There is no host here that rolls back what the failed call wrote.
        state::set("processed", b"2");
        assert_eq!(evil.process(&batch()), Ok(()));
        assert_eq!(state::get("processed"), Some(b"4".to_vec()));
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        assert!(Running::<Evil>::setup(r#"{"do":"good"}"#).is_err());
    }
}
