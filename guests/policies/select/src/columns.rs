//! What becomes of the columns of a table: names and patterns, each with a treatment.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidemill_guest::policy::Treatment;
use tidemill_guest::{Error, Pattern, TableDef};

/// Names and patterns of columns, in no order: the most telling one that matches wins, so that it
/// does not matter how the configuration was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Columns(BTreeMap<String, Action>);

/// What the configuration says of a column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// as it is
    Keep,
    /// not stored
    Drop,
    /// NULL in every row
    Blank,
    /// a keyed hash, with the secret of that name
    Pseudonym(String),
}

impl Action {
    fn treatment(&self) -> Treatment {
        match self {
            Action::Keep => Treatment::Keep,
            Action::Drop => Treatment::Drop,
            Action::Blank => Treatment::Blank,
            Action::Pseudonym(secret) => Treatment::Pseudonym(secret.clone()),
        }
    }
}

impl Columns {
    /// What is wrong before any table is known.
    ///
    /// # Errors
    /// `config`.
    pub fn validate(&self, entry: &str) -> Result<(), Error> {
        match self.0.iter().find(|(_, action)| **action == Action::Pseudonym(String::new())) {
            Some((name, _)) => Err(Error::Config(format!(
                "{entry}: columns: {name}: `pseudonym` takes the name of a secret, as in {{\"pseudonym\": \"MAIL_KEY\"}}"
            ))),
            None => Ok(()),
        }
    }

    /// A full name that finds no column would store what was meant to go.
    ///
    /// # Errors
    /// `unsupported`.
    pub fn find_all(&self, table: &TableDef) -> Result<(), Error> {
        let lost = self.0.keys().find(|name| !name.contains('*') && table.ordinal(name).is_none());
        match lost {
            Some(name) => Err(Error::Unsupported(format!("columns: {}", table.no_column(name)))),
            None => Ok(()),
        }
    }

    /// One treatment a column of the table.
    ///
    /// # Errors
    /// `config`, when two patterns say different things with equal weight, or a key column would be
    /// lost.
    pub fn treatments(&self, table: &TableDef) -> Result<Vec<Treatment>, Error> {
        table.ordinals().into_iter().map(|ordinal| self.treatment(table, ordinal)).collect()
    }

    fn treatment(&self, table: &TableDef, ordinal: u32) -> Result<Treatment, Error> {
        let column = table.columns[ordinal as usize].name.as_str();
        let action = match self.0.get(column) {
            Some(action) => action,
            None => self.by_pattern(table, column)?,
        };
        let loses_key = table.is_key(ordinal) && matches!(action, Action::Drop | Action::Blank);
        if loses_key {
            return Err(Error::Config(format!(
                "columns: {column} is part of the key of {} and can neither be dropped nor blanked; \
                 keep it, or use a pseudonym",
                table.path()
            )));
        }
        Ok(action.treatment())
    }

    /// The action of the heaviest pattern that matches.
    fn by_pattern(&self, table: &TableDef, column: &str) -> Result<&Action, Error> {
        let patterns = self.0.iter().map(|(text, action)| (Pattern::new(text), action));
        let matching: Vec<_> = patterns.filter(|(pattern, _)| pattern.matches(&[column])).collect();
        let Some(most) = matching.iter().map(|(pattern, _)| pattern.weight()).max() else {
            return Ok(&Action::Keep);
        };
        let mut heaviest = matching.into_iter().filter(|(pattern, _)| pattern.weight() == most);
        let (first, action) = heaviest.next().expect("one has the greatest weight");
        match heaviest.find(|(_, other)| *other != action) {
            Some((other, _)) => Err(Error::Config(format!(
                "columns: {:?} and {:?} both name {}.{column} and say different things; name the column itself",
                first.as_str(),
                other.as_str(),
                table.path()
            ))),
            None => Ok(action),
        }
    }
}
