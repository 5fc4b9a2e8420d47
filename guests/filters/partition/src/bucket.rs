//! From the columns that decide to a row's bucket.

use core::cmp::Ordering;

use serde_json::Value;
use tidemill_guest::canonical::Canonical;
use tidemill_guest::digest::Row;
use tidemill_guest::{Column, Decimal, Error, Logical, Physical, TableDef, Values};
use tidemill_predicate::{Literal, TypedColumn};

/// How the rows of one table are spread over buckets.
#[derive(Clone, Debug)]
pub enum Buckets {
    /// by the hash of these columns, over that many
    Hash(Vec<Canonical>, u64),
    /// by the remainder of an integer, over that many
    Modulus(u64),
    /// by bounds
    Range(Bounds),
}

/// Rising bounds in the column's type.
#[derive(Clone, Debug)]
pub enum Bounds {
    /// integers, dates and times
    Integers(Vec<i128>),
    /// floating-point numbers
    Floats(Vec<f64>),
    /// decimals as plain text
    Decimals(Vec<String>),
    /// text and bytes
    Runs(Vec<Vec<u8>>),
}

impl Buckets {
    /// By the hash of these columns.
    pub fn hash(table: &TableDef, columns: &[u32], of: u64) -> Self {
        let canonical = |ordinal: &u32| Canonical::of(&table.columns[*ordinal as usize]);
        Buckets::Hash(columns.iter().map(canonical).collect(), of)
    }

    /// By the remainder of that column.
    ///
    /// # Errors
    /// `unsupported`, when it holds no integers.
    pub fn modulus(table: &TableDef, ordinal: u32, of: u64) -> Result<Self, Error> {
        let column = &table.columns[ordinal as usize];
        match column.physical {
            Physical::Ints | Physical::Uints => Ok(Buckets::Modulus(of)),
            _ => Err(Error::Unsupported(format!(
                "column {}.{} is {}, and `mod` takes integers; use `hash`",
                table.path(),
                column.name,
                column.logical
            ))),
        }
    }

    /// By bounds of that column.
    ///
    /// # Errors
    /// `unsupported`, when the column has no order or a bound does not fit it; `config`, when the bounds
    /// do not rise.
    pub fn range(table: &TableDef, ordinal: u32, bounds: &[Value]) -> Result<Self, Error> {
        let definition = &table.columns[ordinal as usize];
        let typed = TypedColumn { table, definition };
        let literals: Vec<Literal> = bounds.iter().map(literal).collect::<Result<_, _>>()?;
        let numbers = || literals.iter().map(|literal| typed.number(literal)).collect::<Result<Vec<_>, _>>();
        let bounds = match definition.meaning() {
            Logical::Int64
            | Logical::Uint64
            | Logical::Date
            | Logical::Time
            | Logical::Datetime
            | Logical::Timestamp => {
                // The first integer that is not below the bound: 10.5 begins at 11.
                let first = |text: String| {
                    tidemill_predicate::integer_bound(
                        tidemill_predicate::Comparison::GreaterOrEqual,
                        &Decimal::parse(text.as_bytes()).unwrap_or(Decimal::ZERO),
                    )
                    .0
                };
                Bounds::Integers(numbers()?.into_iter().map(first).collect())
            }
            Logical::Float64 => {
                Bounds::Floats(numbers()?.iter().filter_map(|text| text.parse().ok()).collect())
            }
            Logical::Decimal { .. } => Bounds::Decimals(numbers()?),
            Logical::Text | Logical::Bytes | Logical::Uuid => {
                Bounds::Runs(literals.iter().map(|literal| typed.bytes(literal)).collect::<Result<_, _>>()?)
            }
            Logical::Bool | Logical::Json | Logical::Other => {
                let (path, name, logical) = (table.path(), &definition.name, &definition.logical);
                return Err(Error::Unsupported(format!(
                    "column {path}.{name} is {logical}, which has no order; use `hash`"
                )));
            }
        };
        if bounds.rise() {
            Ok(Buckets::Range(bounds))
        } else {
            Err(Error::Config("bounds: each has to be greater than the one before".to_owned()))
        }
    }

    /// The bucket of each row of a batch, or the place of the column that is absent.
    pub fn of<'a>(&'a self, columns: &'a [Column]) -> impl FnMut(usize) -> Result<u64, usize> + 'a {
        let mut key = Row::new();
        move |row| match self {
            Buckets::Hash(canonical, of) => {
                key.clear();
                for (place, (canonical, column)) in canonical.iter().zip(columns).enumerate() {
                    if !canonical.push(&mut key, column, row) {
                        return Err(place);
                    }
                }
                Ok(key.hash64() % of)
            }
            Buckets::Modulus(of) => one_value(columns, row, |column| remainder(column, row, *of)),
            Buckets::Range(bounds) => one_value(columns, row, |column| bounds.bucket(column, row)),
        }
    }
}

/// The bucket by one column: NULL is in the first.
fn one_value(columns: &[Column], row: usize, bucket: impl Fn(&Column) -> u64) -> Result<u64, usize> {
    match columns.first() {
        Some(column) if column.valid_bits().get(row) => Ok(bucket(column)),
        Some(column) if column.present_bits().get(row) => Ok(0),
        _ => Err(0),
    }
}

fn remainder(column: &Column, row: usize, of: u64) -> u64 {
    match &column.values {
        // Wide enough for every i64 and every number of buckets.
        Values::Ints(values) => i128::from(values[row]).rem_euclid(of.into()) as u64,
        Values::Uints(values) => values[row] % of,
        _ => 0,
    }
}

/// A bound of the configuration as a literal.
fn literal(bound: &Value) -> Result<Literal, Error> {
    match bound {
        Value::String(text) => Ok(Literal::Text(text.clone())),
        Value::Number(number) => Ok(Literal::Number(number.to_string())),
        other => Err(Error::Config(format!("bounds: {other} is no bound; write numbers, or text in quotes"))),
    }
}

impl Bounds {
    fn rise(&self) -> bool {
        match self {
            Bounds::Integers(bounds) => bounds.is_sorted_by(|a, b| a < b),
            Bounds::Floats(bounds) => bounds.is_sorted_by(|a, b| a < b),
            Bounds::Decimals(bounds) => bounds.is_sorted_by(|a, b| decimal(a) < decimal(b)),
            Bounds::Runs(bounds) => bounds.is_sorted_by(|a, b| a < b),
        }
    }

    /// How many bounds a row's value has reached.
    fn bucket(&self, column: &Column, row: usize) -> u64 {
        let reached = match (self, &column.values) {
            (Bounds::Integers(bounds), Values::Ints(values)) => {
                reached(bounds, |bound| *bound <= values[row].into())
            }
            (Bounds::Integers(bounds), Values::Uints(values)) => {
                reached(bounds, |bound| *bound <= values[row].into())
            }
            // NaN is unordered: it is above every bound.
            (Bounds::Floats(bounds), Values::Floats(values)) => {
                reached(bounds, |bound| values[row].partial_cmp(bound).is_none_or(Ordering::is_ge))
            }
            (Bounds::Decimals(bounds), Values::Text(runs)) => {
                let value = Decimal::parse(runs.runs().get(row)).unwrap_or(Decimal::ZERO);
                reached(bounds, |bound| decimal(bound) <= value)
            }
            (Bounds::Runs(bounds), Values::Text(runs) | Values::Bytes(runs)) => {
                let value = runs.runs().get(row);
                reached(bounds, |bound| bound.as_slice() <= value)
            }
            _ => 0,
        };
        reached as u64
    }
}

fn reached<B>(bounds: &[B], is_reached: impl Fn(&B) -> bool) -> usize {
    bounds.partition_point(is_reached)
}

fn decimal(text: &str) -> Decimal<'_> {
    Decimal::parse(text.as_bytes()).unwrap_or(Decimal::ZERO)
}
