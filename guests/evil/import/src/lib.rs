//! A filter that imports something that nobody grants: `tidemill:forbidden/thing`. It is right in every
//! other way, so that a host which does load it cannot blame anything else. It is never shipped.

use tidemill_guest::config::NoConfig;
use tidemill_guest::filter::{Filter, Planned};
use tidemill_guest::{Error, Mask, Rows, TableDef};

/// The import by itself; the linker joins it with what a filter exports.
#[cfg(target_arch = "wasm32")]
mod forbidden {
    #![allow(unsafe_op_in_unsafe_fn, reason = "generated code")]
    #![allow(missing_docs, clippy::all, reason = "generated code")]
    wit_bindgen::generate!({
        inline: r#"
            package tidemill:forbidden@0.1.0;
            interface thing {
                reach: func(what: string) -> u32;
            }
            world reaches {
                import thing;
            }
        "#,
    });
}

#[cfg(target_arch = "wasm32")]
fn reach(what: &str) -> u32 {
    forbidden::tidemill::forbidden::thing::reach(what)
}

/// Natively nobody grants it either.
#[cfg(not(target_arch = "wasm32"))]
fn reach(_: &str) -> u32 {
    0
}

/// The filter: it reaches out once a table.
#[derive(Debug)]
pub struct Reaching;

impl Filter for Reaching {
    type Config = NoConfig;
    type Plan = ();

    fn setup(_: NoConfig) -> Result<Self, Error> {
        Ok(Reaching)
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Planned<()>>, Error> {
        let reached = reach(&table.path());
        Ok((reached > 0).then(|| Planned { input: Vec::new(), plan: () }))
    }

    fn keep(&self, _: &(), rows: &Rows) -> Result<Mask, Error> {
        Ok(Mask::all(rows.count as usize))
    }
}

tidemill_guest::export_filter!(Reaching);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Reaching;
    use tidemill_guest::filter::Running;
    use tidemill_guest::testing;

    #[test]
    fn natively_it_is_a_filter_like_any_other() {
        let mut filter = Running::<Reaching>::setup("").unwrap();
        assert_eq!(filter.plan(&testing::table("shop.orders", &[], &[])), Ok(None));
    }
}
