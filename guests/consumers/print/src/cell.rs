//! One value as JSON.

use tidemill_guest::text::Spelling;
use tidemill_guest::{Column, ColumnDef, Values};

/// How a column's values stand in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// true, false, numbers
    Bare(Spelling),
    /// text that never needs escapes
    Quoted(Spelling),
    /// text that may need escapes
    Text,
    /// bytes
    Base64,
}

impl Form {
    /// How that column's values stand in JSON.
    pub fn of(column: &ColumnDef) -> Self {
        match Spelling::of(column) {
            Spelling::Text => Form::Text,
            Spelling::Bytes => Form::Base64,
            bare @ (Spelling::Bool | Spelling::Integer | Spelling::Float) => Form::Bare(bare),
            quoted => Form::Quoted(quoted),
        }
    }

    /// Writes the value of a row that has one.
    pub fn push(self, out: &mut Vec<u8>, column: &Column, row: usize) {
        match (self, &column.values) {
            (Form::Text, Values::Text(runs)) => {
                push_text(out, &String::from_utf8_lossy(runs.runs().get(row)))
            }
            (Form::Base64, Values::Bytes(runs)) => push_base64(out, runs.runs().get(row)),
            // JSON has no number for these.
            (Form::Bare(spelling), Values::Floats(values))
                if !values.get(row).is_some_and(|value| value.is_finite()) =>
            {
                push_quoted(out, spelling, column, row);
            }
            (Form::Bare(spelling), _) => spelling.push(out, column, row),
            (Form::Quoted(spelling), _) => push_quoted(out, spelling, column, row),
            // A layout other than the planned one; the host never sends it.
            (Form::Text | Form::Base64, _) => out.extend_from_slice(b"null"),
        }
    }
}

fn push_quoted(out: &mut Vec<u8>, spelling: Spelling, column: &Column, row: usize) {
    out.push(b'"');
    spelling.push(out, column, row);
    out.push(b'"');
}

/// Text in quotes, with escapes where JSON wants them.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes any text");
}

/// The standard alphabet, with padding.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::{Form, push_base64};
    use tidemill_guest::{Column, build, testing};

    fn check(logical: &str, column: &Column, expected: &str) {
        let mut out = Vec::new();
        Form::of(&testing::column("c", logical)).push(&mut out, column, 0);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{logical}");
    }

    #[test]
    fn every_type_has_its_form() {
        check("bool", &build::Bools::of(&[false]), "false");
        check("int64", &build::Ints::of(&[i64::MIN]), "-9223372036854775808");
        check("uint64", &build::Uints::of(&[u64::MAX]), "18446744073709551615");
        check("float64", &build::Floats::of(&[-0.25]), "-0.25");
        check("float64", &build::Floats::of(&[f64::NAN]), "\"NaN\"");
        check("decimal(4,2)", &build::Texts::of(&["9.90"]), "\"9.90\"");
        check("text", &build::Texts::of(&["a\"\\\n\u{1}ä"]), "\"a\\\"\\\\\\n\\u0001ä\"");
        check("json", &build::Texts::of(&["{\"a\":1}"]), "\"{\\\"a\\\":1}\"");
        check("date", &build::Ints::of(&[0]), "\"1970-01-01\"");
        check("timestamp", &build::Ints::of(&[0]), "\"1970-01-01T00:00:00Z\"");
        check("uuid", &build::Bytes::of(&[[0; 16]]), "\"00000000-0000-0000-0000-000000000000\"");
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut out = Vec::new();
            push_base64(&mut out, bytes.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), format!("\"{expected}\""));
        }
    }
}
