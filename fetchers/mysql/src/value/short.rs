//! Texts of a few bytes, of which JSON documents are made: looked at and copied eight bytes at a time. A call of the
//! general copy costs more than such a text.

/// Texts up to this length are copied in place.
const SHORT_MAX: usize = 16;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether all bytes are ASCII that JSON shows as itself: no control character, quotation mark or backslash.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    match text {
        [] => true,
        [a] => is_plain_word(padded([*a, b' ', b' '])),
        [a, b] => is_plain_word(padded([*a, *b, b' '])),
        [a, b, c] => is_plain_word(padded([*a, *b, *c])),
        _ => match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(_), Some(last)) => {
                text.chunks_exact(8).all(|chunk| is_plain_word(word(chunk)))
                    && is_plain_word(u64::from_le_bytes(*last))
            }
            _ => is_plain_word(u64::from(ends(text, false)) | u64::from(ends(text, true)) << 32),
        },
    }
}

fn padded([a, b, c]: [u8; 3]) -> u64 {
    (ONES * u64::from(b' ')) << 24 | u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16
}

fn word(chunk: &[u8]) -> u64 {
    u64::from_le_bytes(*chunk.first_chunk().expect("chunks have eight bytes"))
}

/// The first or the last four bytes of a text of at least four.
fn ends(text: &[u8], is_last: bool) -> u32 {
    let four = if is_last { text.last_chunk() } else { text.first_chunk() };
    u32::from_le_bytes(*four.expect("the caller has at least four"))
}

/// Each term has the top bit of a byte set where that byte is not plain; what it sets above such a byte does not matter.
#[inline]
fn is_plain_word(word: u64) -> bool {
    let is_zero_byte = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quotation = is_zero_byte(word ^ (ONES * u64::from(b'"')));
    let backslash = is_zero_byte(word ^ (ONES * u64::from(b'\\')));
    (word | control | quotation | backslash) & HIGHS == 0
}

/// Appends the text.
#[inline]
pub(super) fn append(out: &mut Vec<u8>, text: &[u8]) {
    let length = text.len();
    if length > SHORT_MAX {
        return out.extend_from_slice(text);
    }
    out.reserve(SHORT_MAX);
    let (from, at) = (text.as_ptr(), out.len());
    // SAFETY: there is room for 16 bytes behind the vector's end; each arm reads and writes within the first `length` of
    // them, two overlapping halves that together are all of them; then all of them are initialised.
    unsafe {
        let to = out.as_mut_ptr().add(at);
        match length {
            8.. => {
                let (first, last) = (from.cast::<u64>(), from.add(length - 8).cast::<u64>());
                let (first, last) = (first.read_unaligned(), last.read_unaligned());
                to.cast::<u64>().write_unaligned(first);
                to.add(length - 8).cast::<u64>().write_unaligned(last);
            }
            4.. => {
                let (first, last) = (from.cast::<u32>(), from.add(length - 4).cast::<u32>());
                let (first, last) = (first.read_unaligned(), last.read_unaligned());
                to.cast::<u32>().write_unaligned(first);
                to.add(length - 4).cast::<u32>().write_unaligned(last);
            }
            _ => {
                for i in 0..length {
                    to.add(i).write(from.add(i).read());
                }
            }
        }
        out.set_len(at + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_appended_whole() {
        let text: Vec<u8> = (1..=40).collect();
        for length in 0..=text.len() {
            for before in [0, 1, 15] {
                let mut out = vec![0; before];
                append(&mut out, &text[..length]);
                assert_eq!(out, [&vec![0; before], &text[..length]].concat());
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_text_of_any_length_is_looked_at() {
        for length in 0..=33 {
            assert!(is_plain(&vec![b' '; length]));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    let plain = (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte} at {at} of {length}");
                }
            }
        }
    }
}
