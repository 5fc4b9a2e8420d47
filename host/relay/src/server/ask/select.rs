//! What of a source is asked for, and what of that the caller may see. A name that is spelled out must be granted; a
//! pattern gives what is granted, now and later. Whether there is such a table, the answer looks up.

use std::collections::BTreeMap;

use tidemill_event::TableName;
use tidemill_sandbox::Predicate;

use super::parameters::{Parameters, bad, shown};
use super::part;
use crate::asked::{Selection, TablePattern};
use crate::predicate;
use crate::problem::{Code, Problem};
use crate::served::Guests;
use crate::server::caller::Caller;

/// What is known when a request comes.
pub(crate) struct Known<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) guests: &'a dyn Guests,
}

/// The selection of a request, in the form that is equal for equal wishes.
pub(crate) fn selection(parameters: &mut Parameters, known: &Known<'_>) -> Result<Selection, Problem> {
    let tables = tables(parameters.take("tables"), known)?;
    let columns = columns(parameters.take("columns"), &tables, known)?;
    let predicates = predicates(parameters.take("where"), &tables, known)?;
    let part = parameters.take("partition").map(|text| part::read(&text)).transpose()?;
    let filters = guests("filter", parameters.take("filter"), known.guests.filters())?;
    let projections = guests("projection", parameters.take("projection"), known.guests.projections())?;
    Ok(Selection { tables, columns, predicates, part, filters, projections }.normal())
}

fn tables(text: Option<String>, known: &Known<'_>) -> Result<Vec<TablePattern>, Problem> {
    let Some(text) = text else { return Ok(known.caller.tables().to_vec()) };
    let mut narrowed = Vec::new();
    for name in text.split(',') {
        let pattern = TablePattern::parse(name).ok_or_else(|| {
            bad(format!(
                "`tables` cannot hold \"{}\"; give tables as database.table, with * for a whole part",
                shown(name)
            ))
        })?;
        match exact(&pattern) {
            Some(table) => {
                known.granted(&table)?;
                narrowed.push(pattern);
            }
            None => narrowed.extend(known.granted_of(&pattern)),
        }
    }
    match narrowed.is_empty() {
        // An empty list would mean all of them.
        true => Err(Problem::new(
            Code::NotGranted,
            format!(
                "none of the tables {} is granted; ask for others, or have the grant widened",
                shown(&text)
            ),
        )),
        false => Ok(narrowed),
    }
}

/// The table, where the pattern is one.
fn exact(pattern: &TablePattern) -> Option<TableName> {
    Some(TableName::new(pattern.database.as_ref()?, pattern.table.as_ref()?))
}

impl Known<'_> {
    fn granted(&self, table: &TableName) -> Result<(), Problem> {
        let detail = || {
            format!(
                "the table {} is not granted; ask for others, or have the grant widened",
                shown(&table.to_string())
            )
        };
        match self.caller.shows(table) {
            true => Ok(()),
            false => Err(Problem::new(Code::NotGranted, detail())),
        }
    }

    /// A table that a parameter names is granted, and one of those that are asked for.
    fn named(&self, parameter: &str, table: &TableName, tables: &[TablePattern]) -> Result<(), Problem> {
        self.granted(table)?;
        match tables.is_empty() || tables.iter().any(|pattern| pattern.matches(table)) {
            true => Ok(()),
            false => {
                Err(bad(format!("`{parameter}` names {table}, and `tables` does not hold it; add it there")))
            }
        }
    }

    /// What of a pattern the grant allows.
    fn granted_of(&self, pattern: &TablePattern) -> Vec<TablePattern> {
        match self.caller.tables() {
            [] => vec![pattern.clone()],
            granted => granted.iter().filter_map(|granted| both(pattern, granted)).collect(),
        }
    }
}

/// The pattern for what two patterns have in common.
fn both(a: &TablePattern, b: &TablePattern) -> Option<TablePattern> {
    let part = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => (a == b).then(|| Some(a.clone())),
        (one, other) => Some(one.clone().or_else(|| other.clone())),
    };
    Some(TablePattern { database: part(&a.database, &b.database)?, table: part(&a.table, &b.table)? })
}

fn columns(
    text: Option<String>,
    tables: &[TablePattern],
    known: &Known<'_>,
) -> Result<Vec<(TableName, Vec<String>)>, Problem> {
    let mut all = BTreeMap::new();
    for item in text.iter().flat_map(|text| text.split(',')) {
        let (table, names) = of_table(item).ok_or_else(|| {
            bad(format!(
                "`columns` cannot hold \"{}\"; give them as database.table:column+column",
                shown(item)
            ))
        })?;
        known.named("columns", &table, tables)?;
        if all.insert(table.clone(), names).is_some() {
            return Err(bad(format!("`columns` names {table} twice; give all of its columns in one place")));
        }
    }
    Ok(all.into_iter().collect())
}

fn predicates(
    text: Option<String>,
    tables: &[TablePattern],
    known: &Known<'_>,
) -> Result<Vec<Predicate>, Problem> {
    let Some(text) = text else { return Ok(vec![]) };
    let all = predicate::parse_all(&text);
    let all =
        all.map_err(|what| bad(format!("`where` cannot be read: {what}")).with("parameter", "where"))?;
    all.iter().try_for_each(|predicate| known.named("where", &predicate.table, tables))?;
    Ok(all)
}

/// `database.table:column+column`.
fn of_table(text: &str) -> Option<(TableName, Vec<String>)> {
    let (table, names) = text.split_once(':')?;
    let table = exact(&TablePattern::parse(table)?)?;
    let names: Vec<String> = names.split('+').map(str::to_owned).collect();
    let sound = names.iter().all(|name| !name.is_empty());
    sound.then_some((table, names))
}

fn guests(parameter: &str, text: Option<String>, registered: Vec<String>) -> Result<Vec<String>, Problem> {
    let asked: Vec<String> = text.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
    let Some(unknown) = asked.iter().find(|name| !registered.contains(name)) else { return Ok(asked) };
    let there = match registered.is_empty() {
        true => "none is registered".to_owned(),
        false => format!("there are {}", registered.join(", ")),
    };
    let detail = format!("no {parameter} named \"{}\" is registered here; {there}", shown(unknown));
    Err(Problem::new(Code::UnknownGuest, detail))
}
