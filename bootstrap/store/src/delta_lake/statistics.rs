//! What a file's entry says of its rows, so that readers skip files: the count, and the bounds of the first key column, which the
//! file is sorted by. They come from the manifest; no file is read for it.

use arrow_schema::DataType;
use serde_json::{Map, Value, json};

use crate::{BaseFile, TableKey, TableState};

/// Longer texts have no bounds: a bound that is cut would have to be rounded.
const TEXT_BYTES_MAX: usize = 64;

/// The statistics, as text within the entry.
pub(super) fn of(state: &TableState, file: &BaseFile) -> String {
    let mut statistics = json!({ "numRecords": file.rows });
    if let TableKey::Columns { fields } = &state.key {
        let column = |field: &u32| state.schema.columns.iter().find(|column| column.field == *field);
        let columns: Vec<_> = fields.iter().filter_map(column).collect();
        let nulls: Map<String, Value> = columns.iter().map(|c| (c.name.clone(), json!(0))).collect();
        let bound = |key: &str| first_value(&columns.first()?.data_type.0, &bytes(key)?);
        if let (Some(low), Some(high)) = (bound(&file.first_key), bound(&file.last_key)) {
            let name = &columns[0].name;
            statistics["minValues"] = json!({ name: low });
            statistics["maxValues"] = json!({ name: high });
        }
        statistics["nullCount"] = Value::Object(nulls);
    }
    statistics.to_string()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The first column's value of an encoded key, as JSON; `None`: of a type whose bounds are not told.
fn first_value(data_type: &DataType, key: &[u8]) -> Option<Value> {
    let (flag, value) = key.split_first()?;
    match data_type {
        DataType::Utf8 if *flag == 1 => text(value).map(Value::from),
        data_type if data_type.is_integer() => {
            let number = <[u8; 8]>::try_from(value.get(..8)?).expect("it has 8 bytes");
            match flag {
                1 => Some(i64::from_be_bytes(number).into()),
                2 => Some(u64::from_be_bytes(number).into()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A text up to its terminator, two zero bytes; a zero byte of the text itself is followed by 0xFF.
fn text(value: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    let mut bytes = value.iter();
    while text.len() <= TEXT_BYTES_MAX {
        match (*bytes.next()?, bytes.as_slice().first()) {
            (0, Some(0xFF)) => {
                bytes.next();
                text.push(0);
            }
            (0, _) => return String::from_utf8(text).ok(),
            (byte, _) => text.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_key_is_what_was_encoded() {
        let cases: [(DataType, &str, Value); 8] = [
            (DataType::Int64, "020000000000000007", json!(7)),
            (DataType::Int64, "018000000000000000", json!(i64::MIN)),
            (DataType::Int32, "01ffffffffffffffff", json!(-1)),
            (DataType::UInt64, "02ffffffffffffffff", json!(u64::MAX)),
            (DataType::UInt8, "020000000000000000", json!(0)),
            (DataType::Utf8, "01610000", json!("a")),
            (DataType::Utf8, "016100ff620000", json!("a\0b")),
            (DataType::Utf8, "010000", json!("")),
        ];
        for (data_type, key, expected) in cases {
            // What follows belongs to the next column.
            let key = bytes(&format!("{key}01ff")).expect("digits");
            assert_eq!(first_value(&data_type, &key), Some(expected), "{data_type} {key:x?}");
        }
    }

    #[test]
    fn null_long_texts_and_other_types_have_no_bounds() {
        let long = [&[1][..], &[b'a'; 100], &[0, 0]].concat();
        assert_eq!(first_value(&DataType::Utf8, &long), None);
        assert_eq!(first_value(&DataType::Int64, &[0]), None);
        assert_eq!(first_value(&DataType::Float64, &[1; 9]), None);
    }
}
