//! Asks the server of a log for a table's definition, and proves that it was the same where the reader stands.

use std::collections::HashMap;

use tidemill_event::TableName;

use crate::extract::quoted;
use crate::options::ServerOptions;
use crate::schema::described::{Described, DescribedColumn};
use crate::schema::scan::{Found, Scanned};
use crate::schema::{Answer, Wanted};
use crate::transport::{Connection, Facts, Row, TransportError, read_facts, refusal};

/// What was found in the log ahead of the reader, so that no byte of it is looked at twice.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    ahead: Option<Scanned>,
}

/// Answers the question. Cancel-safe: what is lost is time.
pub(crate) async fn answer(
    asker: &mut Asker,
    options: &ServerOptions,
    wanted: &Wanted,
) -> Result<Answer, TransportError> {
    // This is no replica whose receipt a commit may wait for.
    let options = &ServerOptions { semi_sync: false, ..options.clone() };
    let mut connection = Connection::open(options).await?;
    let facts = same_server(&mut connection, wanted).await?;
    if still_in_force(options, &facts, wanted).await? {
        return Ok(Answer::StillInForce);
    }
    let charsets = charsets(&mut connection).await?;
    let Some(described) = describe(&mut connection, &wanted.table, &charsets).await? else {
        return Ok(Answer::Unknown);
    };
    // The end of the log after the question: what was asked for was in force at some place before it.
    let after = same_server(&mut connection, wanted).await?;
    drop(connection);
    let ahead = match asker.ahead.take().filter(|ahead| ahead.covers(&facts.identity, &wanted.here)) {
        Some(ahead) => ahead.on_to(options, &after).await?,
        None => Scanned::over(options, &after, &wanted.here, &after.end).await?,
    };
    let changed = ahead.first_of(&wanted.table, &wanted.here).map(Found::text);
    let upto = ahead.upto();
    asker.ahead = Some(ahead);
    Ok(match changed {
        Some((place, statement)) => Answer::Changed(place, statement),
        None => Answer::Described(described, upto),
    })
}

/// The log that is read and the server that answers have to be one.
async fn same_server(connection: &mut Connection, wanted: &Wanted) -> Result<Facts, TransportError> {
    let facts = read_facts(connection).await?;
    match facts.identity == wanted.server {
        true => Ok(facts),
        false => Err(TransportError::lost("another server answers now; its log is read from here on")),
    }
}

/// Whether no definition of the table lies between the proof of the stored version and the reader.
async fn still_in_force(
    options: &ServerOptions,
    facts: &Facts,
    wanted: &Wanted,
) -> Result<bool, TransportError> {
    let Some(proven) = wanted.unproven else { return Ok(false) };
    let Some(from) = facts.place(proven.binlog_file(), proven.binlog_offset()) else { return Ok(false) };
    match Scanned::over(options, facts, &from, &wanted.here).await {
        Ok(scanned) => Ok(scanned.first_of(&wanted.table, &from).is_none()),
        Err(lost @ TransportError::Lost(_)) => Err(lost),
        // That part of the log is gone: the version stays unproven.
        Err(TransportError::Failed(_)) => Ok(false),
    }
}

/// Some collation of each character set, by the set's name.
pub(crate) type Charsets = HashMap<String, u64>;

/// The character sets that the server has.
pub(crate) async fn charsets(connection: &mut Connection) -> Result<Charsets, TransportError> {
    let charsets = connection
        .query(
            "SELECT character_set_name, MIN(id) FROM information_schema.collations \
             WHERE id IS NOT NULL AND character_set_name IS NOT NULL GROUP BY character_set_name",
        )
        .await?;
    let pair = |row: &Row| Some((row.at(0)?.to_owned(), row.at(1)?.parse().ok()?));
    Ok(charsets.iter().filter_map(pair).collect())
}

/// The table as the information schema tells it; `None`: it shows none of that name.
pub(crate) async fn describe(
    connection: &mut Connection,
    table: &TableName,
    charsets: &Charsets,
) -> Result<Option<Described>, TransportError> {
    let is_it = is_it(table);
    let rows = connection
        .query(&format!(
            "SELECT column_name, data_type, column_type, is_nullable, character_octet_length, numeric_precision, \
             numeric_scale, datetime_precision, character_set_name, extra FROM information_schema.columns \
             WHERE {is_it} ORDER BY ordinal_position"
        ))
        .await?;
    let columns: Option<Vec<DescribedColumn>> = rows.iter().map(|row| column(row, charsets)).collect();
    let Some(columns) = columns.filter(|columns| !columns.is_empty()) else { return Ok(None) };
    // In the server's own order of keys.
    let show = format!("SHOW INDEX FROM {}.{}", quoted(&table.database), quoted(&table.table));
    let keys = match connection.try_query(&show).await? {
        Ok(keys) => keys,
        Err(refused) if refused.code == ER_NO_SUCH_TABLE => return Ok(None),
        Err(refused) => return Err(refusal(&refused)),
    };
    let is_computed = |at: usize| rows[at].at(9).is_some_and(|extra| extra.contains("VIRTUAL"));
    let place = |part: &Row| columns.iter().position(|column| Some(column.name.as_str()) == part.at(4));
    let stands_in = |at: usize| !columns[at].nullable && !is_computed(at);
    let key = primary_key(&keys, place, stands_in);
    Ok(Some(Described { columns, key }))
}

const ER_NO_SUCH_TABLE: u16 = 1146;

/// What the log calls a table's primary key, from SHOW INDEX: the primary key, or else the first unique one of whole columns of
/// which each may stand in for one.
fn primary_key(
    keys: &[Row],
    place: impl Fn(&Row) -> Option<usize>,
    stands_in: impl Fn(usize) -> bool,
) -> Vec<u32> {
    let part = |part: &Row| {
        let is_whole = part.at(7).is_none() && part.at(10) != Some("HASH");
        let is_part = |at: &usize| part.at(2) == Some("PRIMARY") || is_whole && stands_in(*at);
        place(part).filter(is_part).map(|at| at as u32)
    };
    let unique = keys.chunk_by(|a, b| a.at(2) == b.at(2)).filter(|parts| parts[0].at(1) == Some("0"));
    unique.filter_map(|parts| parts.iter().map(part).collect()).next().unwrap_or_default()
}

/// The condition for that table: names as bytes, so that nothing in them has a meaning, and exactly these.
pub(crate) fn is_it(table: &TableName) -> String {
    let is = |column: &str, name: &str| {
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{column} = _utf8mb4 X'{hex}' AND CAST({column} AS BINARY) = X'{hex}'")
    };
    format!("{} AND {}", is("table_schema", &table.database), is("table_name", &table.table))
}

fn column(row: &Row, charsets: &Charsets) -> Option<DescribedColumn> {
    let text = |at: usize| row.at(at).map(str::to_owned);
    let number = |at: usize| row.at(at).and_then(|number| number.parse().ok());
    Some(DescribedColumn {
        name: text(0)?,
        data_type: text(1)?.to_lowercase(),
        column_type: text(2)?,
        nullable: text(3)? == "YES",
        bytes: number(4),
        precision: number(5),
        scale: number(6),
        digits: number(7),
        collation: row.at(8).and_then(|charset| charsets.get(charset).copied()),
    })
}
