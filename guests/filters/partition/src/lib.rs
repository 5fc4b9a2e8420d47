//! Keeps the rows that fall in some of N buckets, so that several subscriptions share a source.
//!
//! ```json
//! {"by": "hash", "of": 8, "take": [0, 3]}
//! {"by": "mod", "of": 4, "take": [1], "column": "customer_id"}
//! {"by": "range", "bounds": [100, 200], "take": [2], "column": "id"}
//! ```
//!
//! Every row falls in exactly one bucket, from 0 to `of` - 1:
//!
//! - `hash`: XXH64 with seed 0 of the canonical bytes (`tidemill-digest`) of the key's columns in key
//!   order, or of `column`, modulo `of`. NULL has canonical bytes like any value.
//! - `mod`: one integer column, by the remainder that is never negative: -1 of 4 is bucket 3. NULL is in
//!   bucket 0.
//! - `range`: bucket i holds the values from bound i-1, included, to bound i, not included; `of` is the
//!   number of bounds and one. Text is ordered by its bytes. NULL sorts first: bucket 0.
//!
//! Without `column` the whole primary key decides. A row whose deciding column changes moves: it is
//! deleted for whoever had it and inserted for whoever has it now. `tables` are patterns
//! `schema.table`; other tables pass whole.

mod bucket;

use serde::Deserialize;
use serde_json::Value;
use tidemill_guest::config::Tables;
use tidemill_guest::filter::{Filter, Planned, Rejections};
use tidemill_guest::{Error, Mask, Rows, TableDef};

pub use bucket::Buckets;

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    tables: Tables,
    by: By,
    of: Option<u64>,
    take: Vec<u64>,
    #[serde(default)]
    bounds: Vec<Value>,
    column: Option<String>,
}

/// How rows are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// by a hash
    Hash,
    /// by the remainder of an integer
    Mod,
    /// by where a value lies between bounds
    Range,
}

/// The filter.
#[derive(Clone, Debug)]
pub struct Partition {
    config: Config,
    /// Whether each bucket is taken.
    taken: Vec<bool>,
}

/// How the rows of one table are spread.
#[derive(Clone, Debug)]
pub struct Plan {
    buckets: Buckets,
    names: Vec<String>,
}

/// More buckets than any group has members; a bound on the memory of `taken`.
const BUCKETS_MAX: u64 = 65_536;

impl Filter for Partition {
    type Config = Config;
    type Plan = Plan;

    fn setup(config: Config) -> Result<Self, Error> {
        config.tables.validate()?;
        let of = config.bucket_count()?;
        if config.take.is_empty() {
            return Err(Error::Config(format!("take: name at least one bucket from 0 to {}", of - 1)));
        }
        let mut taken = vec![false; of as usize];
        for bucket in &config.take {
            match taken.get_mut(*bucket as usize) {
                Some(slot) if !*slot => *slot = true,
                Some(_) => return Err(Error::Config(format!("take: bucket {bucket} is named twice"))),
                None => {
                    return Err(Error::Config(format!(
                        "take: there is no bucket {bucket}; the last is {}",
                        of - 1
                    )));
                }
            }
        }
        Ok(Partition { config, taken })
    }

    fn plan(&self, table: &TableDef) -> Result<Option<Planned<Plan>>, Error> {
        if !self.config.tables.contain(table) {
            return Ok(None);
        }
        let input = self.deciding_columns(table)?;
        let names = input.iter().map(|ordinal| table.columns[*ordinal as usize].name.clone()).collect();
        let of = self.taken.len() as u64;
        let buckets = match self.config.by {
            By::Hash => Buckets::hash(table, &input, of),
            By::Mod => Buckets::modulus(table, one(table, &input, "mod")?, of)?,
            By::Range => Buckets::range(table, one(table, &input, "range")?, &self.config.bounds)?,
        };
        Ok(Some(Planned { input, plan: Plan { buckets, names } }))
    }

    fn keep(&self, plan: &Plan, rows: &Rows) -> Result<Mask, Error> {
        let mut rejections = Rejections::default();
        let mut bucket_of = plan.buckets.of(&rows.columns);
        let kept = Mask::of_rows(rows.count as usize, |row| match bucket_of(row) {
            Ok(bucket) => self.taken[bucket as usize],
            Err(column) => {
                rejections.absent(row, &plan.names[column]);
                false
            }
        });
        rejections.or(kept)
    }
}

impl Config {
    fn bucket_count(&self) -> Result<u64, Error> {
        let by_bounds = self.bounds.len() as u64 + 1;
        let of = match (self.by, self.of) {
            (By::Range, _) if self.bounds.is_empty() => {
                return Err(Error::Config("bounds: `range` needs at least one".to_owned()));
            }
            (By::Range, Some(of)) if of != by_bounds => {
                let bounds = self.bounds.len();
                return Err(Error::Config(format!(
                    "of: {bounds} bounds make {by_bounds} buckets, not {of}; leave `of` out"
                )));
            }
            (By::Range, _) => by_bounds,
            (_, _) if !self.bounds.is_empty() => {
                return Err(Error::Config("bounds: they belong to `range`".to_owned()));
            }
            (_, Some(of)) => of,
            (_, None) => return Err(Error::Config("of: the number of buckets is needed".to_owned())),
        };
        match of {
            1..=BUCKETS_MAX => Ok(of),
            _ => Err(Error::Config(format!("of: from 1 to {BUCKETS_MAX} buckets, not {of}"))),
        }
    }
}

impl Partition {
    fn deciding_columns(&self, table: &TableDef) -> Result<Vec<u32>, Error> {
        match &self.config.column {
            Some(name) => Ok(vec![table.column(name)?.0]),
            None if table.key.is_empty() => Err(Error::Unsupported(format!(
                "table {} has no primary key to partition by; give it one, name a `column`, or leave it out of `tables`",
                table.path()
            ))),
            None => Ok(table.key.clone()),
        }
    }
}

/// The only column that decides.
fn one(table: &TableDef, input: &[u32], by: &str) -> Result<u32, Error> {
    match input {
        [ordinal] => Ok(*ordinal),
        _ => Err(Error::Unsupported(format!(
            "table {} has a key of {} columns, and `{by}` takes one; name it with `column`, or use `hash`",
            table.path(),
            input.len()
        ))),
    }
}

tidemill_guest::export_filter!(Partition);

#[cfg(test)]
mod tests;
