//! Keeps the rows for which a predicate is true.
//!
//! ```json
//! {"tables": ["shop.orders"], "where": "amount >= 50 and status like 'active%'"}
//! ```
//!
//! `tables` are patterns `schema.table`; a table that none of them names passes whole, and without
//! the key the predicate is for every table. What the predicate may say is told by the crate
//! `tidemill-predicate`.

use serde::Deserialize;
use tidemill_guest::config::Tables;
use tidemill_guest::filter::{Filter, Planned};
use tidemill_guest::{Error, Mask, Rows, TableDef};
use tidemill_predicate::{Plan, Predicate};

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    tables: Tables,
    #[serde(rename = "where")]
    predicate: String,
}

/// The filter.
#[derive(Clone, Debug)]
pub struct Where {
    tables: Tables,
    predicate: Predicate,
}

impl Filter for Where {
    type Config = Config;
    type Plan = Plan;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        let predicate =
            Predicate::parse(&config.predicate).map_err(|error| Error::Config(format!("where: {error}")))?;
        Ok(Where { tables: config.tables, predicate })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Planned<Plan>>, Error> {
        if !self.tables.contain(table) {
            return Ok(None);
        }
        let plan = self.predicate.plan(table)?;
        Ok(Some(Planned { input: plan.input().to_vec(), plan }))
    }

    fn keep(&self, plan: &Plan, rows: &Rows) -> Result<Mask, Error> {
        plan.keep(rows)
    }
}

tidemill_guest::export_filter!(Where);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Where;
    use tidemill_guest::filter::Running;
    use tidemill_guest::{Error, build, testing};

    const CONFIG: &str = r#"{"tables": ["shop.*"], "where": "amount >= 50 and status like 'active%'"}"#;

    #[test]
    fn rows_for_which_it_is_true_go_on() {
        let table = testing::table(
            "shop.orders",
            &[("id", "int64"), ("amount", "int64"), ("status", "text")],
            &["id"],
        );
        let mut filter = Running::<Where>::setup(CONFIG).unwrap();
        assert_eq!(filter.plan(&table), Ok(Some(vec![1, 2])));
        let columns = vec![build::Ints::of(&[49, 50, 51]), build::Texts::of(&["active", "active-2", "gone"])];
        assert_eq!(filter.keep(&testing::rows(&table, columns)).unwrap().rows().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn other_tables_pass_whole() {
        let mut filter = Running::<Where>::setup(CONFIG).unwrap();
        assert_eq!(filter.plan(&testing::table("bank.accounts", &[("id", "int64")], &["id"])), Ok(None));
    }

    #[test]
    fn a_predicate_that_cannot_be_read_is_refused_at_setup() {
        let Err(Error::Config(message)) = Running::<Where>::setup(r#"{"where": "amount >"}"#).map(|_| ())
        else {
            panic!("half a predicate")
        };
        assert!(message.starts_with("where: predicate \"amount >\": it ends where a value"), "{message}");
        assert!(matches!(Running::<Where>::setup("{}"), Err(Error::Config(_))));
    }
}
