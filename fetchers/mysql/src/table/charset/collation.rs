//! Which character set a collation id belongs to. The ids are the servers' own, as `information_schema` lists them.

use crate::event::Flavour;

/// The character set of a collation, by its name in SQL.
pub(super) fn charset(flavour: Flavour, collation: u64) -> Option<&'static str> {
    /// MariaDB's collations without padding are the padding ones with this bit.
    const NO_PAD: u64 = 1024;
    if flavour == Flavour::MariaDb && (2 * NO_PAD..2 * NO_PAD + 5 * 256).contains(&collation) {
        // Of Unicode 14: 256 collations for each of five sets.
        let of_unicode = ["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"];
        return Some(of_unicode[(collation - 2 * NO_PAD) as usize / 256]);
    }
    let no_pad = flavour == Flavour::MariaDb && (NO_PAD..2 * NO_PAD).contains(&collation);
    let collation = if no_pad { collation - NO_PAD } else { collation };
    match (flavour, collation) {
        (Flavour::MySql, 248..=250) => Some("gb18030"),
        (Flavour::MariaDb, 576..=579) => Some("utf8mb3"),
        (Flavour::MariaDb, 608..=611) => Some("utf8mb4"),
        (Flavour::MariaDb, 640..=642) => Some("ucs2"),
        (Flavour::MariaDb, 672..=674) => Some("utf16"),
        (Flavour::MariaDb, 736..=738) => Some("utf32"),
        _ => shared(collation),
    }
}

/// The ids that both families have.
fn shared(collation: u64) -> Option<&'static str> {
    Some(match collation {
        1 | 84 => "big5",
        2 | 9 | 21 | 27 | 77 => "latin2",
        3 | 69 => "dec8",
        4 | 80 => "cp850",
        5 | 8 | 15 | 31 | 47..=49 | 94 => "latin1",
        6 | 72 => "hp8",
        7 | 74 => "koi8r",
        10 | 82 => "swe7",
        11 | 65 => "ascii",
        12 | 91 => "ujis",
        13 | 88 => "sjis",
        14 | 23 | 50..=52 => "cp1251",
        16 | 71 => "hebrew",
        18 | 89 => "tis620",
        19 | 85 => "euckr",
        20 | 41 | 42 | 79 => "latin7",
        22 | 75 => "koi8u",
        24 | 86 => "gb2312",
        25 | 70 => "greek",
        26 | 34 | 44 | 66 | 99 => "cp1250",
        28 | 87 => "gbk",
        29 | 58 | 59 => "cp1257",
        30 | 78 => "latin5",
        32 | 64 => "armscii8",
        33 | 76 | 83 | 192..=223 => "utf8mb3",
        35 | 90 | 128..=159 => "ucs2",
        36 | 68 => "cp866",
        37 | 73 => "keybcs2",
        38 | 43 => "macce",
        39 | 53 => "macroman",
        40 | 81 => "cp852",
        45 | 46 | 224..=247 | 255..=323 => "utf8mb4",
        54 | 55 | 101..=124 => "utf16",
        56 | 62 => "utf16le",
        57 | 67 => "cp1256",
        60 | 61 | 160..=191 => "utf32",
        63 => "binary",
        92 | 93 => "geostd8",
        95 | 96 => "cp932",
        97 | 98 => "eucjpms",
        _ => return None,
    })
}
