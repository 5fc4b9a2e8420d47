//! Which character set a collation belongs to, and how its bytes become UTF-8.

use crate::value::{ValueError, is_utf8};

/// The character sets that we decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    Ascii,
    /// What the servers call latin1: Windows-1252, its five holes being control characters.
    Latin1,
    Utf8Mb3,
    Utf8Mb4,
    /// No characters at all.
    Binary,
}

impl Charset {
    /// The set of a collation id, or the id's own words where we do not decode it.
    pub(crate) fn of(collation: u64) -> Result<Charset, String> {
        /// MariaDB's collations without padding are the padding ones with this bit.
        const NO_PAD: u64 = 1024;
        let plain = if (NO_PAD..2 * NO_PAD).contains(&collation) { collation - NO_PAD } else { collation };
        Ok(match plain {
            63 => Charset::Binary,
            11 | 65 => Charset::Ascii,
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Charset::Latin1,
            33 | 76 | 83 | 192..=215 | 223 | 576..=578 | 2048..=2303 => Charset::Utf8Mb3,
            45 | 46 | 224..=247 | 255..=323 | 608..=610 | 2304..=2559 => Charset::Utf8Mb4,
            other => return Err(name(other)),
        })
    }

    /// Bytes of its longest character, by which the servers multiply a column's length.
    pub(crate) fn character_bytes(self) -> usize {
        match self {
            Charset::Ascii | Charset::Latin1 | Charset::Binary => 1,
            Charset::Utf8Mb3 => 3,
            Charset::Utf8Mb4 => 4,
        }
    }

    /// Appends the text as UTF-8.
    #[inline]
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self {
            Charset::Latin1 if !bytes.is_ascii() => bytes.iter().for_each(|byte| push_latin1(*byte, out)),
            Charset::Ascii if !bytes.is_ascii() => return Err(bad("ascii")),
            Charset::Utf8Mb3 | Charset::Utf8Mb4 if !is_utf8(bytes) => {
                return Err(bad("utf8mb4"));
            }
            _ => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// A whole text, such as a label.
    pub(crate) fn text(self, bytes: &[u8]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        self.decode(bytes, &mut out)?;
        String::from_utf8(out).map_err(|_| bad("utf8mb4"))
    }
}

fn bad(charset: &str) -> ValueError {
    ValueError::Refused(format!(
        "its bytes are no {charset}; convert the column to the character set that its values really have, or leave the table out"
    ))
}

fn name(collation: u64) -> String {
    let known = u16::try_from(collation).ok().map(mysql_common::collations::CollationId::from);
    match known.map(mysql_common::collations::Collation::resolve) {
        Some(known) if known.id() as u16 != 0 => known.charset().to_owned(),
        _ => format!("of collation {collation}"),
    }
}

fn push_latin1(byte: u8, out: &mut Vec<u8>) {
    /// 0x80 to 0x9f.
    const WINDOWS: [u16; 32] = [
        0x20ac, 0x0081, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
        0x0152, 0x008d, 0x017d, 0x008f, 0x0090, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
        0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x009d, 0x017e, 0x0178,
    ];
    let code = match byte {
        0x80..=0x9f => u32::from(WINDOWS[usize::from(byte - 0x80)]),
        _ => u32::from(byte),
    };
    let character = char::from_u32(code).expect("no code of the table is a surrogate");
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn collations_of_both_families_are_known() {
        for (collation, charset) in [
            (8, Charset::Latin1),
            (1032, Charset::Latin1),
            (11, Charset::Ascii),
            (33, Charset::Utf8Mb3),
            (45, Charset::Utf8Mb4),
            (255, Charset::Utf8Mb4),
            (1069, Charset::Utf8Mb4),
            (2304, Charset::Utf8Mb4),
            (63, Charset::Binary),
        ] {
            assert_eq!(Charset::of(collation), Ok(charset), "{collation}");
        }
    }

    #[test]
    fn other_character_sets_are_named() {
        assert_eq!(Charset::of(28), Err("gbk".to_owned()));
        assert_eq!(Charset::of(35), Err("ucs2".to_owned()));
        assert_eq!(Charset::of(9999), Err("of collation 9999".to_owned()));
    }

    #[test]
    fn latin1_is_windows_1252_with_its_holes_as_control_characters() {
        assert_eq!(Charset::Latin1.text(b"\x80 \x81 \xe9 a").unwrap(), "€ \u{81} é a");
    }

    #[test]
    fn bytes_outside_the_set_are_refused() {
        assert!(Charset::Ascii.text(b"\xe9").is_err());
        assert!(Charset::Utf8Mb4.text(b"\xc3").is_err());
        assert_eq!(Charset::Utf8Mb3.text("é".as_bytes()).unwrap(), "é");
    }
}
