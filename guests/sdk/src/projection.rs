//! Projections: what a row looks like when it goes on.
//!
//! A projection names, for each table, every column that goes on: as it is (`Output::keep`, and its
//! values never enter the guest) or computed (`Output::computed`) from the columns that it asks for.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::bindings::projection::exports::tidemill::guest::row_projection as contract;
use crate::{Column, ColumnDef, Error, Rows, TableDef, config};

pub use contract::OutputColumn as Output;

impl Output {
    /// An input column as it is.
    pub fn keep(table: &TableDef, ordinal: u32) -> Self {
        Output { def: table.columns[ordinal as usize].clone(), source: Some(ordinal) }
    }

    /// A column that `project` computes.
    pub fn computed(def: ColumnDef) -> Self {
        Output { def, source: None }
    }
}

/// What goes on of one table, and what the guest keeps for its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Projected<P> {
    /// Ordinals of the columns that `project` needs.
    pub input: Vec<u32>,
    /// Every column that goes on, in order.
    pub output: Vec<Output>,
    /// Given back with every batch of the table.
    pub plan: P,
}

/// A projection. Pure: what it makes of a row depends on that row, the configuration and the table.
pub trait Projection: Sized + 'static {
    /// Read from the configuration's JSON.
    type Config: DeserializeOwned;
    /// What is prepared once a table.
    type Plan: 'static;
    /// Called once, first.
    ///
    /// # Errors
    /// `config`.
    fn setup(config: Self::Config) -> Result<Self, Error>;
    /// Called once a table, before its rows. `None`: the table passes unchanged.
    ///
    /// # Errors
    /// `config` or `unsupported`.
    fn plan(&self, table: &TableDef) -> Result<Option<Projected<Self::Plan>>, Error>;
    /// The computed columns, in the order of the outputs.
    ///
    /// # Errors
    /// `rejected` or `fatal`.
    fn project(&self, plan: &Self::Plan, rows: &Rows) -> Result<Vec<Column>, Error>;
}

/// One instance of a projection with its tables: what the export macro calls, and native tests too.
pub struct Running<P: Projection> {
    projection: P,
    plans: BTreeMap<u32, P::Plan>,
}

impl<P: Projection> Running<P> {
    /// `lifecycle.setup`
    ///
    /// # Errors
    /// The guest's own.
    pub fn setup(config: &str) -> Result<Self, Error> {
        Ok(Running { projection: P::setup(config::read(config)?)?, plans: BTreeMap::new() })
    }

    /// `row-projection.plan`
    ///
    /// # Errors
    /// The guest's own.
    pub fn plan(&mut self, table: &TableDef) -> Result<Option<contract::ProjectionPlan>, Error> {
        Ok(self.projection.plan(table)?.map(|Projected { input, output, plan }| {
            self.plans.insert(table.id, plan);
            contract::ProjectionPlan { input, output }
        }))
    }

    /// `row-projection.project`
    ///
    /// # Errors
    /// The guest's own; `fatal` for a table that was not planned.
    pub fn project(&self, rows: &Rows) -> Result<Vec<Column>, Error> {
        let plan = self.plans.get(&rows.table).ok_or_else(|| crate::not_planned(rows.table))?;
        self.projection.project(plan, rows)
    }
}

/// Exports a [`Projection`] as the component's `lifecycle` and `row-projection`.
#[macro_export]
macro_rules! export_projection {
    ($guest:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::projection::exports::tidemill::guest::row_projection;
            $crate::running!($crate::projection::Running<$guest>);
            impl row_projection::Guest for Component {
                fn plan(table: $crate::TableDef) -> Result<Option<row_projection::ProjectionPlan>, $crate::Error> {
                    running(|guest| guest.plan(&table))
                }
                fn project(input: $crate::Rows) -> Result<Vec<$crate::Column>, $crate::Error> {
                    running(|guest| guest.project(&input))
                }
            }
            $crate::bindings::projection::export_projection!(Component with_types_in $crate::bindings::projection);
        };
        // Natively nothing is exported; the guest still counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> Result<$crate::projection::Running<$guest>, $crate::Error> =
            $crate::projection::Running::<$guest>::setup;
    };
}
