//! What is kept in `state`, and its JSON.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemill_guest::digest::Digest;
use tidemill_guest::state;

use crate::amount::Amount;

/// The state key of what is kept over all tables.
pub const TOTAL: &str = "total";

/// The state key of a table.
pub fn table_key(table: &str) -> String {
    format!("table/{table}")
}

/// What is kept of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// of the rows that are there now
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub digest: Digest,
    /// how many are there now
    pub rows: i64,
    /// rows that were inserted
    pub inserts: u64,
    /// rows that were updated
    pub updates: u64,
    /// rows that were deleted
    pub deletes: u64,
    /// rows that came with a snapshot
    pub snapshot: u64,
    /// how often all rows went at once
    #[serde(default)]
    pub emptied: u64,
    /// how often its content became another than what was delivered
    #[serde(default)]
    pub invalidated: u64,
    /// what its summed columns hold
    #[serde(default)]
    pub sum: Amount,
}

impl Table {
    /// No row is left.
    pub fn empty(&mut self) {
        (self.digest, self.rows, self.sum) = (Digest::default(), 0, Amount::default());
        self.emptied += 1;
    }
}

/// What is kept over all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// how many came to their end
    pub transactions: u64,
    /// the last one's
    pub scn: u64,
    /// the last one's
    pub id: String,
    /// what the summed columns hold together
    pub sum: Amount,
    /// whether it has been what it has to be
    pub reached: bool,
    /// the tables of which something is kept
    #[serde(default)]
    pub tables: BTreeSet<String>,
}

/// What is kept under a key; what was never kept is empty.
///
/// # Panics
/// When something else is there: the state is not this consumer's.
pub fn load<T: Default + serde::de::DeserializeOwned>(key: &str) -> T {
    match state::get(key) {
        None => T::default(),
        Some(json) => serde_json::from_slice(&json)
            .unwrap_or_else(|error| panic!("state {key:?} was not written by replica-check: {error}")),
    }
}

/// Keeps a value under a key.
pub fn save(key: &str, value: &impl Serialize) {
    state::set(key, &serde_json::to_vec(value).expect("numbers and text are JSON"));
}

fn write_digest<S: Serializer>(digest: &Digest, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(digest)
}

fn read_digest<'de, D: Deserializer<'de>>(input: D) -> Result<Digest, D::Error> {
    let digits = String::deserialize(input)?;
    Digest::parse(&digits).ok_or_else(|| serde::de::Error::custom("a digest has 32 hexadecimal digits"))
}
