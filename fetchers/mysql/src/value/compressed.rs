//! Values of MariaDB's COMPRESSED columns: nothing for an empty one; else a byte that says how, the length, the stream.

use std::borrow::Cow;
use std::io::Read;

use flate2::Decompress;

use crate::limits::EVENT_BYTES_MAX;
use crate::value::ValueError;
use crate::wire::Bytes;

/// The value itself.
pub(crate) fn inflate(value: &[u8]) -> Result<Cow<'_, [u8]>, ValueError> {
    const ZLIB: u8 = 8;
    const BARE: u8 = 8;
    let Some((header, packed)) = value.split_first() else { return Ok(Cow::Borrowed(value)) };
    if *header == 0 {
        return Ok(Cow::Borrowed(packed));
    }
    if header >> 4 != ZLIB {
        return Err(ValueError::Malformed("a compressed value names a method that no server has"));
    }
    let mut b = Bytes(packed);
    let length = b.uint_be(usize::from(header & 7))? as usize;
    if length > EVENT_BYTES_MAX {
        return Err(ValueError::Malformed("a compressed value is longer than an event can be"));
    }
    // Without zlib's own frame if the server was told so.
    let state = Decompress::new(header & BARE == 0);
    let mut out = Vec::new();
    // One byte more, so that a stream that does not end there is seen.
    let read = flate2::bufread::ZlibDecoder::new_with_decompress(b.0, state)
        .take(length as u64 + 1)
        .read_to_end(&mut out);
    match read {
        Ok(read) if read == length => Ok(Cow::Owned(out)),
        Ok(_) => Err(ValueError::Malformed("a compressed value has another length than it says")),
        Err(_) => Err(ValueError::Malformed("a compressed value does not inflate")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use flate2::Compression;
    use flate2::bufread::{DeflateEncoder, ZlibEncoder};

    fn packed(header: u8, length: &[u8], mut stream: impl Read) -> Vec<u8> {
        let mut out = [&[header], length].concat();
        stream.read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn values_with_and_without_a_frame_and_raw_ones_are_read() {
        let text = "compress me ".repeat(40);
        let length = (text.len() as u16).to_be_bytes();
        let zlib = packed(0x82, &length, ZlibEncoder::new(text.as_bytes(), Compression::best()));
        let bare = packed(0x8a, &length, DeflateEncoder::new(text.as_bytes(), Compression::best()));
        for value in [&zlib, &bare] {
            assert_eq!(inflate(value).unwrap(), text.as_bytes());
            for len in 1..value.len() - 4 {
                assert!(inflate(&value[..len]).is_err(), "{len} bytes");
            }
        }
        assert_eq!(inflate(b"\0plain").unwrap(), &b"plain"[..]);
        assert_eq!(inflate(b"").unwrap(), &b""[..]);
        let longer = packed(
            0x82,
            &(text.len() as u16 - 1).to_be_bytes(),
            ZlibEncoder::new(text.as_bytes(), Compression::best()),
        );
        assert!(inflate(&longer).is_err() && inflate(&[0x92, 0, 1, 0]).is_err());
    }
}
