//! The loops that judge most rows: integers between bounds, and short text at the beginning of a value.
//! Eight rows make a byte of the mask; where the guest runs, in vector registers.

use tidemill_guest::Mask;
use tidemill_guest::column::Runs;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use simd as eight;

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod scalar;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use scalar as eight;

/// Signed integers from `first` to `last`.
pub fn ints(values: &[i64], first: i64, last: i64) -> Mask {
    let test = |value: &i64| (first..=last).contains(value);
    by_eight(values, |values| eight::ints(values, first, last), test)
}

/// Unsigned integers from `first` to `last`.
pub fn uints(values: &[u64], first: u64, last: u64) -> Mask {
    let test = |value: &u64| (first..=last).contains(value);
    by_eight(values, |values| eight::uints(values, first, last), test)
}

/// The mask of fixed-size values.
#[inline(always)]
fn by_eight<T>(values: &[T], byte: impl Fn(&[T; 8]) -> u8, test: impl Fn(&T) -> bool) -> Mask {
    let (eights, tail) = values.as_chunks::<8>();
    let (sixty_fours, rest) = eights.as_chunks::<8>();
    let mut words = Vec::with_capacity(values.len().div_ceil(64));
    words.extend(sixty_fours.iter().map(|eights| u64::from_le_bytes(eights.each_ref().map(&byte))));
    let whole = (0..).step_by(8).zip(rest).fold(0, |word, (at, eight)| word | u64::from(byte(eight)) << at);
    let tail = (rest.len() * 8..).zip(tail);
    words.push(tail.fold(whole, |word, (at, value)| word | u64::from(test(value)) << at));
    Mask::from_words(words, values.len())
}

/// A text of at most eight bytes that values are compared with, as a number.
#[derive(Clone, Copy)]
pub struct Short {
    /// Its bytes, low first, with zeros behind.
    number: u64,
    /// 1 in the bits that count.
    significant: u64,
    length: u32,
    /// Whether the value may have nothing more.
    whole: bool,
}

impl Short {
    /// None, when it is longer.
    pub fn new(text: &[u8], whole: bool) -> Option<Self> {
        let significant = match text.len() {
            0 => 0,
            length @ 1..=8 => u64::MAX >> (64 - 8 * length),
            _ => return None,
        };
        Some(Short { number: first_eight(text), significant, length: text.len() as u32, whole })
    }

    fn fits(&self, length: u32) -> bool {
        if self.whole { length == self.length } else { length >= self.length }
    }

    /// One value by itself.
    fn passes(&self, data: &[u8], start: u32, end: u32) -> bool {
        let value = data.get(start as usize..end as usize).unwrap_or_default();
        first_eight(value) & self.significant == self.number && self.fits(value.len() as u32)
    }
}

/// The values that begin with a short text, or are it.
pub fn short(runs: Runs<'_>, text: Short) -> Mask {
    let (offsets, data) = (runs.offsets(), runs.data());
    let count = offsets.len().saturating_sub(1);
    let mut words = Vec::with_capacity(count.div_ceil(64));
    let mut left = offsets;
    while let Some(block) = left.first_chunk::<65>() {
        words.push(u64::from_le_bytes(core::array::from_fn(|place| {
            let nine = block[8 * place..].first_chunk::<9>().expect("8 * 7 + 9 offsets");
            eight::short(nine, data, text)
        })));
        left = &left[64..];
    }
    let bytes = (0..64).step_by(8).zip(left.chunks(8)).enumerate();
    words
        .push(bytes.fold(0, |word, (place, (bit, _))| {
            word | u64::from(tail(&left[8 * place..], data, text)) << bit
        }));
    Mask::from_words(words, count)
}

/// The last rows, fewer than eight, or rows near the end of the data.
#[cold]
fn tail(offsets: &[u32], data: &[u8], text: Short) -> u8 {
    let pairs = offsets.windows(2).take(8).enumerate();
    pairs.fold(0, |byte, (bit, ends)| byte | u8::from(text.passes(data, ends[0], ends[1])) << bit)
}

/// The first eight bytes as a number, low first, with zeros where there are fewer.
fn first_eight(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Short, ints, short, uints};
    use tidemill_guest::{Values, build};

    #[test]
    fn integers_are_judged_at_every_length() {
        for count in 0..200i64 {
            let values: Vec<i64> =
                (0..count).map(|n| (n * 37) % 50 - 25).chain([i64::MIN, i64::MAX]).collect();
            for (first, last) in [(-5, 5), (i64::MIN, -1), (0, i64::MAX), (7, 7)] {
                let found: Vec<usize> = ints(&values, first, last).rows().collect();
                let expected: Vec<usize> =
                    (0..values.len()).filter(|row| (first..=last).contains(&values[*row])).collect();
                assert_eq!(found, expected, "{count} {first} {last}");
                let values: Vec<u64> = values.iter().map(|value| *value as u64).collect();
                let (first, last) = (first.unsigned_abs(), u64::MAX - 10);
                let found: Vec<usize> = uints(&values, first, last).rows().collect();
                let expected: Vec<usize> =
                    (0..values.len()).filter(|row| (first..=last).contains(&values[*row])).collect();
                assert_eq!(found, expected, "{count} {first} {last}");
            }
        }
    }

    #[test]
    fn short_text_is_found_at_every_length_and_at_the_end_of_the_data() {
        let words = ["active", "actives", "inactive", "", "act", "active-and-longer", "activ", "ACTIVE"];
        for count in 0..150 {
            let values: Vec<&str> = (0..count).map(|n| words[n * 5 % 8]).collect();
            let Values::Text(runs) = build::Texts::of(&values).values else { panic!("text") };
            for (text, whole) in
                [("active", false), ("active", true), ("", true), ("", false), ("inactive", true)]
            {
                let Some(sought) = Short::new(text.as_bytes(), whole) else { panic!("{text} is short") };
                let found: Vec<usize> = short(runs.runs(), sought).rows().collect();
                let passes = |value: &str| if whole { value == text } else { value.starts_with(text) };
                let expected: Vec<usize> = (0..count).filter(|row| passes(values[*row])).collect();
                assert_eq!(found, expected, "{count} {text} {whole}");
            }
        }
        assert!(Short::new(b"nine char", false).is_none());
    }
}
