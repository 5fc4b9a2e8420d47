//! Row predicates in the words of SQL's WHERE: `amount >= 50 and status like 'active%'`.
//!
//! A predicate is parsed once ([`Predicate::parse`]), bound to a table's columns and their types once a
//! schema version ([`Predicate::plan`]), and then judges whole columns ([`Plan::keep`]).
//!
//! What it understands:
//!
//! - `and`, `or`, `not`, parentheses; `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`, `[not] in (…)`,
//!   `[not] between … and …`, `is [not] null`, `[not] like '…'` (`%`, `_`, `\` takes the next
//!   character as it is); a boolean column by itself.
//! - literals: `-12`, `10.50`, `'text'` (`''` is one quote), `x'00ff'`, `true`, `false`; dates and
//!   times in quotes. Columns that are no plain word stand in backquotes or double quotes.
//!
//! What it means:
//!
//! - Three truth values. A comparison with NULL is unknown, and a row is kept when the whole is true.
//! - Decimals and integers are compared exactly, at any length. Text is compared by the bytes of its
//!   UTF-8, so case and accents count whatever the column's collation; `_` is one character.
//! - A row whose fate depends on a value that the source did not send is rejected, by name.
//! - A literal that does not fit its column's type is an error of the plan, not a row that never matches.

mod bind;
mod condition;
mod judge;
mod kernel;
mod like;
mod parse;
mod test;
mod token;

pub use bind::{Plan, TypedColumn};
pub use condition::{Condition, Split};
pub use parse::{Comparison, Expr, Literal, Operation, Predicate, Test};
pub use test::integer_bound;
