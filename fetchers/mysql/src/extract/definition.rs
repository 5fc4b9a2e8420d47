//! What a table is now: the information schema's columns as the map that a log would have, and the layout that follows from
//! it, as it does in the stream. Then what identifies its rows, and whether they can be read consistently at all.

use tidemill_event::TableName;
use tidemill_fetchers_api::FetchError;
use tidemill_fetchers_api::extract::{SourceKey, SourceTable};

use crate::event::Flavour;
use crate::extract::error::unreadable;
use crate::extract::session::Server;
use crate::schema::{DescribedColumn, describe, is_it};
use crate::settings::{BadText, ValuePolicy};
use crate::table::{Charset, Kind, Layout, fault};
use crate::transport::{Connection, Row, TransportError, refusal};
use crate::value::declared::Declared;

/// A table as it is read.
pub(super) struct Definition {
    pub(super) layout: Layout,
    /// The columns of its schema.
    pub(super) columns: Vec<ReadColumn>,
}

/// A column as it is read.
pub(super) struct ReadColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// How its values come. Labels come as texts in the column's character set: catalogues have `?` for what lies beyond
    /// U+FFFF, so that the number of a label would not tell its text.
    pub(super) sent: Kind,
    /// What is no date is NULL.
    pub(super) date_nullable: bool,
    /// The type that the server knows and no log names, whether we show it or not.
    pub(super) declared: Option<Declared>,
}

/// Every table but the server's own.
pub(super) const TABLES: &str = "SELECT table_schema, table_name FROM information_schema.tables \
     WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
     AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";

/// The definition of that table; `None`: there is none that this user sees.
pub(super) async fn of(
    connection: &mut Connection,
    server: &Server,
    table: &TableName,
    values: ValuePolicy,
) -> Result<Option<Definition>, FetchError> {
    let described =
        describe(connection, table, &server.charsets).await.map_err(|e| server.sides.failed(e))?;
    let Some(described) = described else { return Ok(None) };
    let map = described.table_map(server.flavour, table.clone(), server.declared);
    let map = map.map_err(|misfit| {
        let column = misfit.column.map(|c| format!("column `{c}`: ")).unwrap_or_default();
        unreadable(table, &format!("{column}{}", misfit.what), "leave the table out")
    })?;
    let layout = Layout::new(server.flavour, &map, values);
    if let Some((column, why)) = layout.refusal {
        return Err(fault::unreadable(&layout.schema, column, "its definition".to_owned(), why));
    }
    let shown = (0..layout.kinds.len()).filter(|place| !layout.hidden.contains(place));
    let columns = shown.map(|place| {
        let (told, kind) = (&described.columns[place], &layout.kinds[place]);
        Ok(ReadColumn {
            name: told.name.clone(),
            kind: kind.clone(),
            sent: sent(server.flavour, told, kind).map_err(|why| {
                fault::unreadable(&layout.schema, Some(place), "its definition".to_owned(), why)
            })?,
            date_nullable: layout.dates_nullable[place],
            declared: told.declared(),
        })
    });
    let columns = columns.collect::<Result<_, FetchError>>()?;
    Ok(Some(Definition { columns, layout }))
}

/// A label that is no text of its character set would stop the stream too.
fn sent(flavour: Flavour, told: &DescribedColumn, kind: &Kind) -> Result<Kind, String> {
    match kind {
        Kind::Enum { .. } | Kind::Set { .. } => {
            let collation = told.collation.ok_or("its character set is not told; leave the table out")?;
            let charset = Charset::of(flavour, collation, BadText::Error);
            let charset = charset.map_err(|name| format!("its labels are {name}, which is not decoded"))?;
            Ok(Kind::Text { length: 1, charset })
        }
        other => Ok(other.clone()),
    }
}

/// What a caller needs to know of it. A table that cannot be copied is an error that says why.
pub(super) async fn source_table(
    connection: &mut Connection,
    server: &Server,
    definition: &Definition,
) -> Result<SourceTable, FetchError> {
    let schema = &definition.layout.schema;
    let is_it = is_it(schema.name());
    let failed = |e: TransportError| server.sides.failed(e);
    let query = format!(
        "SELECT t.table_type, t.engine, t.table_rows, t.data_length, e.transactions FROM information_schema.tables t \
         LEFT JOIN information_schema.engines e ON e.engine = t.engine WHERE {is_it}"
    );
    let rows = connection.query(&query).await.map_err(failed)?;
    let row = rows.first().ok_or_else(|| unreadable(schema.name(), "it is gone", "describe it again"))?;
    check(schema.name(), row)?;
    let parts = unique_indexes(connection, server.flavour, &is_it).await.map_err(failed)?;
    let (key, index) = key(definition, &parts);
    let number = |at: usize| row.at(at).and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(SourceTable {
        schema: schema.clone(),
        key,
        index,
        rows_estimate: number(2),
        bytes_estimate: number(3),
    })
}

/// The columns of its unique indexes that can be used: index, column, bytes of a prefix, whether it may be NULL.
async fn unique_indexes(
    connection: &mut Connection,
    flavour: Flavour,
    is_it: &str,
) -> Result<Vec<Row>, TransportError> {
    const ER_BAD_FIELD: u16 = 1054;
    let statement = |usable: &str| {
        format!(
            "SELECT index_name, column_name, sub_part, nullable FROM information_schema.statistics \
             WHERE {is_it} AND non_unique = 0 AND index_type <> 'HASH'{usable} ORDER BY index_name, seq_in_index"
        )
    };
    let usable = match flavour {
        Flavour::MySql => " AND is_visible = 'YES'",
        Flavour::MariaDb => " AND ignored = 'NO'",
    };
    match connection.try_query(&statement(usable)).await? {
        // Before MySQL 8 and MariaDB 10.6 there is no index that is not used.
        Err(refused) if refused.code == ER_BAD_FIELD => connection.query(&statement("")).await,
        other => other.map_err(|refused| refusal(&refused)),
    }
}

/// Whether all of its rows can be read as they were at one moment.
fn check(table: &TableName, row: &Row) -> Result<(), FetchError> {
    let engine = row.at(1).unwrap_or("none");
    match (row.at(0), row.at(4)) {
        (Some("BASE TABLE"), Some("YES")) => Ok(()),
        (Some("BASE TABLE"), _) => Err(unreadable(
            table,
            &format!(
                "its engine {engine} has no transactions, so that nothing tells which changes its rows have"
            ),
            "run ALTER TABLE … ENGINE = InnoDB, or leave the table out",
        )),
        (Some("SYSTEM VERSIONED"), _) => Err(unreadable(
            table,
            "the log has its old versions as rows, and a read has not",
            "run ALTER TABLE … DROP SYSTEM VERSIONING, or leave the table out",
        )),
        (kind, _) => Err(unreadable(
            table,
            &format!("it is no table, but {}", kind.unwrap_or("of no type").to_lowercase()),
            "leave it out",
        )),
    }
}

/// What the log calls the primary key, or else the unique one of fewest columns that allows no NULL; of those the first by name,
/// so that it is always the same.
fn key(definition: &Definition, parts: &[Row]) -> (SourceKey, Option<String>) {
    let schema = &definition.layout.schema;
    if !schema.key().is_empty() {
        let is_it = |index: &&[Row]| {
            // It alone may be of the beginnings of columns.
            index[0].at(0) == Some("PRIMARY")
                || index
                    .iter()
                    .map(|part| ordinal(definition, part))
                    .eq(schema.key().iter().map(|k| Some(*k)))
        };
        let named =
            parts.chunk_by(|a, b| a.at(0) == b.at(0)).filter(is_it).filter_map(|index| index[0].at(0));
        let index = named.max_by_key(|name| *name == "PRIMARY").map(str::to_owned);
        return (SourceKey::Primary(schema.key().to_vec()), index);
    }
    let mut best: Option<(Vec<u32>, &str)> = None;
    for index in parts.chunk_by(|a, b| a.at(0) == b.at(0)) {
        let ordinals: Option<Vec<u32>> = index.iter().map(|part| ordinal(definition, part)).collect();
        let (Some(ordinals), Some(name)) = (ordinals, index[0].at(0)) else { continue };
        if best.as_ref().is_none_or(|(shortest, _)| ordinals.len() < shortest.len()) {
            best = Some((ordinals, name));
        }
    }
    match best {
        Some((ordinals, name)) => (SourceKey::Unique(ordinals), Some(name.to_owned())),
        None => (SourceKey::Nothing, None),
    }
}

/// The column of an index, if it is one that identifies rows: whole, and never NULL.
fn ordinal(definition: &Definition, part: &Row) -> Option<u32> {
    let is_whole = part.at(2).is_none();
    let is_nullable = part.at(3) == Some("YES");
    let at = definition.columns.iter().position(|c| Some(c.name.as_str()) == part.at(1))?;
    (is_whole && !is_nullable && !definition.columns[at].date_nullable).then_some(at as u32)
}
