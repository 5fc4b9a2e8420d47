//! MySQL's binary JSON as the text that the server prints for it.
//!
//! A container holds its element count, its size, the places of its keys (objects) and a type and a place or a
//! small value for each element. Places count from the container's beginning.

use std::io::Write;

use crate::value::time::{Packed, print_packed};
use crate::value::{ValueError, decimal, short};
use crate::wire::{Bytes, Malformed};

/// Deeper than any that a server makes.
pub(super) const DEPTH_MAX: u32 = 128;
/// No value's text is so many times as long as its bytes.
const GROWTH_MAX: usize = 16;

/// How deep a value lies, and how long the text may become: the places of damaged containers may lead to the same
/// bytes again and again.
#[derive(Clone, Copy)]
struct Bounds {
    depth: u32,
    out_max: usize,
}

impl Bounds {
    fn deeper(self) -> Bounds {
        Bounds { depth: self.depth + 1, ..self }
    }
}

pub(super) const SMALL_OBJECT: u8 = 0x00;
pub(super) const LARGE_OBJECT: u8 = 0x01;
pub(super) const SMALL_ARRAY: u8 = 0x02;
pub(super) const LARGE_ARRAY: u8 = 0x03;
pub(super) const LITERAL: u8 = 0x04;
pub(super) const INT16: u8 = 0x05;
pub(super) const UINT16: u8 = 0x06;
pub(super) const INT32: u8 = 0x07;
pub(super) const UINT32: u8 = 0x08;
const INT64: u8 = 0x09;
const UINT64: u8 = 0x0a;
const DOUBLE: u8 = 0x0b;
pub(super) const STRING: u8 = 0x0c;
pub(super) const OPAQUE: u8 = 0x0f;

/// Appends the text of a whole document.
pub(crate) fn print(document: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    // What UPDATE IGNORE may leave of a document that is no document: the server shows null.
    let Some((kind, body)) = document.split_first() else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    // About what a document becomes; more is made room for as it comes.
    out.reserve(2 * document.len());
    let out_max = out.len() + GROWTH_MAX * (document.len() + 4);
    Ok(of_kind(*kind, body, Bounds { depth: 0, out_max }, out)?)
}

/// Appends the text of a value that has no parts, without its kind in front.
pub(super) fn scalar(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    Ok(of_kind(kind, bytes, Bounds { depth: 0, out_max: usize::MAX }, out)?)
}

fn of_kind(kind: u8, bytes: &[u8], bounds: Bounds, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut b = Bytes(bytes);
    match kind {
        SMALL_OBJECT | SMALL_ARRAY => container::<2>(kind == SMALL_OBJECT, bytes, bounds, out)?,
        LARGE_OBJECT | LARGE_ARRAY => container::<4>(kind == LARGE_OBJECT, bytes, bounds, out)?,
        LITERAL => literal(b.u8()?, out)?,
        INT16 => signed(out, i64::from(i16::from_le_bytes(b.array()?))),
        UINT16 => unsigned(out, u64::from(b.u16()?)),
        INT32 => signed(out, i64::from(i32::from_le_bytes(b.array()?))),
        UINT32 => unsigned(out, u64::from(b.u32()?)),
        INT64 => signed(out, i64::from_le_bytes(b.array()?)),
        UINT64 => unsigned(out, b.u64()?),
        DOUBLE => double(f64::from_le_bytes(b.array()?), out)?,
        STRING => string(b, out)?,
        OPAQUE => opaque(b, out)?,
        _ => return Err(Malformed("a JSON value has an unknown type")),
    }
    Ok(())
}

fn literal(code: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let text: &[u8] = match code {
        0 => b"null",
        1 => b"true",
        2 => b"false",
        _ => return Err(Malformed("a JSON literal is unknown")),
    };
    short::append(out, text);
    Ok(())
}

fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

/// By hand: most numbers of documents have a digit or two.
fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    if value < 10 {
        return out.push(b'0' + value as u8);
    }
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    short::append(out, &digits[at..]);
}

/// Places and small values of a container have two bytes, or four in a large one.
fn container<const WIDTH: usize>(
    is_object: bool,
    bytes: &[u8],
    bounds: Bounds,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if bounds.depth >= DEPTH_MAX {
        return Err(Malformed("a JSON value is too deep"));
    }
    let mut b = Bytes(bytes);
    let count = number::<WIDTH>(b.array()?);
    let size = number::<WIDTH>(b.array()?);
    let whole = bytes.get(..size).ok_or(Malformed("a JSON container is longer than its column"))?;
    let keys_bytes = if is_object { count.saturating_mul(WIDTH + 2) } else { 0 };
    let mut keys = Bytes(b.take(keys_bytes)?);
    let mut values = Bytes(b.take(count.saturating_mul(WIDTH + 1))?);
    out.push(if is_object { b'{' } else { b'[' });
    for i in 0..count {
        if i > 0 {
            short::append(out, b", ");
        }
        if is_object {
            let (at, length) = (number::<WIDTH>(keys.array()?), usize::from(keys.u16()?));
            let key = whole.get(at..at.saturating_add(length));
            quote(key.ok_or(Malformed("a JSON key lies outside its object"))?, out)?;
            short::append(out, b": ");
        }
        element::<WIDTH>(whole, &mut values, bounds, out)?;
        if out.len() > bounds.out_max {
            return Err(Malformed("a JSON value leads to the same bytes again and again"));
        }
    }
    out.push(if is_object { b'}' } else { b']' });
    Ok(())
}

/// An element that fits where its place would stand, stands there itself.
#[inline]
fn element<const WIDTH: usize>(
    whole: &[u8],
    entries: &mut Bytes<'_>,
    bounds: Bounds,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let kind = entries.u8()?;
    let entry = entries.array::<WIDTH>()?;
    let inline = matches!(kind, LITERAL | INT16 | UINT16) || (WIDTH == 4 && matches!(kind, INT32 | UINT32));
    if inline {
        return of_kind(kind, &entry, bounds.deeper(), out);
    }
    let bytes =
        whole.get(number::<WIDTH>(entry)..).ok_or(Malformed("a JSON value lies outside its container"))?;
    if kind == STRING {
        return string(Bytes(bytes), out);
    }
    of_kind(kind, bytes, bounds.deeper(), out)
}

#[inline]
fn number<const WIDTH: usize>(bytes: [u8; WIDTH]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[inline]
fn string(mut b: Bytes<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let length = text_length(&mut b)?;
    quote(b.take(length)?, out)
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
pub(super) fn text_length(b: &mut Bytes<'_>) -> Result<usize, Malformed> {
    let mut length = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = b.u8()?;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(length).map_err(|_| Malformed("a JSON text is too long"));
        }
    }
    Err(Malformed("a JSON text has an impossible length"))
}

pub(super) fn quote(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if short::is_plain(text) {
        out.push(b'"');
        short::append(out, text);
        out.push(b'"');
        return Ok(());
    }
    if std::str::from_utf8(text).is_err() {
        return Err(Malformed("a JSON text is not UTF-8"));
    }
    let is_special = |c: u8| c < 0x20 || c == b'"' || c == b'\\';
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.iter().copied().enumerate().filter(|(_, c)| is_special(*c)) {
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => write!(out, "\\u{control:04x}").expect("a vector takes every write"),
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
    Ok(())
}

/// The shortest digits that give the same number back, with an exponent outside 1e-15 … 1e15 unless there are digits
/// behind the point, and `.0` behind an integer.
fn double(value: f64, out: &mut Vec<u8>) -> Result<(), Malformed> {
    const POINT_MAX: i32 = 15;
    if !value.is_finite() {
        return Err(Malformed("a JSON number is not finite"));
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` prints an exponent");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let exponent: i32 = exponent.parse().expect("`{:e}` prints a number behind e");
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    // The value is 0.DIGITS × 10^point.
    let point = exponent + 1;
    out.extend_from_slice(sign.as_bytes());
    let has_fraction = point > 0 && digits.len() > point as usize;
    let written = if !(1 - POINT_MAX..=POINT_MAX).contains(&point) && !has_fraction {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        write!(out, "{first}{dot}{rest}e{exponent}")
    } else if point <= 0 {
        write!(out, "0.{:0>width$}", digits, width = digits.len() + point.unsigned_abs() as usize)
    } else {
        let point = point as usize;
        match digits.len() > point {
            true => write!(out, "{}.{}", &digits[..point], &digits[point..]),
            false => write!(out, "{digits:0<point$}.0"),
        }
    };
    written.expect("a vector takes every write");
    Ok(())
}

/// A value of a type of SQL.
fn opaque(mut b: Bytes<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    const TIMESTAMP: u8 = 7;
    const DATE: u8 = 10;
    const TIME: u8 = 11;
    const DATETIME: u8 = 12;
    const DECIMAL: u8 = 246;
    let kind = b.u8()?;
    let length = text_length(&mut b)?;
    let mut b = Bytes(b.take(length)?);
    let temporal = match kind {
        DECIMAL => {
            let shape = decimal::Shape::of_document(b.u8()?, b.u8()?);
            let shape = shape.ok_or(Malformed("a JSON decimal has an impossible precision"))?;
            return decimal::print(&mut b, shape, out).map_err(|error| match error {
                ValueError::Malformed(what) => Malformed(what),
                _ => Malformed("a JSON decimal has an impossible value"),
            });
        }
        DATE => Packed::Date,
        TIME => Packed::Time,
        DATETIME | TIMESTAMP => Packed::DateTime,
        _ => {
            write!(out, "\"base64:type{kind}:").expect("a vector takes every write");
            base64(b.0, out);
            out.push(b'"');
            return Ok(());
        }
    };
    out.push(b'"');
    print_packed(i64::from_le_bytes(b.array()?), temporal, out);
    out.push(b'"');
    Ok(())
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    /// Of four digits: the server breaks lines.
    const LINE_GROUPS: usize = 76 / 4;
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (number, chunk) in bytes.chunks(3).enumerate() {
        if number > 0 && number % LINE_GROUPS == 0 {
            // Within a text of JSON.
            out.extend_from_slice(b"\\n");
        }
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::{any, *};

    fn text(document: &[u8]) -> String {
        let mut out = Vec::new();
        print(document, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn number_text(value: f64) -> String {
        let mut document = vec![DOUBLE];
        document.extend_from_slice(&value.to_le_bytes());
        text(&document)
    }

    #[test]
    fn scalars_are_printed_as_the_server_does() {
        assert_eq!(text(&[]), "null");
        assert_eq!(text(&[LITERAL, 1]), "true");
        assert_eq!(text(&[INT16, 0xff, 0xff]), "-1");
        assert_eq!(text(&[UINT64, 255, 255, 255, 255, 255, 255, 255, 255]), "18446744073709551615");
        assert_eq!(text(&[STRING, 3, b'a', b'"', 1]), r#""a\"\u0001""#);
        assert_eq!(text(&[OPAQUE, 16, 2, 0xab, 0xcd]), r#""base64:type16:q80=""#);
    }

    #[test]
    fn doubles_have_the_server_s_shape() {
        for (value, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1.25e300, "1.25e300"),
            (1e-5, "0.00001"),
            (1e-15, "0.000000000000001"),
            (1.5e-16, "1.5e-16"),
            (123456.789, "123456.789"),
            (2_045_442_695_766_624.5, "2045442695766624.5"),
            (2_045_442_695_766_624.0, "2.045442695766624e15"),
        ] {
            assert_eq!(number_text(value), expected);
        }
    }

    #[test]
    fn containers_hold_small_values_in_place_and_others_behind() {
        // [1, "a"] in an object under "k".
        let array = [2, 0, 12, 0, INT16, 1, 0, STRING, 10, 0, 1, b'a'];
        let mut object = vec![SMALL_OBJECT, 1, 0, 0, 0, 11, 0, 1, 0, SMALL_ARRAY, 12, 0, b'k'];
        object.extend_from_slice(&array);
        object[3] = (object.len() - 1) as u8;
        assert_eq!(text(&object), r#"{"k": [1, "a"]}"#);
        for len in 1..object.len() {
            assert!(print(&object[..len], &mut Vec::new()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_container_within_itself_is_refused() {
        let document = [SMALL_ARRAY, 1, 0, 7, 0, SMALL_ARRAY, 0, 0];
        assert!(print(&document, &mut Vec::new()).is_err());
    }

    #[test]
    fn containers_that_share_their_bytes_are_refused_before_they_fill_the_memory() {
        // Twice the array that follows, and so on: 2^40 elements.
        let mut document = vec![SMALL_ARRAY];
        let levels = 40u16;
        for level in 0..levels {
            let size = 10 * (levels - level) + 4;
            document.extend_from_slice(&[2, 0]);
            document.extend_from_slice(&size.to_le_bytes());
            document.extend_from_slice(&[SMALL_ARRAY, 10, 0, SMALL_ARRAY, 10, 0]);
        }
        document.extend_from_slice(&[0, 0, 4, 0]);
        let mut out = Vec::new();
        let refused = print(&document, &mut out);
        assert!(matches!(refused, Err(ValueError::Malformed(what)) if what.contains("again and again")));
        assert!(out.len() < 100_000, "{}", out.len());
    }

    proptest! {
        #[test]
        fn a_printed_double_is_the_same_number(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(number_text(value).parse::<f64>().unwrap(), value);
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = print(&bytes, &mut Vec::new());
        }
    }
}
