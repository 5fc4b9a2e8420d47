//! Types of MariaDB that its log has as mere bytes: which those are, and their values as `SELECT` shows them. Who knows that
//! a column has one is not told here.

use std::io::Write as _;

/// What a table declares a column of bytes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    Shown(Shown),
    /// So many 32-bit floats, which stay bytes.
    Vector(u64),
}

/// Types whose values are shown as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Uuid,
    Inet4,
    Inet6,
}

impl Declared {
    /// By the names that an information schema has for it: `vector` and `vector(3)`.
    pub(crate) fn of(data_type: &str, column_type: &str) -> Option<Declared> {
        match data_type {
            "uuid" => Some(Declared::Shown(Shown::Uuid)),
            "inet4" => Some(Declared::Shown(Shown::Inet4)),
            "inet6" => Some(Declared::Shown(Shown::Inet6)),
            "vector" => {
                let inside = column_type.split(['(', ')']).nth(1)?;
                inside.trim().parse().ok().map(Declared::Vector)
            }
            _ => None,
        }
    }

    /// Bytes of a value.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Declared::Shown(Shown::Inet4) => 4,
            Declared::Shown(Shown::Uuid | Shown::Inet6) => 16,
            Declared::Vector(dimension) => dimension.saturating_mul(4),
        }
    }
}

impl Shown {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Shown::Uuid => "uuid",
            Shown::Inet4 => "inet4",
            Shown::Inet6 => "inet6",
        }
    }

    /// Appends the text; `None`: those are too many bytes. The log leaves out the zeros at the end.
    pub(crate) fn print(self, logged: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Shown::Uuid => uuid(padded(logged)?, out),
            Shown::Inet4 => inet4(padded(logged)?, out),
            Shown::Inet6 => inet6(padded(logged)?, out),
        }
        Some(())
    }
}

fn padded<const N: usize>(logged: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    bytes.get_mut(..logged.len())?.copy_from_slice(logged);
    Some(bytes)
}

/// `123e4567-e89b-12d3-a456-426655440000`
fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
}

fn inet4([a, b, c, d]: [u8; 4], out: &mut Vec<u8>) {
    write!(out, "{a}.{b}.{c}.{d}").expect("memory takes everything");
}

/// The first of the longest runs of zero groups is `::`, be it a single group. What follows twelve bytes of zeros, or ten and
/// `ffff`, is shown as an INET4, if the run is at the beginning and ends there.
fn inet6(bytes: [u8; 16], out: &mut Vec<u8>) {
    let mut groups = [0_u16; 8];
    for (group, pair) in groups.iter_mut().zip(bytes.chunks_exact(2)) {
        *group = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let (begin, length) = longest_zeros(groups);
    let has_inet4 = begin == 0 && (length == 6 || (length == 5 && groups[5] == 0xffff));
    let mut at = 0;
    while at < groups.len() {
        if length > 0 && at == begin {
            // The group before it has set the other colon.
            out.extend_from_slice(if at == 0 { b"::" } else { b":" });
            at += length;
        } else if at == 6 && has_inet4 {
            return inet4([bytes[12], bytes[13], bytes[14], bytes[15]], out);
        } else {
            write!(out, "{:x}", groups[at]).expect("memory takes everything");
            at += 1;
            if at < groups.len() {
                out.push(b':');
            }
        }
    }
}

/// Where the first of the longest runs of zeros begins, and how long it is.
fn longest_zeros(groups: [u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((0, 0), (0, 0));
    for (at, group) in groups.into_iter().enumerate() {
        run = if group == 0 { (run.0, run.1 + 1) } else { (at + 1, 0) };
        if run.1 > longest.1 {
            longest = run;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn print(shown: Shown, logged: &[u8]) -> String {
        let mut out = vec![];
        shown.print(logged, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn l23_a_uuid_is_lower_case_with_dashes_and_its_zeros_at_the_end_are_put_back() {
        let bytes = [0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x55, 0x44];
        assert_eq!(print(Shown::Uuid, &bytes), "123e4567-e89b-12d3-a456-426655440000");
        assert_eq!(print(Shown::Uuid, &[]), "00000000-0000-0000-0000-000000000000");
        assert_eq!(print(Shown::Uuid, &[0xff; 16]), "ffffffff-ffff-ffff-ffff-ffffffffffff");
        assert_eq!(Shown::Uuid.print(&[1; 17], &mut vec![]), None);
    }

    #[test]
    fn l23_an_inet4_has_four_numbers() {
        assert_eq!(print(Shown::Inet4, &[192, 0, 2]), "192.0.2.0");
        assert_eq!(print(Shown::Inet4, &[255; 4]), "255.255.255.255");
        assert_eq!(Shown::Inet4.print(&[1; 5], &mut vec![]), None);
    }

    #[test]
    fn l23_an_inet6_is_as_short_as_the_server_shows_it() {
        for (groups, text) in [
            ([0, 0, 0, 0, 0, 0, 0, 0], "::"),
            ([0, 0, 0, 0, 0, 0, 0, 1], "::1"),
            ([0, 0, 0, 0, 0, 0, 1, 0], "::0.1.0.0"),
            ([0, 0, 0, 0, 0, 0xffff, 0x102, 0x304], "::ffff:1.2.3.4"),
            ([0, 0, 0, 0, 0, 0xfffe, 0x102, 0x304], "::fffe:102:304"),
            ([0, 0, 0, 0, 1, 0xffff, 0x102, 0x304], "::1:ffff:102:304"),
            ([1, 0, 0, 2, 0, 0, 0, 0], "1:0:0:2::"),
            ([1, 0, 0, 2, 0, 0, 3, 4], "1::2:0:0:3:4"),
            ([1, 2, 3, 0, 5, 6, 7, 8], "1:2:3::5:6:7:8"),
            ([0x2001, 0xdb8, 0, 0, 0, 0xff00, 0x42, 0x8300], "2001:db8::ff00:42:8300"),
            ([0xffff; 8], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let bytes: Vec<u8> = groups.iter().flat_map(|group: &u16| group.to_be_bytes()).collect();
            assert_eq!(print(Shown::Inet6, &bytes), text);
        }
    }
}
