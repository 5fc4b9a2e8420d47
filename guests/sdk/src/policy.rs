//! Clone policies: what may be stored at all, of which tables, in which form.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::bindings::policy::exports::tidemill::guest::clone_policy as contract;
use crate::{Column, Error, Mask, Rows, TableDef, config};

pub use contract::{Comparison, Condition, Treatment};

/// How one table is taken, and what the guest keeps for its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken<P> {
    /// One a column of the table.
    pub columns: Vec<Treatment>,
    /// Judged by the host: all of them hold for a row that is kept.
    pub conditions: Vec<Condition>,
    /// Ordinals of the columns that `apply` needs; empty, when nothing is left for it.
    pub input: Vec<u32>,
    /// Given back with every batch of the table.
    pub plan: P,
}

/// What `apply` says of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The rows that may be stored.
    pub keep: Mask,
    /// The computed columns, in the table's order.
    pub columns: Vec<Column>,
}

/// A clone policy. Pure: what it says of a row depends on that row, the configuration and the table.
pub trait Policy: Sized + 'static {
    /// Read from the configuration's JSON.
    type Config: DeserializeOwned;
    /// What is prepared once a table.
    type Plan: 'static;
    /// Called once, first.
    ///
    /// # Errors
    /// `config`.
    fn setup(config: Self::Config) -> Result<Self, Error>;
    /// Called once a table, before anything of it is read. `None`: nothing of it is stored.
    ///
    /// # Errors
    /// `config` or `unsupported`.
    fn decide(&self, table: &TableDef) -> Result<Option<Taken<Self::Plan>>, Error>;
    /// Judges the rows that fulfil the conditions.
    ///
    /// # Errors
    /// `rejected` or `fatal`; both stop the source.
    fn apply(&self, plan: &Self::Plan, rows: &Rows) -> Result<Judged, Error>;
}

/// One instance of a policy with its tables: what the export macro calls, and native tests too.
pub struct Running<P: Policy> {
    policy: P,
    plans: BTreeMap<u32, P::Plan>,
}

impl<P: Policy> Running<P> {
    /// `lifecycle.setup`
    ///
    /// # Errors
    /// The guest's own.
    pub fn setup(config: &str) -> Result<Self, Error> {
        Ok(Running { policy: P::setup(config::read(config)?)?, plans: BTreeMap::new() })
    }

    /// `clone-policy.decide`
    ///
    /// # Errors
    /// The guest's own.
    pub fn decide(&mut self, table: &TableDef) -> Result<contract::Decision, Error> {
        Ok(match self.policy.decide(table)? {
            None => contract::Decision::Skip,
            Some(Taken { columns, conditions, input, plan }) => {
                self.plans.insert(table.id, plan);
                contract::Decision::Take(contract::ClonePlan { columns, conditions, input })
            }
        })
    }

    /// `clone-policy.apply`
    ///
    /// # Errors
    /// The guest's own; `fatal` for a table that was not decided.
    pub fn apply(&self, rows: &Rows) -> Result<contract::Verdict, Error> {
        let plan = self.plans.get(&rows.table).ok_or_else(|| crate::not_planned(rows.table))?;
        let Judged { keep, columns } = self.policy.apply(plan, rows)?;
        Ok(contract::Verdict { keep: keep.into_bitmap(), columns })
    }
}

/// Exports a [`Policy`] as the component's `lifecycle` and `clone-policy`.
#[macro_export]
macro_rules! export_policy {
    ($guest:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::policy::exports::tidemill::guest::clone_policy;
            $crate::running!($crate::policy::Running<$guest>);
            impl clone_policy::Guest for Component {
                fn decide(table: $crate::TableDef) -> Result<clone_policy::Decision, $crate::Error> {
                    running(|guest| guest.decide(&table))
                }
                fn apply(input: $crate::Rows) -> Result<clone_policy::Verdict, $crate::Error> {
                    running(|guest| guest.apply(&input))
                }
            }
    $crate::bindings::policy::export_policy!(Component with_types_in $crate::bindings::policy);
        };
        // Natively nothing is exported; the guest still counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> Result<$crate::policy::Running<$guest>, $crate::Error> =
            $crate::policy::Running::<$guest>::setup;
    };
}
