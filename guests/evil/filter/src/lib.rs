//! A filter that misbehaves as its configuration says: `{"do": "spin", "k": 3}`.
//!
//! It is never shipped. The sandbox's tests use it to show that each kind of misbehaviour ends as
//! `wit/README.md` says. What it does in `keep` it does from the k-th call on (`k` starts at 1 and is
//! 1 without the key); before that, it keeps every row.

mod deeds;

use std::cell::RefCell;

use deeds::Deed;
use serde::Deserialize;
use tidemill_guest::{Error, TableDef, config};

/// What it does, and from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "do")]
    deed: Deed,
    #[serde(default = "first")]
    k: u32,
}

fn first() -> u32 {
    1
}

/// The instance: what it was told, and how often it was asked.
#[derive(Debug)]
struct Evil {
    config: Config,
    calls: u32,
}

thread_local! {
    static EVIL: RefCell<Option<Evil>> = const { RefCell::new(None) };
}

/// `lifecycle.setup`
pub fn setup(json: &str) -> Result<(), Error> {
    let config: Config = config::read(json)?;
    EVIL.set(Some(Evil { config, calls: 0 }));
    match config.deed {
        Deed::SpinInSetup => deeds::spin(),
        Deed::ErrorConfig => Err(Error::Config("key `do`: asked to refuse its configuration".to_owned())),
        _ => Ok(()),
    }
}

/// `row-filter.plan`: all columns.
pub fn plan(table: &TableDef) -> Result<Option<Vec<u32>>, Error> {
    match deed_now(false) {
        Some(Deed::SpinInPlan) => deeds::spin(),
        Some(Deed::PlanOutOfRange) => Ok(Some(vec![0, u32::MAX])),
        Some(Deed::PlanTwice) => Ok(Some(vec![0, 0])),
        Some(Deed::ErrorUnsupported) => {
            Err(Error::Unsupported(format!("table {}: asked to refuse it", table.path())))
        }
        _ => Ok(Some(table.ordinals())),
    }
}

/// `row-filter.keep`
pub fn keep(count: u32) -> Result<Vec<u8>, Error> {
    match deed_now(true) {
        Some(deed) => deeds::commit(deed, count),
        None => Ok(Vec::new()),
    }
}

/// What is to be done in this call, if anything yet.
fn deed_now(counts: bool) -> Option<Deed> {
    EVIL.with_borrow_mut(|evil| {
        let evil = evil.as_mut()?;
        evil.calls += u32::from(counts);
        (!counts || evil.calls >= evil.config.k).then_some(evil.config.deed)
    })
}

#[cfg(target_arch = "wasm32")]
mod exported {
    use tidemill_guest::bindings::base::exports::tidemill::guest::lifecycle::{self, Info};
    use tidemill_guest::bindings::filter::exports::tidemill::guest::row_filter;
    use tidemill_guest::{Error, Rows, TableDef};

    struct Component;

    impl lifecycle::Guest for Component {
        fn setup(config: String) -> Result<Info, Error> {
            super::setup(&config)?;
            Ok(Info { name: "evil-filter".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
        }
    }

    impl row_filter::Guest for Component {
        fn plan(table: TableDef) -> Result<Option<Vec<u32>>, Error> {
            super::plan(&table)
        }
        fn keep(input: Rows) -> Result<Vec<u8>, Error> {
            super::keep(input.count)
        }
    }

    tidemill_guest::bindings::base::export_base!(Component with_types_in tidemill_guest::bindings::base);
    tidemill_guest::bindings::filter::export_filter!(Component with_types_in tidemill_guest::bindings::filter);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{keep, plan, setup};
    use tidemill_guest::{Error, testing};

    #[test]
    fn it_behaves_until_the_kth_call() {
        setup(r#"{"do":"error-retry","k":3}"#).unwrap();
        let table = testing::table("shop.orders", &[("id", "int64"), ("note", "text")], &[]);
        assert_eq!(plan(&table), Ok(Some(vec![0, 1])));
        assert_eq!((keep(9), keep(9)), (Ok(vec![]), Ok(vec![])));
        assert!(matches!(keep(9), Err(Error::Retry(_))));
    }

    #[test]
    fn answers_are_wrong_in_the_way_they_are_named() {
        setup(r#"{"do":"short-bitmap"}"#).unwrap();
        assert_eq!(keep(64), Ok(vec![0xff]));
        setup(r#"{"do":"huge-output"}"#).unwrap();
        assert_eq!(keep(8).unwrap().len(), 48 << 20);
        assert!(matches!(setup(r#"{"do":"error-config"}"#), Err(Error::Config(_))));
        assert!(matches!(setup(r#"{"do":"be-good"}"#), Err(Error::Config(_))));
    }
}
