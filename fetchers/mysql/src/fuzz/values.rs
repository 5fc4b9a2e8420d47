//! Targets below the events: table maps, rows, and the values within them.

use arrow_array::Array;
use arrow_buffer::i256;

use crate::event::kind;
use crate::fuzz::{flavour, policy};
use crate::table::{Charset, Layout, RowsEvent, TableBuilder, TableMap};
use crate::value::document::Document;
use crate::value::time::{Packed, print_packed};
use crate::value::{decimal as number, json as document, time};
use crate::wire::Bytes;

/// Rows of wide tables in few bytes fill much memory by right: narrow tables show what is wrong.
const COLUMNS_MAX: usize = 64;

/// A table map with its optional metadata, and the layout that follows from it. The first byte is the family.
pub fn table_map(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let Ok(map) = TableMap::read(flavour(*mode), data) else { return };
    assert!(map.key.iter().all(|k| (*k as usize) < map.columns.len()), "a key is of columns");
    let layout = Layout::new(flavour(*mode), &map, policy(*mode));
    assert_eq!(layout.kinds.len(), map.columns.len());
    assert_eq!(layout.schema.columns().len() + layout.hidden.len(), map.columns.len());
}

/// A rows event against a table map. The first byte: the family and the event's type; two for the map's length; the map.
pub fn rows(data: &[u8]) {
    const KINDS: [u8; 8] = [
        kind::WRITE_ROWS,
        kind::UPDATE_ROWS,
        kind::DELETE_ROWS,
        kind::WRITE_ROWS_V1,
        kind::UPDATE_ROWS_V1,
        kind::DELETE_ROWS_V1,
        kind::PARTIAL_UPDATE_ROWS,
        kind::UPDATE_ROWS_COMPRESSED,
    ];
    let mut b = Bytes(data);
    let (Ok(mode), Ok(length)) = (b.u8(), b.u16()) else { return };
    let Ok(map) = b.take(usize::from(length)) else { return };
    let Ok(map) = TableMap::read(flavour(mode), map) else { return };
    let layout = Layout::new(flavour(mode), &map, policy(mode));
    if layout.refusal.is_some() || map.columns.len() > COLUMNS_MAX {
        return;
    }
    let kind = KINDS[usize::from(mode >> 1) % KINDS.len()];
    let Ok(event) = RowsEvent::read(kind, b.0) else { return };
    let mut builder = TableBuilder::new(&layout);
    let mut ordinal = 0;
    for txn in 0..2 {
        let before = builder.rows();
        match builder.push(&event, ordinal, txn) {
            Ok(changes) => {
                ordinal += changes;
                builder.settle();
            }
            Err(_) => {
                builder.discard_from(ordinal);
                assert_eq!(builder.rows(), before, "what was there stays");
            }
        }
    }
    if let Some(changes) = builder.take_all() {
        assert_eq!(changes.rows.num_rows(), changes.kind.len(), "a row has a kind");
        for column in changes.rows.columns() {
            column.to_data().validate_full().expect("arrays are valid");
        }
    }
}

/// A binary JSON document, printed as it is and as a tree.
pub fn json(data: &[u8]) {
    let (mut straight, mut as_tree) = (Vec::new(), Vec::new());
    let is_printed = document::print(data, &mut straight).is_ok();
    if is_printed {
        check_json(data.len(), &straight);
    }
    let tree = Document::read(data).and_then(|tree| tree.print(&mut as_tree));
    if tree.is_ok() {
        check_json(data.len(), &as_tree);
        assert!(!is_printed || straight == as_tree, "both ways print the same");
    }
}

/// Differences of a JSON document: two bytes for its length, the document, the differences.
pub fn json_difference(data: &[u8]) {
    let mut b = Bytes(data);
    let Ok(length) = b.u16() else { return };
    let Ok(base) = b.take(usize::from(length)) else { return };
    let Ok(mut document) = Document::read(base) else { return };
    let mut out = Vec::new();
    if document.apply(b.0).and_then(|()| document.print(&mut out)).is_ok() {
        check_json(data.len(), &out);
    }
}

fn check_json(bytes: usize, text: &[u8]) {
    /// A control character of one byte takes six; every element takes its place beside its text.
    const GROWTH: usize = 16;
    assert!(text.len() <= bytes * GROWTH + 64, "{bytes} bytes print as {}", text.len());
    assert!(std::str::from_utf8(text).is_ok(), "JSON is UTF-8");
    assert_eq!(json_value(text).map(<[u8]>::len), Some(0), "{}", String::from_utf8_lossy(text));
}

/// What follows a JSON value; `None` where there is none. White space stands only where the server puts it.
fn json_value(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'{' => json_list(&text[1..], b'}', |text| json_value(json_text(text)?.strip_prefix(b": ")?)),
        b'[' => json_list(&text[1..], b']', json_value),
        b'"' => json_text(text),
        b't' => text.strip_prefix(b"true"),
        b'f' => text.strip_prefix(b"false"),
        b'n' => text.strip_prefix(b"null"),
        _ => json_number(text),
    }
}

fn json_list(mut text: &[u8], end: u8, item: impl Fn(&[u8]) -> Option<&[u8]>) -> Option<&[u8]> {
    if text.first() == Some(&end) {
        return Some(&text[1..]);
    }
    loop {
        text = item(text)?;
        match text.split_first()? {
            (last, rest) if *last == end => return Some(rest),
            _ => text = text.strip_prefix(b", ")?,
        }
    }
}

fn json_text(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let (first, after) = rest.split_first()?;
        rest = match first {
            b'"' => return Some(after),
            b'\\' => match after.split_first()? {
                (b'u', hex) => hex.get(..4)?.iter().all(u8::is_ascii_hexdigit).then(|| &hex[4..])?,
                (mark, after) => b"\"\\bfnrt".contains(mark).then_some(after)?,
            },
            0..0x20 => return None,
            _ => after,
        };
    }
}

fn json_number(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|c| matches!(c, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e')).count();
    let (number, rest) = text.split_at(length);
    let number: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    number.is_finite().then_some(rest)
}

/// A packed decimal. The first two bytes: precision and scale.
pub fn decimal(data: &[u8]) {
    let [precision, scale, data @ ..] = data else { return };
    let Some(shape) = number::Shape::new(*precision, *scale) else { return };
    let Ok(value) = number::read::<i256>(&mut Bytes(data), shape) else { return };
    if *precision <= 38 {
        let narrow = number::read::<i128>(&mut Bytes(data), shape).expect("it was read before");
        assert_eq!(i256::from_i128(narrow), value, "both widths hold the same number");
    }
    let mut out = Vec::new();
    number::print(&mut Bytes(data), shape, &mut out).expect("it was read before");
    let digits = out.iter().filter(|c| c.is_ascii_digit()).count();
    assert!(digits <= usize::from(*precision) + 1, "{}", String::from_utf8_lossy(&out));
    let text: String = out.iter().filter(|c| **c != b'.').map(|c| char::from(*c)).collect();
    assert_eq!(i256::from_string(&text), Some(value), "the text is the number");
}

/// A temporal value. The first two bytes: its type and the digits of its fraction.
pub fn temporal(data: &[u8]) {
    const DAYS: std::ops::RangeInclusive<i32> = -719_528..=2_932_896;
    const DAY_US: i64 = 86_400_000_000;
    let [mode, digits, data @ ..] = data else { return };
    let (mut b, digits) = (Bytes(data), digits % 7);
    match mode % 6 {
        0 => drop(time::date(&mut b).map(|days| assert!(DAYS.contains(&days), "{days}"))),
        1 => drop(time::datetime(&mut b, digits).map(|us| {
            let days = us.div_euclid(DAY_US) as i32;
            assert!(DAYS.contains(&days), "{us}");
        })),
        2 => drop(time::timestamp(&mut b, digits).map(|us| {
            assert!((0..=i64::from(u32::MAX) * 1_000_000 + 999_999).contains(&us), "{us}");
        })),
        3 => drop(time::time(&mut b, digits).map(|us| assert!(us.abs() < 839 * 3_600_000_000, "{us}"))),
        4 => drop(time::year(&mut b).map(|year| assert!(year == 0 || (1901..=2155).contains(&year)))),
        _ => {
            let Ok(packed) = b.u64() else { return };
            for kind in [Packed::Date, Packed::DateTime, Packed::Time] {
                let mut out = Vec::new();
                print_packed(packed as i64, kind, &mut out);
                assert!(out.is_ascii() && out.len() < 64);
            }
        }
    }
}

/// A text of some collation: family and policy, then two bytes for the collation's number.
pub fn charset(data: &[u8]) {
    let mut b = Bytes(data);
    let (Ok(mode), Ok(collation)) = (b.u8(), b.u16()) else { return };
    let charset = Charset::of(flavour(mode), u64::from(collation), policy(mode).bad_text);
    let Ok(charset) = charset else { return };
    if charset.is_binary() {
        return;
    }
    let mut out = Vec::new();
    if charset.decode(b.0, &mut out).is_ok() {
        assert!(std::str::from_utf8(&out).is_ok(), "what is decoded is UTF-8");
        assert!(out.len() <= b.0.len() * 8, "a byte is at most two characters");
    }
}
