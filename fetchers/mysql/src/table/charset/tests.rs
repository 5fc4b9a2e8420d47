//! Every code of every character set, as real servers convert it. With `BLESS=1` the tables are measured anew and
//! written to `codes.zst`; without, what lies there is compared with the servers, code by code.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;

use tidemill_servers::{Kind, Options, Server};

use super::codes::{Codes, Measured, NO_CHARACTER, NO_CODE, bit, find, number_of, pack};
use super::*;

/// Sets of one byte a character, of both families.
const SINGLE: [&str; 26] = [
    "latin2", "latin5", "latin7", "dec8", "cp850", "hp8", "koi8r", "swe7", "hebrew", "cp1251", "tis620",
    "koi8u", "greek", "cp1250", "cp1257", "armscii8", "cp866", "keybcs2", "macce", "macroman", "cp852",
    "cp1256", "geostd8", // Computed, not looked up; compared all the same.
    "ascii", "latin1", "binary",
];
/// The others, with the bytes of their longest character.
const MULTIPLE: [(&str, u8); 8] = [
    ("big5", 2),
    ("sjis", 2),
    ("cp932", 2),
    ("euckr", 2),
    ("gb2312", 2),
    ("gbk", 2),
    ("ujis", 3),
    ("eucjpms", 3),
];
/// MySQL alone.
const GB18030: (&str, u8) = ("gb18030", 4);

fn flavour(kind: Kind) -> Flavour {
    if kind == Kind::MySql { Flavour::MySql } else { Flavour::MariaDb }
}

async fn start(kind: Kind) -> Server {
    let server = Server::start(kind, Options::default().argument("--sql-mode=").argument("--skip-log-bin"))
        .await
        .unwrap();
    let numbers: Vec<String> = (0..256).map(|n| format!("({n}, X'{n:02X}')")).collect();
    let fill = format!(
        "CREATE DATABASE d; CREATE TABLE d.n (n INT PRIMARY KEY, b VARBINARY(1)); INSERT INTO d.n VALUES {}; \
         SET GLOBAL group_concat_max_len = 4194304",
        numbers.join(", ")
    );
    server.sql(&fill).await.unwrap();
    server
}

/// What the server makes of these bytes and each last byte: one character, the question mark that stands for a code
/// without one, or something that is not one code.
async fn page(server: &Server, set: &str, before: &[u8]) -> Vec<u16> {
    let mut head = String::new();
    before.iter().for_each(|b| write!(head, "{b:02X}").unwrap());
    let query = format!(
        "SELECT GROUP_CONCAT(COALESCE(HEX(CONVERT(CONVERT(CONCAT(X'{head}', b) USING {set}) USING utf32)), '') ORDER BY n) \
         FROM d.n"
    );
    let texts: String = server.value(&query).await.unwrap().unwrap();
    let cells: Vec<u16> =
        texts.split(',').enumerate().map(|(n, text)| cell(text, before.is_empty() && n == 0x3f)).collect();
    assert_eq!(cells.len(), 256, "{set} {head}");
    cells
}

fn cell(text: &str, is_question_mark: bool) -> u16 {
    match u32::from_str_radix(text, 16) {
        Ok(0x3f) if text.len() == 8 && !is_question_mark => NO_CHARACTER,
        Ok(code) if text.len() == 8 => {
            u16::try_from(code).ok().filter(|c| *c < NO_CHARACTER).expect("in the basic plane")
        }
        _ => NO_CODE,
    }
}

async fn measure(server: &Server, set: &str, character_bytes: u8) -> Measured {
    let mut first = page(server, set, &[]).await;
    let mut pages = Vec::new();
    if character_bytes > 1 {
        for lead in 0x80..=0xffu8 {
            let is_single = first[usize::from(lead)] < NO_CHARACTER;
            let next = if is_single { vec![NO_CODE; 256] } else { page(server, set, &[lead]).await };
            let has_codes = next.iter().any(|cell| *cell != NO_CODE);
            let is_long = lead == 0x8f && character_bytes == 3;
            if !is_single {
                first[usize::from(lead)] = NO_CODE;
            }
            if has_codes || is_long {
                pages.push((vec![lead], next));
            }
            for second in (0xa1..=0xfeu8).filter(|_| is_long) {
                pages.push((vec![lead, second], page(server, set, &[lead, second]).await));
            }
        }
    }
    pages.insert(0, (vec![], first));
    let runs = if set == GB18030.0 { runs(server).await } else { vec![] };
    Measured { name: set.to_owned(), character_bytes, pages, runs }
}

/// The codes of four bytes, all 1 587 600, as runs.
async fn runs(server: &Server) -> Vec<[u32; 3]> {
    let mut runs: Vec<[u32; 3]> = Vec::new();
    for (first, second) in (0x81..=0xfeu8).flat_map(|a| (0x30..=0x39u8).map(move |b| (a, b))) {
        let query = format!(
            "SELECT GROUP_CONCAT(COALESCE(HEX(CONVERT(CONVERT(CONCAT(X'{first:02X}{second:02X}', c.b, e.b) USING gb18030) \
             USING utf32)), '') ORDER BY c.n, e.n) FROM d.n c JOIN d.n e WHERE c.n BETWEEN 129 AND 254 AND e.n BETWEEN 48 AND 57"
        );
        let texts: String = server.value(&query).await.unwrap().unwrap();
        let base = number_of([first, second, 0x81, 0x30]).unwrap();
        for (number, text) in (base..).zip(texts.split(',')) {
            let Ok(character) = u32::from_str_radix(text, 16) else { continue };
            if text.len() != 8 || character == 0x3f {
                continue;
            }
            match runs.last_mut() {
                Some([start, count, of]) if *start + *count == number && *of + *count == character => {
                    *count += 1
                }
                _ => runs.push([number, 1, character]),
            }
        }
    }
    runs
}

/// The pages as our own decoding has them.
fn ours(charset: Charset, pages: &[(Vec<u8>, Vec<u16>)]) -> Vec<(Vec<u8>, Vec<u16>)> {
    let cell = |before: &[u8], last: u8| {
        let code = [before, &[last]].concat();
        match charset.first(&code) {
            (Some(character), n) if n == code.len() => u16::try_from(u32::from(character)).unwrap(),
            (None, n) if n == code.len() && n > 1 => NO_CHARACTER,
            _ => NO_CODE,
        }
    };
    let page = |before: &Vec<u8>| (before.clone(), (0..=255).map(|last| cell(before, last)).collect());
    pages.iter().map(|(before, _)| page(before)).collect()
}

/// Of one byte, what has no character and what is no code are the same: one byte is passed over.
fn plain(mut pages: Vec<(Vec<u8>, Vec<u16>)>) -> Vec<(Vec<u8>, Vec<u16>)> {
    pages[0].1.iter_mut().filter(|cell| **cell == NO_CHARACTER).for_each(|cell| *cell = NO_CODE);
    pages
}

fn sets(kind: Kind) -> Vec<(&'static str, u8)> {
    let single = SINGLE.iter().map(|name| (*name, 1));
    single.chain(MULTIPLE).chain((kind == Kind::MySql).then_some(GB18030)).collect()
}

fn charset(flavour: Flavour, name: &str, bad: BadText) -> Charset {
    let id = (0..4096).find(|id| collation::charset(flavour, *id) == Some(name)).unwrap();
    Charset::of(flavour, id, bad).unwrap()
}

/// Measures both families and writes what is looked up.
async fn bless() {
    let mut all: Vec<(u8, Measured)> = Vec::new();
    for kind in Kind::ALL {
        let server = start(kind).await;
        for (name, bytes) in
            sets(kind).into_iter().filter(|(name, _)| !["ascii", "latin1", "binary"].contains(name))
        {
            let set = measure(&server, name, bytes).await;
            match all.iter_mut().find(|(_, known)| *known == set) {
                Some((flavours, _)) => *flavours |= bit(flavour(kind)),
                None => all.push((bit(flavour(kind)), set)),
            }
        }
    }
    all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let packed = zstd::bulk::compress(&pack(&all), 19).unwrap();
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/table/charset/codes.zst"), packed).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_every_code_of_every_set_is_the_character_that_the_server_says() {
    if std::env::var_os("BLESS").is_some() {
        return bless().await;
    }
    for kind in Kind::EVERY {
        let server = start(kind).await;
        for (name, bytes) in sets(kind).into_iter().filter(|(name, _)| *name != "binary") {
            let measured = measure(&server, name, bytes).await;
            let charset = charset(flavour(kind), name, BadText::Error);
            assert_eq!(charset.character_bytes(), usize::from(bytes), "{kind} {name}");
            let ours = plain(ours(charset, &measured.pages));
            for ((before, ours), (_, theirs)) in ours.iter().zip(&plain(measured.pages)) {
                assert_eq!(ours, theirs, "{kind} {name} behind {before:02x?}");
            }
            for [start, count, character] in measured.runs {
                for number in [start, start + count - 1] {
                    let code = [
                        0x81 + (number / 12600) as u8,
                        b'0' + (number / 1260 % 10) as u8,
                        0x81 + (number / 10 % 126) as u8,
                        b'0' + (number % 10) as u8,
                    ];
                    assert_eq!(
                        charset.first(&code),
                        (char::from_u32(character + number - start), 4),
                        "{code:02x?}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_every_collation_of_the_servers_has_its_set() {
    for kind in Kind::EVERY {
        let server = start(kind).await;
        let query = match kind {
            Kind::MySql => "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS",
            _ => {
                "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
            }
        };
        let (mut seen, mut wrong) = (0, Vec::new());
        for row in server.rows(query).await.unwrap() {
            let (id, name): (u64, String) = mysql_async::from_row(row);
            let charset = Charset::of(flavour(kind), id, BadText::Error);
            if charset.as_ref().map(|c| c.name()) != Ok(&name) {
                wrong.push((id, name, charset));
            }
            seen += 1;
        }
        assert_eq!(wrong, [], "{kind}");
        assert!(seen > 200, "{kind}: {seen} collations");
        assert_eq!(Charset::of(flavour(kind), 9999, BadText::Error), Err("of collation 9999".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l15_unicode_sets_have_every_character_that_the_server_has() {
    for kind in Kind::EVERY {
        let server = start(kind).await;
        // Every character of the basic plane, and of each further plane those at every seventh place.
        let basic = (1..=0xffff).filter_map(char::from_u32);
        let further = (0x1_0000..=0x10_ffff).step_by(7).filter_map(char::from_u32);
        for (name, text) in [
            ("ucs2", basic.clone().collect::<String>()),
            ("utf8mb3", basic.clone().collect()),
            ("utf16", basic.clone().chain(further.clone()).collect()),
            ("utf16le", basic.clone().chain(further.clone()).collect()),
            ("utf32", basic.clone().chain(further.clone()).collect()),
        ] {
            let hex: String = text.bytes().map(|b| format!("{b:02X}")).collect();
            let query = format!("SELECT HEX(CONVERT(CONVERT(X'{hex}' USING utf8mb4) USING {name}))");
            let stored: String = server.value(&query).await.unwrap().unwrap();
            let bytes: Vec<u8> = stored
                .as_bytes()
                .chunks(2)
                .map(|h| u8::from_str_radix(std::str::from_utf8(h).unwrap(), 16).unwrap())
                .collect();
            let ours = charset(flavour(kind), name, BadText::Error).text(&bytes).unwrap();
            assert!(ours == text, "{kind} {name}");
        }
    }
}

#[test]
fn latin1_is_windows_1252_with_its_holes_as_control_characters() {
    let latin1 = charset(Flavour::MySql, "latin1", BadText::Error);
    assert_eq!(latin1.text(b"\x80 \x81 \xe9 a").unwrap(), "€ \u{81} é a");
}

#[test]
fn l15_bytes_outside_the_set_are_refused_or_replaced_and_what_follows_is_kept() {
    for (name, bytes, replaced) in [
        ("ascii", &b"a\xe9b"[..], "a\u{fffd}b"),
        ("utf8mb4", b"a\xc3", "a\u{fffd}"),
        ("utf8mb4", b"\xe5\xaf\xb8\xed\xa0\x80z", "寸\u{fffd}\u{fffd}\u{fffd}z"),
        ("utf8mb3", b"\xc3\xa9\xff\xff", "é\u{fffd}\u{fffd}"),
        ("gbk", b"\xc4\xe3\xff\xba\xc3", "你\u{fffd}好"),
        ("gbk", b"\xc4\xe3\xc4", "你\u{fffd}"),
        ("utf16", b"\xd8\x00\x00a\x00", "\u{fffd}a\u{fffd}"),
        ("utf16", b"\xd8\x3d\xde\x42", "🙂"),
        ("utf16le", b"\x3d\xd8\x42\xde", "🙂"),
        ("ucs2", b"\xd8\x00\x5b\xf8", "\u{fffd}寸"),
        ("utf32", b"\x00\x11\x00\x00\x00\x00\x00\x61\x00", "\u{fffd}a\u{fffd}"),
    ] {
        let replacing = charset(Flavour::MySql, name, BadText::Replace);
        assert_eq!(replacing.text(bytes).unwrap(), replaced, "{name}");
        let strict = charset(Flavour::MySql, name, BadText::Error);
        let ends_well = !replaced.contains('\u{fffd}');
        match strict.text(bytes) {
            Ok(text) => assert!(ends_well && text == replaced, "{name}"),
            Err(ValueError::Refused(why)) => {
                assert!(!ends_well && why.contains(name) && why.contains("bad_text"), "{why}")
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_set_that_is_looked_up_is_there_for_its_families() {
    for name in SINGLE
        .iter()
        .filter(|n| !["ascii", "latin1", "binary"].contains(n))
        .chain(MULTIPLE.iter().map(|(n, _)| n))
    {
        assert!(find(Flavour::MySql, name).is_some() && find(Flavour::MariaDb, name).is_some(), "{name}");
    }
    assert!(
        find(Flavour::MySql, "gb18030")
            .is_some_and(|codes: &Codes| !codes.has_ascii() || codes.character_bytes() == 4)
    );
    assert!(find(Flavour::MariaDb, "gb18030").is_none());
}
