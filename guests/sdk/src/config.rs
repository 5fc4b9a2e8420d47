//! A guest's own configuration: JSON into a struct, with errors that name the key.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::consumer::TableName;
use crate::{Error, Pattern, TableDef};

/// Reads the configuration that `setup` was given. The empty text means `{}`.
///
/// # Errors
/// `config`, with what is wrong and where.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Error::Config(format!("the guest's configuration: {error}")))
}

/// Which tables a guest is for. Other tables pass unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Tables(Option<Vec<Pattern>>);

impl Tables {
    /// Whether the guest is for this table; without any pattern it is for all.
    pub fn contain(&self, table: &TableDef) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| table.is_named_by(pattern)))
    }

    /// Whether the guest is for the table of that name.
    pub fn name(&self, table: &TableName) -> bool {
        let named = |pattern: &Pattern| pattern.matches(&[&table.schema, &table.name]);
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(named))
    }

    /// Sees to it that every pattern can match: `schema.table`.
    ///
    /// # Errors
    /// `config`, with the pattern.
    pub fn validate(&self) -> Result<(), Error> {
        let none = Vec::new();
        self.0.as_ref().unwrap_or(&none).iter().try_for_each(|pattern| table_pattern("tables", pattern))
    }
}

/// Sees to it that a pattern names tables: `schema.table`.
///
/// # Errors
/// `config`, with the key and the pattern.
pub fn table_pattern(key: &str, pattern: &Pattern) -> Result<(), Error> {
    match pattern.part_count() {
        0 | 1 => Err(Error::Config(format!(
            "{key}: {:?} names no table; write schema.table, for example \"shop.orders\" or \"shop.*\"",
            pattern.as_str(),
        ))),
        _ => Ok(()),
    }
}

/// A guest's own configuration beside the `tables` that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct WithTables<C> {
    /// Patterns `schema.table`; without the key, all tables.
    #[serde(default)]
    pub tables: Tables,
    /// All other keys.
    #[serde(flatten)]
    pub own: C,
}

/// No keys at all: an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoConfig;

impl<'de> Deserialize<'de> for NoConfig {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let keys: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
            Deserialize::deserialize(input)?;
        match keys.keys().next() {
            Some(key) => Err(serde::de::Error::unknown_field(key, &["tables"])),
            None => Ok(NoConfig),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{NoConfig, WithTables, read};
    use crate::{Error, testing};

    type Only = WithTables<NoConfig>;

    #[test]
    fn tables_are_all_without_the_key_and_those_that_match_with_it() {
        let orders = testing::table("shop.orders", &[], &[]);
        for (json, expected) in [
            ("", true),
            ("{}", true),
            (r#"{"tables":["shop.*"]}"#, true),
            (r#"{"tables":["bank.*","shop.orders"]}"#, true),
            (r#"{"tables":["bank.*"]}"#, false),
            (r#"{"tables":[]}"#, false),
        ] {
            assert_eq!(read::<Only>(json).unwrap().tables.contain(&orders), expected, "{json}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        let Err(Error::Config(message)) = read::<Only>(r#"{"table":["a.b"]}"#) else { panic!("unknown key") };
        assert!(message.contains("unknown field `table`, expected `tables`"), "{message}");
        let Err(Error::Config(message)) = read::<Only>(r#"{"tables":["orders"]}"#).unwrap().tables.validate()
        else {
            panic!("no schema")
        };
        assert!(message.starts_with("tables: \"orders\" names no table"), "{message}");
    }
}
