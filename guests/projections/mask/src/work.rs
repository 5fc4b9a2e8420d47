//! What is computed for one column, prepared when its table is planned.

use std::rc::Rc;

use serde_json::Value;
use tidemill_guest::column::{Runs, Value as _};
use tidemill_guest::text::Spelling;
use tidemill_guest::{
    Column, ColumnDef, Decimal, Error, Logical, Physical, TableDef, Values, Varlen, calendar,
};

use crate::keyed::KeyedHash;
use crate::rule::{Action, Rule};

/// What is computed for one column.
pub enum Work {
    /// A keyed hash of the value's text.
    Hash(Rc<KeyedHash>, Spelling),
    /// The first characters.
    TruncateText(usize),
    /// The first bytes.
    TruncateBytes(usize),
    /// NULL in every row.
    Null(Physical),
    /// One value in every row.
    Constant(Constant),
}

/// A value in its physical layout.
pub enum Constant {
    /// true or false
    Bool(bool),
    /// signed
    Int(i64),
    /// unsigned
    Uint(u64),
    /// floating point
    Float(f64),
    /// text
    Text(String),
}

impl Work {
    /// Prepares a rule for a column: what comes out, and how.
    ///
    /// # Errors
    /// `unsupported`, when the rule does not fit the column's type.
    pub fn plan(
        rule: &Rule,
        hash: Option<&Rc<KeyedHash>>,
        table: &TableDef,
        ordinal: u32,
    ) -> Result<(ColumnDef, Work), Error> {
        let column = &table.columns[ordinal as usize];
        let same = column.clone();
        let misfit = |message: &str| {
            let (path, name, logical) = (table.path(), &column.name, &column.logical);
            Error::Unsupported(format!(
                "rules: {}: column {path}.{name} is {logical}: {message}",
                rule.spelled()
            ))
        };
        Ok(match rule.action {
            Action::Hash => {
                let hash = hash.ok_or_else(|| misfit("`hash` needs `key` and `key_id`"))?;
                (hashed(column), Work::Hash(Rc::clone(hash), Spelling::of(column)))
            }
            Action::Truncate => match column.meaning() {
                Logical::Text => (same, Work::TruncateText(rule.length())),
                Logical::Bytes => (same, Work::TruncateBytes(rule.length())),
                _ => return Err(misfit("`truncate` is for text and bytes; use `null` or `constant`")),
            },
            Action::Null | Action::Drop => {
                (ColumnDef { nullable: true, ..same }, Work::Null(column.physical))
            }
            Action::Constant => {
                let constant = constant(column.meaning(), rule.value());
                (
                    same,
                    Work::Constant(constant.ok_or_else(|| misfit("`value` has to be a value of that type"))?),
                )
            }
        })
    }

    /// Whether it looks at the column's values.
    pub fn needs_input(&self) -> bool {
        !matches!(self, Work::Null(_) | Work::Constant(_))
    }

    /// The column made from the values of a batch.
    ///
    /// # Errors
    /// `fatal`, when the column has another layout than was planned.
    pub fn of_column(&self, column: &Column) -> Result<Column, Error> {
        let Column { valid, present, .. } = column;
        let values = match (self, &column.values) {
            (Work::Hash(hash, _), Values::Text(runs) | Values::Bytes(runs)) if self.hashes_as_it_is() => {
                Values::Text(hash.of_runs(runs.runs(), column.valid_bits()))
            }
            (Work::Hash(hash, spelling), _) => Values::Text(hash.of_spelled(*spelling, column)),
            (Work::TruncateText(length), Values::Text(_)) => Values::Text(first_characters(column, *length)?),
            (Work::TruncateBytes(length), Values::Bytes(runs)) => {
                Values::Bytes(first_bytes(runs.runs(), *length))
            }
            _ => return Err(not_as_planned()),
        };
        Ok(Column { valid: valid.clone(), present: present.clone(), values })
    }

    fn hashes_as_it_is(&self) -> bool {
        matches!(self, Work::Hash(_, Spelling::Text | Spelling::Bytes))
    }

    /// The column of that many rows, made without any values.
    pub fn of_nothing(&self, count: usize) -> Column {
        match self {
            Work::Constant(constant) => Column::full(constant.repeated(count)),
            Work::Null(physical) => Column::nulls(*physical, count),
            // What looks at values has a place in the input.
            Work::Hash(..) | Work::TruncateText(_) => Column::nulls(Physical::Text, count),
            Work::TruncateBytes(_) => Column::nulls(Physical::Bytes, count),
        }
    }
}

fn not_as_planned() -> Error {
    Error::Fatal("the batch does not carry a column in the layout that was planned".to_owned())
}

/// What comes out of a hash.
fn hashed(column: &ColumnDef) -> ColumnDef {
    ColumnDef {
        name: column.name.clone(),
        logical: "text".to_owned(),
        physical: Physical::Text,
        source_type: "text".to_owned(),
        nullable: column.nullable,
    }
}

fn first_characters(column: &Column, length: usize) -> Result<Varlen, Error> {
    let texts = <&str>::view(column).ok_or_else(not_as_planned)?;
    let (mut offsets, mut data) = (Vec::with_capacity(column.len() + 1), Vec::new());
    offsets.push(0);
    for row in 0..column.len() {
        let text = texts.get(row);
        let end = text.char_indices().nth(length).map_or(text.len(), |(end, _)| end);
        data.extend_from_slice(&text.as_bytes()[..end]);
        offsets.push(data.len() as u32);
    }
    Ok(Varlen { offsets, data })
}

fn first_bytes(runs: Runs<'_>, length: usize) -> Varlen {
    let count = runs.offsets().len().saturating_sub(1);
    let (mut offsets, mut data) = (Vec::with_capacity(count + 1), Vec::new());
    offsets.push(0);
    for row in 0..count {
        let bytes = runs.get(row);
        data.extend_from_slice(&bytes[..bytes.len().min(length)]);
        offsets.push(data.len() as u32);
    }
    Varlen { offsets, data }
}

/// The configured value in the column's type; none when it does not fit.
fn constant(meaning: Logical, value: &Value) -> Option<Constant> {
    let text = value.as_str();
    Some(match meaning {
        Logical::Bool => Constant::Bool(value.as_bool()?),
        Logical::Int64 => Constant::Int(value.as_i64()?),
        Logical::Uint64 => Constant::Uint(value.as_u64()?),
        Logical::Float64 => Constant::Float(value.as_f64()?),
        Logical::Decimal { .. } => {
            let plain = text.map_or_else(|| value.to_string(), str::to_owned);
            Decimal::parse(plain.as_bytes())?;
            Constant::Text(plain)
        }
        Logical::Text => Constant::Text(text?.to_owned()),
        Logical::Json => Constant::Text(value.to_string()),
        Logical::Date => Constant::Int(calendar::parse_date(text?)?),
        Logical::Time => Constant::Int(calendar::parse_time(text?)?),
        Logical::Datetime | Logical::Timestamp => {
            Constant::Int(calendar::parse_datetime(text?.trim_end_matches('Z'))?)
        }
        Logical::Bytes | Logical::Uuid | Logical::Other => return None,
    })
}

impl Constant {
    fn repeated(&self, count: usize) -> Values {
        match self {
            Constant::Bool(value) => Values::Bools(vec![u8::from(*value); count]),
            Constant::Int(value) => Values::Ints(vec![*value; count]),
            Constant::Uint(value) => Values::Uints(vec![*value; count]),
            Constant::Float(value) => Values::Floats(vec![*value; count]),
            Constant::Text(text) => {
                let offsets = (0..=count).map(|row| (row * text.len()) as u32).collect();
                Values::Text(Varlen { offsets, data: text.as_bytes().repeat(count) })
            }
        }
    }
}
