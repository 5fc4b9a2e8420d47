//! Small sealed records: magic, checksum, then little-endian fields in order. A read past the end, or a record
//! that is not the one that was written, is an error and never a panic.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | CRC-32C of all that follows |
//! | 8 | 4 | length of the whole record, padding included |
//! | 12 | 1 | version, 1 |
//! | 13 | 3 | zero |
//! | 16 | … | fields, then zeros up to a multiple of 16 |

use crate::limits::{FRAME_ALIGNMENT, HEADER_BYTES_MAX};

const VERSION: u8 = 1;

/// Bytes that tell a record's length.
pub(crate) const PREFIX: usize = 16;

/// Why bytes are not the record that was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it ends too early")]
    Truncated,
    #[error("{0}")]
    Damaged(&'static str),
    #[error("it has version {0}, this release reads version 1; use the release that wrote it")]
    Version(u8),
}

/// Builds a record.
pub(crate) struct Builder(Vec<u8>);

impl Builder {
    pub(crate) fn new(magic: [u8; 4]) -> Builder {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        Builder(bytes)
    }
    pub(crate) fn u32(mut self, v: u32) -> Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub(crate) fn u64(mut self, v: u64) -> Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub(crate) fn i64(mut self, v: i64) -> Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub(crate) fn text(mut self, v: &str) -> Self {
        self =
            self.u32(u32::try_from(v.len()).expect("names and sets of transactions are shorter than 4 GiB"));
        self.0.extend_from_slice(v.as_bytes());
        self
    }
    /// Bytes with their length, such as another record.
    pub(crate) fn bytes(mut self, v: &[u8]) -> Self {
        self = self.u32(u32::try_from(v.len()).expect("a record within another is shorter than 4 GiB"));
        self.0.extend_from_slice(v);
        self
    }
    /// Pads and seals it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(FRAME_ALIGNMENT), 0);
        let length = u32::try_from(self.0.len()).expect("a record is shorter than 4 GiB");
        self.0[8..12].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&self.0[8..]);
        self.0[4..8].copy_from_slice(&crc.to_le_bytes());
        self.0
    }
}

/// Reads a record's fields.
pub(crate) struct Fields<'a>(&'a [u8]);

/// The length of the record that begins with those bytes; plausible, not yet checked.
pub(crate) fn length(magic: [u8; 4], bytes: &[u8]) -> Result<usize, RecordError> {
    let prefix = bytes.get(..PREFIX).ok_or(RecordError::Truncated)?;
    if prefix[..4] != magic {
        return Err(RecordError::Damaged("it does not begin as it should"));
    }
    let length = u32::from_le_bytes(prefix[8..12].try_into().expect("four bytes")) as usize;
    let fits = (PREFIX..=HEADER_BYTES_MAX).contains(&length) && length.is_multiple_of(FRAME_ALIGNMENT);
    if fits { Ok(length) } else { Err(RecordError::Damaged("its length is impossible")) }
}

impl<'a> Fields<'a> {
    /// The fields of the record that begins with those bytes; its checksum is verified.
    pub(crate) fn open(magic: [u8; 4], bytes: &'a [u8]) -> Result<Fields<'a>, RecordError> {
        let record = bytes.get(..length(magic, bytes)?).ok_or(RecordError::Truncated)?;
        let crc = u32::from_le_bytes(record[4..8].try_into().expect("four bytes"));
        if crc32c::crc32c(&record[8..]) != crc {
            return Err(RecordError::Damaged("its checksum does not fit"));
        }
        match record[12] {
            VERSION => Ok(Fields(&record[PREFIX..])),
            other => Err(RecordError::Version(other)),
        }
    }
    /// As [`Fields::open`], of bytes that are one record and nothing else.
    pub(crate) fn open_whole(magic: [u8; 4], bytes: &'a [u8]) -> Result<Fields<'a>, RecordError> {
        match length(magic, bytes)? == bytes.len() {
            true => Fields::open(magic, bytes),
            false => Err(RecordError::Damaged("it has another length than it says")),
        }
    }
    fn take(&mut self, n: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(RecordError::Damaged("a field is missing"))?;
        self.0 = rest;
        Ok(taken)
    }
    pub(crate) fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("take gives 4 bytes")))
    }
    pub(crate) fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("take gives 8 bytes")))
    }
    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(self.u64()? as i64)
    }
    pub(crate) fn text(&mut self) -> Result<&'a str, RecordError> {
        let n = self.u32()? as usize;
        std::str::from_utf8(self.take(n)?).map_err(|_| RecordError::Damaged("a text is not UTF-8"))
    }
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    /// A count of things of `each` bytes, bounded by what is left.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, RecordError> {
        let n = self.u32()? as usize;
        if n.saturating_mul(each) > self.0.len() {
            return Err(RecordError::Damaged("a count exceeds what is left"));
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_every_truncation_and_flip_is_refused() {
        let record = Builder::new(*b"TEST").u32(7).u64(8).i64(-9).text("zehn").finish();
        let mut fields = Fields::open(*b"TEST", &record).expect("opens");
        assert_eq!((fields.u32(), fields.u64(), fields.i64()), (Ok(7), Ok(8), Ok(-9)));
        assert_eq!(fields.text(), Ok("zehn"));
        for len in 0..record.len() {
            assert!(Fields::open(*b"TEST", &record[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Fields::open(*b"TEST", &flipped).is_err(), "bit {bit}");
        }
    }
}
