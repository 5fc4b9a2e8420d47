//! Character sets as tables: which code is which character.
//!
//! The tables were measured on real servers and lie beside this file, packed; the tests of this folder compare every
//! code with the servers, and write the file anew when they are told to.

use std::io::Read;
use std::sync::OnceLock;

use crate::event::Flavour;
use crate::wire::{Bytes, Malformed};

/// What [`pack`] makes, compressed.
static PACKED: &[u8] = include_bytes!("codes.zst");

/// How much the tables are, unpacked.
const UNPACKED_BYTES_MAX: u64 = 4 << 20;

/// A code stands for no character: the server shows a question mark for the whole of it. In a packed page.
pub(super) const NO_CHARACTER: u16 = 0xfffe;
/// No code begins or goes on like this.
pub(super) const NO_CODE: u16 = 0xffff;

/// A cell of a page: a character, the number of the page for the next byte, or one of the words below.
type Cell = u32;
const CELL_PAGE: Cell = 1 << 31;
const CELL_NO_CHARACTER: Cell = 1 << 30;
const CELL_NO_CODE: Cell = CELL_NO_CHARACTER + 1;

/// One character set.
pub(crate) struct Codes {
    name: String,
    flavours: u8,
    character_bytes: usize,
    /// Whether its first 128 codes are those of ASCII.
    has_ascii: bool,
    /// The first is for the first byte.
    pages: Vec<[Cell; 256]>,
    /// Runs of the codes of four bytes, where there are some: the first code's number, how many, the first character.
    runs: Vec<[u32; 3]>,
}

/// The set of that name, as this family has it.
pub(super) fn find(flavour: Flavour, name: &str) -> Option<&'static Codes> {
    static ALL: OnceLock<Vec<Codes>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut packed = Vec::new();
        let reader = zstd::Decoder::new(PACKED).expect("a decoder needs memory alone");
        reader.take(UNPACKED_BYTES_MAX).read_to_end(&mut packed).expect("the file is ours, and tested");
        unpack(&packed).expect("the file is ours, and tested")
    });
    all.iter().find(|codes| codes.name == name && codes.flavours & bit(flavour) != 0)
}

/// Which families a set is of, a bit each.
pub(super) fn bit(flavour: Flavour) -> u8 {
    match flavour {
        Flavour::MySql => 1,
        Flavour::MariaDb => 2,
    }
}

impl Codes {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn character_bytes(&self) -> usize {
        self.character_bytes
    }

    pub(super) fn has_ascii(&self) -> bool {
        self.has_ascii
    }

    /// The first character, if the bytes begin with one, and how many bytes are dealt with: of what is no code, one.
    pub(super) fn first(&self, bytes: &[u8]) -> (Option<char>, usize) {
        let mut page = &self.pages[0];
        for (i, byte) in bytes.iter().enumerate() {
            let cell = page[usize::from(*byte)];
            if cell & CELL_PAGE != 0 {
                page = &self.pages[(cell ^ CELL_PAGE) as usize];
                continue;
            }
            return match cell {
                CELL_NO_CODE => self.of_four_bytes(bytes),
                CELL_NO_CHARACTER => (None, i + 1),
                code => (char::from_u32(code), i + 1),
            };
        }
        (None, 1)
    }

    fn of_four_bytes(&self, bytes: &[u8]) -> (Option<char>, usize) {
        let Some(number) = bytes.first_chunk().and_then(|b| number_of(*b)).filter(|_| !self.runs.is_empty())
        else {
            return (None, 1);
        };
        let after = self.runs.partition_point(|[start, ..]| *start <= number);
        let run =
            after.checked_sub(1).map(|i| self.runs[i]).filter(|[start, count, _]| number - start < *count);
        (run.and_then(|[start, _, character]| char::from_u32(character + (number - start))), 4)
    }
}

impl PartialEq for Codes {
    fn eq(&self, other: &Codes) -> bool {
        // Each set is there once.
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// GB 18030 counts its codes of four bytes, which have 126, 10, 126 and 10 values each.
pub(super) fn number_of(code: [u8; 4]) -> Option<u32> {
    let [a, b, c, d] = code;
    let lead = |byte: u8| (0x81..=0xfe).contains(&byte).then(|| u32::from(byte - 0x81));
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    Some(((lead(a)? * 10 + digit(b)?) * 126 + lead(c)?) * 10 + digit(d)?)
}

/// Sets behind one another: the name, behind its length; families; bytes of the longest character; the number of pages,
/// each the bytes before it, behind their number, and its 256 cells; the number of runs, then the runs.
fn unpack(packed: &[u8]) -> Result<Vec<Codes>, Malformed> {
    let mut b = Bytes(packed);
    let mut all = Vec::new();
    while !b.0.is_empty() {
        let length = usize::from(b.u8()?);
        let name = String::from_utf8_lossy(b.take(length)?).into_owned();
        let (flavours, character_bytes) = (b.u8()?, usize::from(b.u8()?));
        let mut pages: Vec<[Cell; 256]> = Vec::new();
        for number in 0..b.u16()? {
            let length = usize::from(b.u8()?);
            let before = b.take(length)?;
            let mut page = [CELL_NO_CODE; 256];
            for cell in &mut page {
                *cell = match b.u16()? {
                    NO_CODE => CELL_NO_CODE,
                    NO_CHARACTER => CELL_NO_CHARACTER,
                    character => Cell::from(character),
                };
            }
            pages.push(page);
            link(&mut pages, before, Cell::from(number))?;
        }
        let runs = (0..b.u16()?).map(|_| Ok([b.u32()?, b.u32()?, b.u32()?]));
        let runs = runs.collect::<Result<_, Malformed>>()?;
        let first = pages.first().ok_or(Malformed("a character set has no codes"))?;
        let has_ascii = (0..128).all(|code| first[code as usize] == code);
        all.push(Codes { name, flavours, character_bytes, has_ascii, pages, runs });
    }
    Ok(all)
}

/// Lets the bytes before a page lead to it; the pages on the way are there already.
fn link(pages: &mut [[Cell; 256]], before: &[u8], number: Cell) -> Result<(), Malformed> {
    let Some((last, way)) = before.split_last() else { return Ok(()) };
    let mut page = 0;
    for byte in way {
        page = (pages[page][usize::from(*byte)] ^ CELL_PAGE) as usize;
        if page >= pages.len() {
            return Err(Malformed("a page of a character set hangs in the air"));
        }
    }
    pages[page][usize::from(*last)] = CELL_PAGE | number;
    Ok(())
}

/// A set as it was measured.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) character_bytes: u8,
    /// By the bytes before them; those that lead to others come first.
    pub(super) pages: Vec<(Vec<u8>, Vec<u16>)>,
    pub(super) runs: Vec<[u32; 3]>,
}

/// What [`unpack`] reads.
#[cfg(test)]
pub(super) fn pack(sets: &[(u8, Measured)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (flavours, set) in sets {
        out.push(set.name.len() as u8);
        out.extend_from_slice(set.name.as_bytes());
        out.extend_from_slice(&[*flavours, set.character_bytes]);
        out.extend_from_slice(&(set.pages.len() as u16).to_le_bytes());
        for (before, cells) in &set.pages {
            assert_eq!(cells.len(), 256);
            out.push(before.len() as u8);
            out.extend_from_slice(before);
            cells.iter().for_each(|cell| out.extend_from_slice(&cell.to_le_bytes()));
        }
        out.extend_from_slice(&(set.runs.len() as u16).to_le_bytes());
        set.runs.iter().flatten().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
    out
}
