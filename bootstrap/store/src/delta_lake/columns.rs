//! A table's columns as Delta Lake names their types. The Parquet types are decided where files are written.

use arrow_schema::{DataType, TimeUnit};
use serde_json::{Value, json};

use crate::StoredSchema;
use crate::table::own_name;

/// The schema of a table's base files, as text within the metadata. Every column may be NULL there: what a policy blanks is, and
/// readers need not check it.
pub(super) fn schema_string(schema: &StoredSchema) -> String {
    let mut fields: Vec<Value> = schema
        .columns
        .iter()
        .map(|column| {
            let metadata = json!({
                "tidemill.field": column.field,
                "tidemill.type": column.source_type,
            });
            field(&column.name, &type_name(&column.data_type.0), metadata)
        })
        .collect();
    fields.push(field(&own_name(schema, "_scn"), "long", json!({})));
    json!({ "type": "struct", "fields": fields }).to_string()
}

fn field(name: &str, type_name: &str, metadata: Value) -> Value {
    json!({ "name": name, "type": type_name, "nullable": true, "metadata": metadata })
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 | DataType::UInt8 => "short",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::Duration(_) => "long",
        DataType::UInt64 => "decimal(20,0)",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::Decimal256(..) | DataType::Utf8 => "string",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        other => unreachable!("{other} is not in the closed set of a column's types"),
    }
    .to_owned()
}
