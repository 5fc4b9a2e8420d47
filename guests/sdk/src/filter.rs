//! Filters: which rows go on.
//!
//! A filter is a closure over columns:
//!
//! ```
//! tidemill_guest::filter!(|amount: i64, status: &str| amount >= 50 && status.starts_with("active"));
//! # fn main() {}
//! ```
//!
//! The parameters are columns: found by name and checked by type when a table is planned, read from
//! typed slices row by row. A row in which one of them is NULL does not go on, as in SQL's WHERE;
//! write `Option<i64>` to decide for yourself. A row in which one is absent is rejected.
//! `amount: i64 = "Order Amount"` names a column that is no identifier. The configuration may name
//! `tables`. With a first line `config: MyConfig,` the closure's first parameter is `&MyConfig`.
//!
//! A filter that decides more than that implements [`Filter`] and ends with `export_filter!`.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::{Error, Mask, RowError, Rows, TableDef, config};

/// The columns that a guest needs of a table, and what it keeps for that table's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<P> {
    /// Ordinals, in the order in which the rows will carry them.
    pub input: Vec<u32>,
    /// Given back with every batch of the table.
    pub plan: P,
}

/// A filter. Pure: what it says of a row depends on that row, the configuration and the table.
pub trait Filter: Sized + 'static {
    /// Read from the configuration's JSON.
    type Config: DeserializeOwned;
    /// What is prepared once a table.
    type Plan: 'static;
    /// Called once, first.
    ///
    /// # Errors
    /// `config`.
    fn setup(config: Self::Config) -> Result<Self, Error>;
    /// Called once a table, before its rows. `None`: all of its rows go on.
    ///
    /// # Errors
    /// `unsupported` or `config`.
    fn plan(&self, table: &TableDef) -> Result<Option<Planned<Self::Plan>>, Error>;
    /// The rows that go on.
    ///
    /// # Errors
    /// `rejected` or `fatal`.
    fn keep(&self, plan: &Self::Plan, rows: &Rows) -> Result<Mask, Error>;
}

/// One instance of a filter with its tables: what the export macros call, and native tests too.
pub struct Running<F: Filter> {
    filter: F,
    plans: BTreeMap<u32, F::Plan>,
}

impl<F: Filter> Running<F> {
    /// `lifecycle.setup`
    ///
    /// # Errors
    /// The guest's own.
    pub fn setup(config: &str) -> Result<Self, Error> {
        Ok(Running { filter: F::setup(config::read(config)?)?, plans: BTreeMap::new() })
    }

    /// `row-filter.plan`
    ///
    /// # Errors
    /// The guest's own.
    pub fn plan(&mut self, table: &TableDef) -> Result<Option<Vec<u32>>, Error> {
        Ok(self.filter.plan(table)?.map(|Planned { input, plan }| {
            self.plans.insert(table.id, plan);
            input
        }))
    }

    /// `row-filter.keep`
    ///
    /// # Errors
    /// The guest's own; `fatal` for a table that was not planned.
    pub fn keep(&self, rows: &Rows) -> Result<Mask, Error> {
        let plan = self.plans.get(&rows.table).ok_or_else(|| crate::not_planned(rows.table))?;
        self.filter.keep(plan, rows)
    }
}

/// Rows that cannot be judged, gathered to one error.
#[derive(Debug, Default)]
pub struct Rejections(Vec<RowError>);

impl Rejections {
    /// How many rows are told: enough to see what is wrong, small for any batch.
    const TOLD_MAX: usize = 16;

    /// Adds a row in which a column that is needed is absent.
    pub fn absent(&mut self, row: usize, column: &str) {
        if self.0.len() < Self::TOLD_MAX {
            let row = u32::try_from(row).expect("a batch has fewer rows than u32");
            self.0.push(RowError { row, message: absent_message(column) });
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `answer`, unless a row was rejected.
    ///
    /// # Errors
    /// `rejected`, with the rows.
    pub fn or<T>(self, answer: T) -> Result<T, Error> {
        if self.0.is_empty() { Ok(answer) } else { Err(Error::Rejected(self.0)) }
    }
}

/// What to tell of a column that is needed and absent.
pub fn absent_message(column: &str) -> String {
    format!(
        "column {column:?} is needed and the source did not send it; \
         let the source log whole rows (MySQL: binlog_row_image=FULL)"
    )
}

/// Exports a [`Filter`] as the component's `lifecycle` and `row-filter`.
#[macro_export]
macro_rules! export_filter {
    ($guest:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::filter::exports::tidemill::guest::row_filter;
            $crate::running!($crate::filter::Running<$guest>);
            impl row_filter::Guest for Component {
                fn plan(table: $crate::TableDef) -> Result<Option<Vec<u32>>, $crate::Error> {
                    running(|guest| guest.plan(&table))
                }
                fn keep(input: $crate::Rows) -> Result<Vec<u8>, $crate::Error> {
                    running(|guest| Ok(guest.keep(&input)?.into_bitmap()))
                }
            }
    $crate::bindings::filter::export_filter!(Component with_types_in $crate::bindings::filter);
        };
        // Natively nothing is exported; the guest still counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> Result<$crate::filter::Running<$guest>, $crate::Error> =
            $crate::filter::Running::<$guest>::setup;
    };
}

/// A filter from a closure over columns; see the module's documentation.
#[macro_export]
macro_rules! filter {
    (| $($name:ident : $type:ty $(= $column:literal)?),+ $(,)? | $body:expr $(;)?) => {
        $crate::filter!(config: $crate::config::NoConfig, |_config, $($name: $type $(= $column)?),+| $body);
    };
    (config: $config:ty, | $given:pat_param, $($name:ident : $type:ty $(= $column:literal)?),+ $(,)? | $body:expr $(;)?) => {
        /// The filter that `filter!` made of the closure.
        pub(crate) struct FilterOfColumns($crate::config::WithTables<$config>);

        impl $crate::filter::Filter for FilterOfColumns {
            type Config = $crate::config::WithTables<$config>;
            type Plan = ();

            fn setup(config: Self::Config) -> Result<Self, $crate::Error> {
                config.tables.validate()?;
                Ok(FilterOfColumns(config))
            }

            fn plan(&self, table: &$crate::TableDef) -> Result<Option<$crate::filter::Planned<()>>, $crate::Error> {
                if !self.0.tables.contain(table) {
                    return Ok(None);
                }
                let input = vec![$($crate::column::find::<$type>(table, $crate::column_name!($name $($column)?))?),+];
                Ok(Some($crate::filter::Planned { input, plan: () }))
            }

            fn keep(&self, _: &(), rows: &$crate::Rows) -> Result<$crate::Mask, $crate::Error> {
                let $given = &self.0.own;
                let mut columns = rows.columns.iter();
                $(let $name = $crate::column::cells::<$type>(columns.next(), $crate::column_name!($name $($column)?))?;)+
                let mut rejections = $crate::filter::Rejections::default();
                let kept = $crate::Mask::of_rows(rows.count as usize, |row| {
                    $(let $name: $type = match $name.get(row) {
                        $crate::Cell::Value(value) => value,
                        $crate::Cell::Null => return false,
                        $crate::Cell::Absent => {
                            rejections.absent(row, $crate::column_name!($name $($column)?));
                            return false;
                        }
                    };)+
                    $body
                });
                rejections.or(kept)
            }
        }

        $crate::export_filter!(FilterOfColumns);
    };
}

/// The column that a parameter stands for.
#[doc(hidden)]
#[macro_export]
macro_rules! column_name {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $column:literal) => {
        $column
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Running;
    use crate::{Error, build, testing};

    mod three_lines {
        crate::filter!(|amount: i64, status: &str| amount >= 50 && status.starts_with("active"));
        pub(crate) type Three = FilterOfColumns;
    }

    mod configured {
        #[derive(serde::Deserialize)]
        pub struct Limit {
            min: i64,
        }
        crate::filter!(config: Limit, |limit, amount: Option<i64> = "Order Amount"| amount.unwrap_or(0) >= limit.min);
        pub(crate) type Configured = FilterOfColumns;
    }

    #[test]
    fn a_closure_over_columns_is_a_filter() {
        let table = testing::table(
            "shop.orders",
            &[("id", "int64"), ("status", "text"), ("amount", "int64")],
            &["id"],
        );
        let mut filter = Running::<three_lines::Three>::setup("").unwrap();
        assert_eq!(filter.plan(&table), Ok(Some(vec![2, 1])));
        let mut amount = build::Ints::default();
        [Some(49), Some(50), None, Some(60)].into_iter().for_each(|value| amount.push_or_null(value));
        let status = build::Texts::of(&["active", "active-2", "active", "gone"]);
        let rows = testing::rows(&table, vec![amount.finish(), status]);
        assert_eq!(filter.keep(&rows).unwrap().rows().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_closure_takes_configuration_and_quoted_columns() {
        let table = testing::table("shop.orders", &[("Order Amount", "int64")], &[]);
        let mut filter =
            Running::<configured::Configured>::setup(r#"{"min":5,"tables":["shop.*"]}"#).unwrap();
        assert_eq!(filter.plan(&table), Ok(Some(vec![0])));
        let rows = testing::rows(&table, vec![build::Ints::of(&[4, 5])]);
        assert_eq!(filter.keep(&rows).unwrap().rows().collect::<Vec<_>>(), [1]);
        let other = testing::table("bank.accounts", &[], &[]);
        assert_eq!(filter.plan(&other), Ok(None));
    }

    #[test]
    fn an_absent_column_rejects_its_rows_by_name() {
        let table = testing::table("shop.orders", &[("amount", "int64"), ("status", "text")], &[]);
        let mut filter = Running::<three_lines::Three>::setup("").unwrap();
        filter.plan(&table).unwrap();
        let mut amount = build::Ints::default();
        amount.push(50);
        amount.push_absent();
        let rows = testing::rows(&table, vec![amount.finish(), build::Texts::of(&["active", "active"])]);
        let Err(Error::Rejected(rows)) = filter.keep(&rows) else { panic!("amount is absent") };
        assert_eq!(rows.len(), 1);
        assert!(rows[0].row == 1 && rows[0].message.contains("\"amount\""), "{rows:?}");
    }

    #[test]
    fn a_missing_column_stops_at_the_plan() {
        let table = testing::table("shop.orders", &[("amount", "int64")], &[]);
        let mut filter = Running::<three_lines::Three>::setup("").unwrap();
        assert!(matches!(filter.plan(&table), Err(Error::Unsupported(_))));
    }
}
