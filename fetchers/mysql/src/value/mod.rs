//! Values of a row image, from their bytes to what Arrow holds. Pure functions over bytes.

pub(crate) mod compressed;
pub(crate) mod decimal;
pub(crate) mod declared;
pub(crate) mod document;
pub(crate) mod json;
mod short;
pub(crate) mod time;

use crate::wire::Malformed;

/// Why a value does not become one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// The bytes are not what the type says.
    Malformed(&'static str),
    /// A value that the type allows and we do not carry; the text says why and how to mend it.
    Refused(String),
    /// A date that is none, its bytes all read: with zeros, or a day that its month does not have.
    NoDate { year: u16, month: u8, day: u8 },
}

impl From<Malformed> for ValueError {
    fn from(Malformed(what): Malformed) -> Self {
        ValueError::Malformed(what)
    }
}

/// Whether the bytes are UTF-8. Most are ASCII, which is found out faster.
#[inline]
pub(crate) fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}
