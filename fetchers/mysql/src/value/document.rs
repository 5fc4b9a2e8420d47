//! A JSON document as a tree, for changes that the log tells as differences from the document before.
//!
//! A difference is an operation, a path and, unless it removes, a value:
//! `$.address."post code"` is replaced by, gains, or loses what the value says.

use std::borrow::Cow;

use crate::value::ValueError;
use crate::value::json;
use crate::wire::{Bytes, Malformed};

/// A document or a part of one. What has no parts is kept as it was packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Document<'a> {
    Scalar {
        kind: u8,
        bytes: &'a [u8],
    },
    Array(Vec<Document<'a>>),
    /// Ordered as the server orders them: by length, then by bytes.
    Object(Vec<(Cow<'a, [u8]>, Document<'a>)>),
}

/// A step of a path.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Member(Cow<'a, [u8]>),
    Cell(usize),
    /// So many before the last.
    Last(usize),
}

impl Step<'_> {
    /// Where in an array of that length this is: the place, which may be behind the end, or nothing before the first.
    fn place(&self, length: usize) -> Option<usize> {
        match self {
            Step::Member(_) => None,
            Step::Cell(i) => Some(*i),
            Step::Last(n) => length.checked_sub(1)?.checked_sub(*n),
        }
    }
}

const NO_PLACE: ValueError = ValueError::Malformed("a JSON difference has a path that leads nowhere");
const BAD_PATH: Malformed = Malformed("a JSON difference has a path that is none");

impl<'a> Document<'a> {
    /// From the packed form. What UPDATE IGNORE may leave of a document that is none is null.
    pub(crate) fn read(packed: &'a [u8]) -> Result<Document<'a>, ValueError> {
        match packed.split_first() {
            Some((kind, bytes)) => Document::part(*kind, bytes, 0, &mut packed.len()),
            None => Ok(Document::Scalar { kind: json::LITERAL, bytes: &[0] }),
        }
    }

    /// `left`: bytes that no part has taken yet. Places of a damaged document may lead to the same ones again and again.
    fn part(kind: u8, bytes: &'a [u8], depth: u32, left: &mut usize) -> Result<Document<'a>, ValueError> {
        let width = match kind {
            json::SMALL_OBJECT | json::SMALL_ARRAY => 2,
            json::LARGE_OBJECT | json::LARGE_ARRAY => 4,
            json::STRING => {
                spend(left, json::text_length(&mut Bytes(bytes))?)?;
                return Ok(Document::Scalar { kind, bytes });
            }
            json::OPAQUE => {
                let mut b = Bytes(bytes);
                b.u8()?;
                spend(left, json::text_length(&mut b)?)?;
                return Ok(Document::Scalar { kind, bytes });
            }
            _ => return Ok(Document::Scalar { kind, bytes }),
        };
        if depth >= json::DEPTH_MAX {
            return Err(ValueError::Malformed("a JSON value is too deep"));
        }
        let is_object = matches!(kind, json::SMALL_OBJECT | json::LARGE_OBJECT);
        let mut b = Bytes(bytes);
        let count = b.uint(width)? as usize;
        let size = b.uint(width)? as usize;
        let whole = bytes.get(..size).ok_or(Malformed("a JSON container is longer than its column"))?;
        let mut keys = Bytes(b.take(if is_object { count.saturating_mul(width + 2) } else { 0 })?);
        let mut entries = Bytes(b.take(count.saturating_mul(width + 1))?);
        spend(left, count)?;
        let mut part = |left: &mut usize| Document::entry(whole, &mut entries, width, depth, left);
        if !is_object {
            return Ok(Document::Array((0..count).map(|_| part(left)).collect::<Result<_, _>>()?));
        }
        let mut member = || {
            let (at, length) = (keys.uint(width)? as usize, usize::from(keys.u16()?));
            let key = whole.get(at..at.saturating_add(length));
            let key = key.ok_or(Malformed("a JSON key lies outside its object"))?;
            spend(left, length)?;
            Ok((Cow::Borrowed(key), part(left)?))
        };
        Ok(Document::Object((0..count).map(|_| member()).collect::<Result<_, ValueError>>()?))
    }

    /// What fits where its place would stand, stands there itself.
    fn entry(
        whole: &'a [u8],
        entries: &mut Bytes<'a>,
        width: usize,
        depth: u32,
        left: &mut usize,
    ) -> Result<Document<'a>, ValueError> {
        let kind = entries.u8()?;
        let entry = entries.take(width)?;
        let is_inline = matches!(kind, json::LITERAL | json::INT16 | json::UINT16)
            || (width == 4 && matches!(kind, json::INT32 | json::UINT32));
        if is_inline {
            return Document::part(kind, entry, depth + 1, left);
        }
        let at = Bytes(entry).uint(width)? as usize;
        let bytes = whole.get(at..).ok_or(Malformed("a JSON value lies outside its container"))?;
        Document::part(kind, bytes, depth + 1, left)
    }

    /// Appends the text that the server shows.
    pub(crate) fn print(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self {
            Document::Scalar { kind, bytes } => json::scalar(*kind, bytes, out)?,
            Document::Array(cells) => {
                out.push(b'[');
                for (i, cell) in cells.iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(b", ");
                    }
                    cell.print(out)?;
                }
                out.push(b']');
            }
            Document::Object(members) => {
                out.push(b'{');
                for (i, (key, member)) in members.iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(b", ");
                    }
                    json::quote(key, out)?;
                    out.extend_from_slice(b": ");
                    member.print(out)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }

    /// Applies differences, one behind the other.
    pub(crate) fn apply(&mut self, differences: &'a [u8]) -> Result<(), ValueError> {
        const REPLACE: u8 = 0;
        const INSERT: u8 = 1;
        const REMOVE: u8 = 2;
        let mut b = Bytes(differences);
        while !b.0.is_empty() {
            let operation = b.u8()?;
            let path = steps(b.counted()?)?;
            match operation {
                REPLACE => *self.at(&path)? = Document::read(b.counted()?)?,
                INSERT => self.insert(&path, Document::read(b.counted()?)?)?,
                REMOVE => self.remove(&path)?,
                _ => return Err(ValueError::Malformed("a JSON difference has an unknown operation")),
            }
        }
        Ok(())
    }

    fn at(&mut self, path: &[Step<'a>]) -> Result<&mut Document<'a>, ValueError> {
        path.iter().try_fold(self, |document, step| {
            let part = match (document, step) {
                (Document::Object(members), Step::Member(name)) => {
                    members.iter_mut().find(|(key, _)| key == name).map(|(_, member)| member)
                }
                (Document::Array(cells), cell) => cell.place(cells.len()).and_then(|i| cells.get_mut(i)),
                _ => None,
            };
            part.ok_or(NO_PLACE)
        })
    }

    fn insert(&mut self, path: &[Step<'a>], value: Document<'a>) -> Result<(), ValueError> {
        let (last, way) = path.split_last().ok_or(NO_PLACE)?;
        match (self.at(way)?, last) {
            (Document::Object(members), Step::Member(name)) => {
                let place =
                    members.binary_search_by(|(key, _)| (key.len(), &key[..]).cmp(&(name.len(), &name[..])));
                let place = place
                    .err()
                    .ok_or(ValueError::Malformed("a JSON difference adds a member that is there"))?;
                members.insert(place, (name.clone(), value));
            }
            (_, Step::Member(_)) => return Err(NO_PLACE),
            // Before the first or behind the last, however far: so does the server.
            (Document::Array(cells), cell) => {
                let place = cell.place(cells.len()).unwrap_or(0).min(cells.len());
                cells.insert(place, value);
            }
            _ => return Err(NO_PLACE),
        }
        Ok(())
    }

    fn remove(&mut self, path: &[Step<'a>]) -> Result<(), ValueError> {
        let (last, way) = path.split_last().ok_or(NO_PLACE)?;
        match (self.at(way)?, last) {
            (Document::Object(members), Step::Member(name)) => {
                let place = members.iter().position(|(key, _)| key == name).ok_or(NO_PLACE)?;
                members.remove(place);
            }
            (Document::Array(cells), cell) => {
                let place = cell.place(cells.len()).filter(|i| *i < cells.len()).ok_or(NO_PLACE)?;
                cells.remove(place);
            }
            _ => return Err(NO_PLACE),
        }
        Ok(())
    }
}

fn spend(left: &mut usize, bytes: usize) -> Result<(), Malformed> {
    *left =
        left.checked_sub(bytes).ok_or(Malformed("a JSON value leads to the same bytes again and again"))?;
    Ok(())
}

/// `$`, then `.name`, `."name"`, `[number]`, `[last]` or `[last-number]`, any number of times.
fn steps(path: &[u8]) -> Result<Vec<Step<'_>>, Malformed> {
    let mut rest = path.strip_prefix(b"$").ok_or(BAD_PATH)?;
    let mut steps = Vec::new();
    while let Some((mark, after)) = rest.split_first() {
        let length = match (mark, after.first()) {
            (b'.', Some(b'"')) => 1 + quoted_length(&after[1..])?,
            (b'.', _) => after.iter().position(|b| matches!(b, b'.' | b'[')).unwrap_or(after.len()),
            (b'[', _) => 1 + after.iter().position(|b| *b == b']').ok_or(BAD_PATH)?,
            _ => return Err(BAD_PATH),
        };
        let (step, next) = after.split_at(length);
        steps.push(match (mark, step.first()) {
            (b'[', _) => cell(&step[..length - 1]).ok_or(BAD_PATH)?,
            (_, Some(b'"')) => Step::Member(unquote(&step[1..length - 1])?),
            (_, Some(_)) => Step::Member(Cow::Borrowed(step)),
            (_, None) => return Err(BAD_PATH),
        });
        rest = next;
    }
    Ok(steps)
}

/// `number`, `last` or `last-number`.
fn cell(text: &[u8]) -> Option<Step<'static>> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_prefix("last") {
        None => text.parse().ok().map(Step::Cell),
        Some("") => Some(Step::Last(0)),
        Some(before) => before.strip_prefix('-')?.parse().ok().map(Step::Last),
    }
}

/// Of a text behind its first quotation mark, up to the last and with it.
fn quoted_length(text: &[u8]) -> Result<usize, Malformed> {
    let mut is_escaped = false;
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !is_escaped => return Ok(i + 1),
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    Err(BAD_PATH)
}

/// A text of JSON without its quotation marks.
fn unquote(text: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    if !text.contains(&b'\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut b = Bytes(text);
    while !b.0.is_empty() {
        let plain = match b.u8()? {
            b'\\' => match b.u8()? {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let digits = std::str::from_utf8(b.take(4)?).ok();
                    let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
                    let character = code.ok_or(BAD_PATH)?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
                escaped => escaped,
            },
            plain => plain,
        };
        out.push(plain);
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    /// `{"k": [1, "a"]}`
    const DOCUMENT: &[u8] =
        &[0, 1, 0, 24, 0, 11, 0, 1, 0, 2, 12, 0, b'k', 2, 0, 12, 0, 5, 1, 0, 12, 10, 0, 1, b'a'];

    fn text(document: &Document<'_>) -> String {
        let mut out = Vec::new();
        document.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn difference(operation: u8, path: &str, value: Option<&[u8]>) -> Vec<u8> {
        let mut out = vec![operation, path.len() as u8];
        out.extend_from_slice(path.as_bytes());
        value.iter().for_each(|v| {
            out.push(v.len() as u8);
            out.extend_from_slice(v);
        });
        out
    }

    #[test]
    fn l19_differences_are_applied_in_their_order() {
        let one = &[json::LITERAL, 1][..];
        let differences = [
            difference(0, "$.k[0]", Some(one)),
            difference(1, "$.k[1]", Some(&[5, 7, 0])),
            difference(1, "$.k[99]", Some(&[5, 8, 0])),
            difference(1, "$.\"a \\\"b\\u00e9\"", Some(one)),
            difference(1, "$.b", Some(DOCUMENT)),
            difference(2, "$.b.k[last]", None),
            difference(0, "$.b.k[last-0]", Some(&[5, 9, 0])),
            difference(1, "$.b.k[last-7]", Some(&[5, 6, 0])),
        ]
        .concat();
        let mut document = Document::read(DOCUMENT).unwrap();
        assert_eq!(text(&document), r#"{"k": [1, "a"]}"#);
        document.apply(&differences).unwrap();
        assert_eq!(text(&document), r#"{"b": {"k": [6, 9]}, "k": [true, 7, "a", 8], "a \"bé": true}"#);
        let whole = difference(0, "$", Some(one));
        document.apply(&whole).unwrap();
        assert_eq!(text(&document), "true");
    }

    #[test]
    fn l19_a_difference_that_does_not_fit_is_an_error() {
        let one = &[json::LITERAL, 1][..];
        for wrong in [
            difference(0, "$.x", Some(one)),
            difference(0, "$.k[2]", Some(one)),
            difference(1, "$.k", Some(one)),
            difference(1, "$.k.x", Some(one)),
            difference(1, "$", Some(one)),
            difference(2, "$.k[2]", None),
            difference(2, "$", None),
            difference(3, "$.k", None),
            difference(2, "k", None),
            difference(2, "$.", None),
            difference(2, "$[", None),
            difference(2, "$.\"k", None),
            difference(2, "$[x]", None),
            difference(2, "$.k[last-2]", None),
            difference(2, "$.k[last2]", None),
            difference(2, &format!("$.k[last-{}]", usize::MAX), None),
        ] {
            assert!(Document::read(DOCUMENT).unwrap().apply(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn containers_that_share_their_bytes_are_refused_before_they_fill_the_memory() {
        // Each of 40 arrays is twice the next.
        let mut document = vec![2];
        for level in 0..40 {
            document.extend_from_slice(&[
                2,
                0,
                (10 * (40 - level) + 4) as u8,
                ((10 * (40 - level) + 4) >> 8) as u8,
            ]);
            document.extend_from_slice(&[2, 10, 0, 2, 10, 0]);
        }
        document.extend_from_slice(&[0, 0, 4, 0]);
        assert!(
            matches!(Document::read(&document), Err(ValueError::Malformed(what)) if what.contains("again and again"))
        );
    }

    proptest! {
        #[test]
        fn damaged_differences_are_an_error_and_never_a_panic(
            document in prop::collection::vec(any::<u8>(), 0..40),
            differences in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            for document in [&document[..], DOCUMENT] {
                if let Ok(mut document) = Document::read(document) {
                    let _ = document.apply(&differences);
                    let _ = document.print(&mut Vec::new());
                }
            }
        }
    }
}
