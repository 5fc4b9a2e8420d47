//! How a column's bytes become UTF-8: its character set, and what is done about bytes that are no text of it.
//!
//! The sets of Unicode are computed here; every other set is looked up in the codes that were measured on the servers.

mod codes;
mod collation;
#[cfg(test)]
mod tests;

use crate::event::Flavour;
use crate::settings::BadText;
use crate::table::charset::codes::Codes;
use crate::value::{ValueError, is_utf8};

/// A column's character set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Charset {
    set: Set,
    bad: BadText,
}

/// The character sets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Set {
    /// No characters at all.
    Binary,
    Ascii,
    /// What the servers call latin1: Windows-1252, its five holes being control characters.
    Latin1,
    Utf8Mb3,
    Utf8Mb4,
    /// Two bytes a character, which is why it has none beyond U+FFFF.
    Ucs2,
    Utf16,
    Utf16Le,
    Utf32,
    /// By their measured codes.
    Coded(&'static Codes),
}

impl Charset {
    /// The set of a collation, or how the collation is called where we do not know it.
    pub(crate) fn of(flavour: Flavour, collation: u64, bad: BadText) -> Result<Charset, String> {
        let unknown = || format!("of collation {collation}");
        let name = collation::charset(flavour, collation).ok_or_else(unknown)?;
        let set = match name {
            "binary" => Set::Binary,
            "ascii" => Set::Ascii,
            "latin1" => Set::Latin1,
            "utf8mb3" => Set::Utf8Mb3,
            "utf8mb4" => Set::Utf8Mb4,
            "ucs2" => Set::Ucs2,
            "utf16" => Set::Utf16,
            "utf16le" => Set::Utf16Le,
            "utf32" => Set::Utf32,
            coded => Set::Coded(codes::find(flavour, coded).ok_or_else(unknown)?),
        };
        Ok(Charset { set, bad })
    }

    pub(crate) fn is_binary(self) -> bool {
        self.set == Set::Binary
    }

    /// As SQL names it.
    pub(crate) fn name(self) -> &'static str {
        match self.set {
            Set::Binary => "binary",
            Set::Ascii => "ascii",
            Set::Latin1 => "latin1",
            Set::Utf8Mb3 => "utf8mb3",
            Set::Utf8Mb4 => "utf8mb4",
            Set::Ucs2 => "ucs2",
            Set::Utf16 => "utf16",
            Set::Utf16Le => "utf16le",
            Set::Utf32 => "utf32",
            Set::Coded(codes) => codes.name(),
        }
    }

    /// Whether its bytes are those of our texts: as UTF-8, and never replaced.
    pub(crate) fn is_exact_utf8(self) -> bool {
        matches!(self.set, Set::Ascii | Set::Utf8Mb3 | Set::Utf8Mb4) && self.bad == BadText::Error
    }

    /// Bytes of its longest character, by which the servers multiply a column's length.
    pub(crate) fn character_bytes(self) -> usize {
        match self.set {
            Set::Ascii | Set::Latin1 | Set::Binary => 1,
            Set::Ucs2 => 2,
            Set::Utf8Mb3 => 3,
            Set::Utf8Mb4 | Set::Utf16 | Set::Utf16Le | Set::Utf32 => 4,
            Set::Coded(codes) => codes.character_bytes(),
        }
    }

    /// Appends the text as UTF-8.
    #[inline]
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self.set {
            Set::Utf8Mb3 | Set::Utf8Mb4 if is_utf8(bytes) => out.extend_from_slice(bytes),
            Set::Binary => out.extend_from_slice(bytes),
            Set::Ascii | Set::Latin1 if bytes.is_ascii() => out.extend_from_slice(bytes),
            Set::Coded(codes) if codes.has_ascii() && bytes.is_ascii() => out.extend_from_slice(bytes),
            _ => self.decode_slowly(bytes, out)?,
        }
        Ok(())
    }

    /// Character by character.
    fn decode_slowly(self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        while !bytes.is_empty() {
            let (character, length) = self.first(bytes);
            let character = match (character, self.bad) {
                (Some(character), _) => character,
                (None, BadText::Replace) => char::REPLACEMENT_CHARACTER,
                (None, BadText::Error) => return Err(bad(self.name())),
            };
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            bytes = &bytes[length.min(bytes.len())..];
        }
        Ok(())
    }

    /// The first character, if the bytes begin with one, and how many bytes are dealt with.
    fn first(self, bytes: &[u8]) -> (Option<char>, usize) {
        match self.set {
            Set::Ascii => (Some(char::from(bytes[0])).filter(char::is_ascii), 1),
            Set::Latin1 => (Some(latin1(bytes[0])), 1),
            Set::Binary | Set::Utf8Mb3 | Set::Utf8Mb4 => utf8(bytes),
            Set::Ucs2 => (unit(bytes, u16::from_be_bytes).and_then(|u| char::from_u32(u.into())), 2),
            Set::Utf16 => utf16(bytes, u16::from_be_bytes),
            Set::Utf16Le => utf16(bytes, u16::from_le_bytes),
            Set::Utf32 => {
                let code = bytes.first_chunk().map(|b| u32::from_be_bytes(*b));
                (code.and_then(char::from_u32), 4)
            }
            Set::Coded(codes) => codes.first(bytes),
        }
    }

    /// A whole text, such as a label.
    pub(crate) fn text(self, bytes: &[u8]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        self.decode(bytes, &mut out)?;
        String::from_utf8(out).map_err(|_| bad(self.name()))
    }
}

fn bad(charset: &str) -> ValueError {
    ValueError::Refused(format!(
        "its bytes are no {charset}; convert the column to the character set that its values really have, leave the table \
         out, or set bad_text = \"replace\" on the source (not for a column of the primary key)"
    ))
}

fn utf8(bytes: &[u8]) -> (Option<char>, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((None, 1), |c| (Some(c), c.len_utf8()))
}

fn unit(bytes: &[u8], read: fn([u8; 2]) -> u16) -> Option<u16> {
    bytes.first_chunk().map(|b| read(*b))
}

fn utf16(bytes: &[u8], read: fn([u8; 2]) -> u16) -> (Option<char>, usize) {
    let units = [unit(bytes, read), unit(bytes.get(2..).unwrap_or_default(), read)];
    match char::decode_utf16(units.into_iter().map_while(|u| u)).next() {
        Some(Ok(character)) => (Some(character), 2 * character.len_utf16()),
        _ => (None, 2),
    }
}

fn latin1(byte: u8) -> char {
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
    char::from_u32(code).expect("no code of the table is a surrogate")
}
