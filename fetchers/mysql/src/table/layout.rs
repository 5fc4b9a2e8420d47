//! The schema of a table and how each of its columns is decoded, from its table map.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use tidemill_event::{ColumnSchema, TableSchema};

use crate::event::Flavour;
use crate::settings::{BadText, ValuePolicy, ZeroDates};
use crate::table::charset::Charset;
use crate::table::column::Kind;
use crate::table::map::{MapColumn, TableMap, code};
use crate::value::ValueError;
use crate::value::decimal::Shape;
use crate::value::declared::Declared;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) schema: Arc<TableSchema>,
    /// Of each column in a row, hidden ones too.
    pub(crate) kinds: Vec<Kind>,
    /// Places in a row of the columns that are the server's own and not in the schema.
    pub(crate) hidden: Vec<usize>,
    /// Columns in which what is no date is NULL, of those in a row.
    pub(crate) dates_nullable: Vec<bool>,
    /// Why rows cannot be decoded: the column concerned, if one is, and what to do.
    pub(crate) refusal: Option<(Option<usize>, String)>,
}

/// A column's Arrow type, its type in SQL, and how it is decoded.
struct Form {
    arrow: DataType,
    sql: String,
    kind: Result<Kind, String>,
}

const NO_NAMES: &str =
    "the log does not name the columns; run SET GLOBAL binlog_row_metadata = FULL, then start after that";

impl Layout {
    pub(crate) fn new(flavour: Flavour, map: &TableMap, policy: ValuePolicy) -> Layout {
        let mut columns = Vec::with_capacity(map.columns.len());
        let mut kinds = Vec::with_capacity(map.columns.len());
        let mut hidden = Vec::new();
        let mut dates_nullable = Vec::with_capacity(map.columns.len());
        let mut refusal = None;
        for (i, column) in map.columns.iter().enumerate() {
            let is_key = map.key.contains(&(i as u32));
            // Two keys must not become one, so a key's text is its own or none.
            let bad_text = if is_key { BadText::Error } else { policy.bad_text };
            let form = form(flavour, column, ValuePolicy { bad_text, ..policy });
            let date_nullable = policy.zero_dates == ZeroDates::Null && may_be_zero(column) && !is_key;
            dates_nullable.push(date_nullable);
            if is_hidden(flavour, column) {
                hidden.push(i);
            } else {
                let name = column.name.clone().unwrap_or_else(|| format!("@{}", i + 1));
                columns.push(ColumnSchema::new(
                    &name,
                    form.arrow,
                    &form.sql,
                    column.nullable || date_nullable,
                ));
            }
            kinds.push(form.kind.unwrap_or_else(|why| {
                refusal.get_or_insert((Some(columns.len().saturating_sub(1)), why));
                Kind::Bytes { length: 4 }
            }));
        }
        if map.columns.iter().any(|c| c.name.is_none()) {
            // Without names there are no labels and perhaps no signs either: this comes first.
            refusal = Some((None, NO_NAMES.to_owned()));
        }
        let key =
            map.key.iter().map(|k| k - hidden.iter().filter(|h| **h < *k as usize).count() as u32).collect();
        let schema = TableSchema::new(map.name.clone(), columns, key);
        Layout { schema, kinds, hidden, dates_nullable, refusal }
    }

    /// Whether rows of both are decoded alike.
    pub(crate) fn decodes_as(&self, other: &Layout) -> bool {
        self.schema.id() == other.schema.id()
            && self.kinds == other.kinds
            && self.hidden == other.hidden
            && self.dates_nullable == other.dates_nullable
    }
}

/// What MariaDB adds to a table whose unique key is too long to be one: the key's hash.
fn is_hidden(flavour: Flavour, column: &MapColumn) -> bool {
    let hash = column.name.as_deref().and_then(|name| name.strip_prefix("DB_ROW_HASH_"));
    flavour == Flavour::MariaDb
        && column.code == code::LONGLONG
        && hash.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn may_be_zero(column: &MapColumn) -> bool {
    matches!(column.code, code::DATE | code::DATETIME2 | code::TIMESTAMP2)
}

fn form(flavour: Flavour, column: &MapColumn, policy: ValuePolicy) -> Form {
    match column.code {
        code::TINY | code::SHORT | code::INT24 | code::LONG | code::LONGLONG => integer(column),
        code::FLOAT | code::DOUBLE | code::NEWDECIMAL => fractional(column),
        code::DATE | code::TIME2 | code::DATETIME2 | code::TIMESTAMP2 | code::YEAR => temporal(column),
        code::TIME | code::DATETIME | code::TIMESTAMP => refused(
            DataType::Binary,
            match column.code {
                code::TIME => "time",
                code::DATETIME => "datetime",
                _ => "timestamp",
            },
            "it has the format of a release before MySQL 5.6 or of mysql56_temporal_format=OFF; run ALTER TABLE … FORCE \
             with mysql56_temporal_format=ON, then start after that",
        ),
        code::VARCHAR | code::VAR_STRING | code::STRING | code::BLOB => text(flavour, column, policy),
        code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED => text(flavour, column, policy),
        code::ENUM | code::SET => labelled(flavour, column, policy),
        code::BIT => bits(column),
        code::JSON => good(DataType::Utf8, "json", Kind::Json { length: length_bytes(column) }),
        code::GEOMETRY => {
            good(DataType::Binary, geometry(column.geometry), Kind::Bytes { length: length_bytes(column) })
        }
        code::VECTOR => {
            let sql = column.dimension.map_or_else(|| "vector".to_owned(), |n| format!("vector({n})"));
            good(DataType::Binary, sql, Kind::Bytes { length: length_bytes(column) })
        }
        unknown => refused(
            DataType::Binary,
            &format!("type {unknown} of {}", if flavour == Flavour::MySql { "MySQL" } else { "MariaDB" }),
            "this release does not know the type; leave the table out",
        ),
    }
}

fn good(arrow: DataType, sql: impl Into<String>, kind: Kind) -> Form {
    Form { arrow, sql: sql.into(), kind: Ok(kind) }
}

fn refused(arrow: DataType, sql: &str, why: &str) -> Form {
    Form { arrow, sql: sql.to_owned(), kind: Err(why.to_owned()) }
}

fn integer(column: &MapColumn) -> Form {
    let (name, signed, unsigned) = match column.code {
        code::TINY => ("tinyint", (DataType::Int8, Kind::I8), (DataType::UInt8, Kind::U8)),
        code::SHORT => ("smallint", (DataType::Int16, Kind::I16), (DataType::UInt16, Kind::U16)),
        code::INT24 => ("mediumint", (DataType::Int32, Kind::I24), (DataType::UInt32, Kind::U24)),
        code::LONG => ("int", (DataType::Int32, Kind::I32), (DataType::UInt32, Kind::U32)),
        _ => ("bigint", (DataType::Int64, Kind::I64), (DataType::UInt64, Kind::U64)),
    };
    let (arrow, kind) = if column.unsigned { unsigned } else { signed };
    good(arrow, with_sign(name, column), kind)
}

fn with_sign(name: impl Into<String>, column: &MapColumn) -> String {
    let mut name = name.into();
    if column.unsigned {
        name.push_str(" unsigned");
    }
    name
}

fn fractional(column: &MapColumn) -> Form {
    match column.code {
        code::FLOAT => good(DataType::Float32, with_sign("float", column), Kind::F32),
        code::DOUBLE => good(DataType::Float64, with_sign("double", column), Kind::F64),
        _ => {
            let [precision, scale] = column.meta.to_le_bytes();
            let sql = with_sign(format!("decimal({precision},{scale})"), column);
            match Shape::new(precision, scale) {
                Some(shape) if precision <= 38 => {
                    good(DataType::Decimal128(precision, scale as i8), sql, Kind::Decimal128(shape))
                }
                Some(shape) => {
                    good(DataType::Decimal256(precision, scale as i8), sql, Kind::Decimal256(shape))
                }
                None => refused(
                    DataType::Binary,
                    &sql,
                    "no server has decimals of that precision; leave the table out",
                ),
            }
        }
    }
}

fn temporal(column: &MapColumn) -> Form {
    let digits = column.meta.min(6) as u8;
    let name = |name: &str| if digits == 0 { name.to_owned() } else { format!("{name}({digits})") };
    match column.code {
        code::DATE => good(DataType::Date32, "date", Kind::Date),
        code::YEAR => good(DataType::Int16, "year", Kind::Year),
        code::TIME2 => good(DataType::Duration(TimeUnit::Microsecond), name("time"), Kind::Time(digits)),
        code::DATETIME2 => {
            good(DataType::Timestamp(TimeUnit::Microsecond, None), name("datetime"), Kind::DateTime(digits))
        }
        _ => good(
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            name("timestamp"),
            Kind::Timestamp(digits),
        ),
    }
}

/// Bytes of a value's length: of a long type they are its number, else they follow from the longest value.
fn length_bytes(column: &MapColumn) -> u8 {
    match column.code {
        code::VARCHAR | code::VAR_STRING | code::STRING | code::VARCHAR_COMPRESSED => {
            1 + u8::from(column.meta > u16::from(u8::MAX))
        }
        _ => column.meta.clamp(1, 4) as u8,
    }
}

fn text(flavour: Flavour, column: &MapColumn, policy: ValuePolicy) -> Form {
    let Some(collation) = column.collation else {
        return refused(DataType::Binary, "text or bytes", NO_NAMES);
    };
    let length = length_bytes(column);
    match column.declared {
        Some(Declared::Shown(shown)) => {
            return good(DataType::Utf8, shown.sql(), Kind::Shown { length, shown });
        }
        Some(Declared::Vector(dimension)) => {
            return good(DataType::Binary, format!("vector({dimension})"), Kind::Bytes { length });
        }
        None => {}
    }
    let is_compressed = matches!(column.code, code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED);
    match Charset::of(flavour, collation, policy.bad_text) {
        Ok(charset) if charset.is_binary() => {
            let kind = match column.code {
                code::STRING => Kind::Padded { length, width: column.meta },
                _ if is_compressed => Kind::Compressed { length, charset },
                _ => Kind::Bytes { length },
            };
            good(DataType::Binary, sql_text(column, ["binary", "varbinary", "blob"], 1), kind)
        }
        Ok(charset) => {
            let sql = sql_text(column, ["char", "varchar", "text"], charset.character_bytes());
            let kind = if is_compressed {
                Kind::Compressed { length, charset }
            } else {
                Kind::Text { length, charset }
            };
            good(DataType::Utf8, sql, kind)
        }
        Err(name) => Form {
            arrow: DataType::Utf8,
            sql: sql_text(column, ["char", "varchar", "text"], 1),
            kind: Err(not_decoded(&name)),
        },
    }
}

fn not_decoded(charset: &str) -> String {
    format!(
        "text {charset} is not decoded yet; convert the column to utf8mb4 and start after that, or leave the table out"
    )
}

fn sql_text(column: &MapColumn, [fixed, varying, long]: [&str; 3], character_bytes: usize) -> String {
    // A compressed value has a byte more, which says how it is compressed.
    let header = u16::from(column.code == code::VARCHAR_COMPRESSED);
    let characters = usize::from(column.meta.saturating_sub(header)) / character_bytes;
    match column.code {
        code::STRING => format!("{fixed}({characters})"),
        code::BLOB | code::BLOB_COMPRESSED => {
            format!("{}{long}", ["", "tiny", "", "medium", "long"][usize::from(length_bytes(column))])
        }
        _ => format!("{varying}({characters})"),
    }
}

fn labelled(flavour: Flavour, column: &MapColumn, policy: ValuePolicy) -> Form {
    let (name, is_set) = if column.code == code::SET { ("set", true) } else { ("enum", false) };
    if column.labels.is_empty() {
        return refused(DataType::Utf8, name, NO_NAMES);
    }
    let charset = match column.collation.map(|c| Charset::of(flavour, c, policy.bad_text)) {
        Some(Ok(charset)) => charset,
        Some(Err(charset)) => {
            return Form { arrow: DataType::Utf8, sql: name.to_owned(), kind: Err(not_decoded(&charset)) };
        }
        None => return refused(DataType::Utf8, name, NO_NAMES),
    };
    let labels: Result<Vec<String>, ValueError> = column.labels.iter().map(|l| charset.text(l)).collect();
    let labels = match labels {
        Ok(labels) => labels,
        Err(ValueError::Refused(why)) => return refused(DataType::Utf8, name, &format!("of a label: {why}")),
        Err(_) => unreachable!("a text is refused or none"),
    };
    let quoted: Vec<String> = labels.iter().map(|l| format!("'{}'", l.replace('\'', "''"))).collect();
    let sql = format!("{name}({})", quoted.join(","));
    let labels: Arc<[String]> = labels.into();
    let width = column.meta.clamp(1, 8) as u8;
    good(DataType::Utf8, sql, if is_set { Kind::Set { width, labels } } else { Kind::Enum { width, labels } })
}

fn bits(column: &MapColumn) -> Form {
    let [rest, bytes] = column.meta.to_le_bytes();
    let bits = u16::from(bytes) * 8 + u16::from(rest);
    if rest > 7 || !(1..=64).contains(&bits) {
        let sql = format!("bit({bits})");
        return refused(DataType::Binary, &sql, "no server has bits of that number; leave the table out");
    }
    good(DataType::Binary, format!("bit({bits})"), Kind::Bits { bytes: bytes + u8::from(rest > 0) })
}

fn geometry(kind: Option<u64>) -> &'static str {
    match kind {
        Some(1) => "point",
        Some(2) => "linestring",
        Some(3) => "polygon",
        Some(4) => "multipoint",
        Some(5) => "multilinestring",
        Some(6) => "multipolygon",
        Some(7) => "geometrycollection",
        _ => "geometry",
    }
}
