//! What a guest author imports: rows, columns and transactions over the contract in `wit/`.
//!
//! A guest is a crate of type `cdylib` (and `rlib`, so that `cargo test` runs its pure functions
//! natively), built for `wasm32-wasip2`. The smallest one is three lines:
//!
//! ```
//! use tidemill_guest::filter;
//! filter!(|amount: i64, status: &str| amount >= 50 && status.starts_with("active"));
//! # fn main() {}
//! ```
//!
//! Read on in [`filter`], [`projection`], [`policy`] or [`consumer`], whichever the guest is; then
//! in [`column`] (typed access) and [`build`](mod@build) (columns to give back). A panic ends the call as a trap;
//! its message reaches the host through standard error.

#[doc(hidden)]
pub mod bindings;
pub mod build;
pub mod calendar;
pub mod canonical;
pub mod column;
pub mod config;
pub mod consumer;
pub mod decimal;
pub mod filter;
pub mod host;
pub mod logical;
pub mod mask;
pub mod output;
pub mod pattern;
pub mod policy;
pub mod projection;
pub mod row;
pub mod state;
pub mod table;
pub mod testing;
pub mod text;

pub use bindings::base::tidemill::guest::types::{
    Column, ColumnDef, Error, Physical, RowError, Rows, TableDef, TableId, Values, Varlen,
};
pub use column::Cell;
pub use decimal::Decimal;
pub use logical::Logical;
pub use mask::Mask;
pub use pattern::Pattern;
pub use row::Row;
pub use tidemill_digest as digest;

/// The answer to rows of a table that `plan` did not see: a fault of the host.
fn not_planned(table: TableId) -> Error {
    Error::Fatal(format!("rows of table {table} came before its plan"))
}

/// The instance behind the exported functions: made by `setup`, asked by everything else.
#[doc(hidden)]
#[macro_export]
macro_rules! running {
    ($running:ty) => {
        struct Component;

        ::std::thread_local! {
            static RUNNING: ::core::cell::RefCell<Option<$running>> = const { ::core::cell::RefCell::new(None) };
        }

        /// Asks the instance that `setup` made.
        fn running<T, E: From<$crate::NotSetUp>>(
            ask: impl FnOnce(&mut $running) -> Result<T, E>,
        ) -> Result<T, E> {
            RUNNING.with_borrow_mut(|running| match running {
                Some(running) => ask(running),
                None => Err($crate::NotSetUp.into()),
            })
        }

        impl $crate::bindings::base::exports::tidemill::guest::lifecycle::Guest for Component {
            fn setup(
                config: String,
            ) -> Result<$crate::bindings::base::exports::tidemill::guest::lifecycle::Info, $crate::Error> {
                let made = <$running>::setup(&config)?;
                RUNNING.set(Some(made));
                Ok($crate::bindings::base::exports::tidemill::guest::lifecycle::Info {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                })
            }
        }

        $crate::bindings::base::export_base!(Component with_types_in $crate::bindings::base);
    };
}

/// A call came before `setup`: a fault of the host.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct NotSetUp;

impl From<NotSetUp> for Error {
    fn from(_: NotSetUp) -> Self {
        Error::Fatal("the guest was called before `setup`".to_owned())
    }
}
