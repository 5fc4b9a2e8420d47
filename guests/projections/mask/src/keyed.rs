//! HMAC-SHA-256 of many values under one key, as text.
//!
//! The key's two blocks are compressed once; each value then costs two compressions, four values at a
//! time where they are short, and no allocation of its own.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tidemill_guest::column::{Bits, Runs};
use tidemill_guest::text::Spelling;
use tidemill_guest::{Column, Error, Varlen};

use crate::lanes::{BLOCK, Block, LaneKey, VALUE_MAX, block_of};

/// Bytes of the hexadecimal digits.
const DIGITS: usize = 64;

/// A key and its name, ready to hash.
#[derive(Clone)]
pub struct KeyedHash {
    /// `KEY_ID:` and room for the digits.
    form: Vec<u8>,
    long: Hmac<Sha256>,
    short: LaneKey,
}

impl KeyedHash {
    /// # Errors
    /// `config`, when the key or its name cannot be used.
    pub fn new(id: &str, key: &str) -> Result<Self, Error> {
        let plain = !id.is_empty() && id.len() <= 32 && id.bytes().all(|c| c.is_ascii_graphic() && c != b':');
        if !plain {
            return Err(Error::Config(
                "key_id: 1 to 32 characters without spaces and colons, as in \"k1\"".to_owned(),
            ));
        }
        if key.len() < 16 {
            return Err(Error::Config(
                "key: a secret of at least 16 bytes; make one with `openssl rand -hex 32`".to_owned(),
            ));
        }
        let long = Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
        let short = match key.len() {
            0..=BLOCK => LaneKey::new(key.as_bytes()),
            _ => LaneKey::new(&Sha256::digest(key)),
        };
        let mut form = format!("{id}:").into_bytes();
        form.resize(form.len() + DIGITS, 0);
        Ok(KeyedHash { form, long, short })
    }

    /// The hashes of text or bytes as they are.
    pub fn of_runs(&self, runs: Runs<'_>, valid: Bits<'_>) -> Varlen {
        let count = runs.offsets().len().saturating_sub(1);
        let mut hashes = Hashes::new(self, count);
        for row in 0..count {
            hashes.push(valid.get(row).then(|| runs.get(row)));
        }
        hashes.finish()
    }

    /// The hashes of other values, by their text.
    pub fn of_spelled(&self, spelling: Spelling, column: &Column) -> Varlen {
        let valid = column.valid_bits();
        let mut hashes = Hashes::new(self, column.len());
        let mut text = Vec::new();
        for row in 0..column.len() {
            text.clear();
            spelling.push(&mut text, column, row);
            hashes.push(valid.get(row).then_some(text.as_slice()));
        }
        hashes.finish()
    }
}

/// The hashes of a batch, as they are made. Rows without a value add nothing to the data, so the
/// offsets are known before the hashes that wait for a full group.
struct Hashes<'a> {
    hash: &'a KeyedHash,
    form: Vec<u8>,
    offsets: Vec<u32>,
    end: u32,
    data: Vec<u8>,
    waiting: [Block; 4],
    waiting_count: usize,
}

impl<'a> Hashes<'a> {
    fn new(hash: &'a KeyedHash, count: usize) -> Self {
        let mut offsets = Vec::with_capacity(count + 1);
        offsets.push(0);
        Hashes {
            hash,
            form: hash.form.clone(),
            offsets,
            end: 0,
            data: Vec::with_capacity(count * hash.form.len()),
            waiting: [[0; BLOCK]; 4],
            waiting_count: 0,
        }
    }

    /// Adds the hash of a value; of none, nothing.
    #[inline]
    fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.end += self.form.len() as u32;
            if value.len() > VALUE_MAX {
                self.push_long(value);
            } else {
                block_of(value, &mut self.waiting[self.waiting_count]);
                self.waiting_count += 1;
                if self.waiting_count == self.waiting.len() {
                    self.flush();
                }
            }
        }
        self.offsets.push(self.end);
    }

    #[cold]
    fn push_long(&mut self, value: &[u8]) {
        self.flush();
        let mut mac = self.hash.long.clone();
        mac.update(value);
        let code = mac.finalize().into_bytes();
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(code.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
        self.write(&words);
    }

    /// Hashes what waits.
    fn flush(&mut self) {
        if self.waiting_count > 0 {
            let codes = self.hash.short.codes(&self.waiting);
            codes[..self.waiting_count].iter().for_each(|code| self.write(code));
            self.waiting_count = 0;
        }
    }

    /// The text of a code whose words have the code's bytes in memory, low byte first.
    #[inline]
    fn write(&mut self, code: &[u32; 8]) {
        let start = self.form.len() - DIGITS;
        for (digits, word) in self.form[start..].chunks_exact_mut(8).zip(code) {
            digits.copy_from_slice(&hex_digits(*word).to_le_bytes());
        }
        self.data.extend_from_slice(&self.form);
    }

    fn finish(mut self) -> Varlen {
        self.flush();
        Varlen { offsets: self.offsets, data: self.data }
    }
}

/// The eight hexadecimal digits of four bytes, both low byte first.
#[inline]
fn hex_digits(bytes: u32) -> u64 {
    let spread = u64::from(bytes);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = (spread >> 4 | spread << 8) & 0x0f0f_0f0f_0f0f_0f0f;
    // What is above nine is a letter: 39 characters further on.
    let letters = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    digits + 0x3030_3030_3030_3030 + letters * 39
}

#[cfg(test)]
mod tests {
    use super::hex_digits;

    #[test]
    fn digits_are_those_of_the_bytes_in_their_order() {
        for word in [0, u32::MAX, 0x0123_4567, 0x89ab_cdef, 0x9a00_00f9] {
            let expected: String = u32::to_le_bytes(word).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex_digits(word).to_le_bytes(), expected.as_bytes());
        }
    }
}
