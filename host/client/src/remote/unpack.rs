//! Compressed answers, as they come.

use std::io;

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::limits::UNPACK_BYTES;

/// Gives what bytes mean, piece by piece.
pub(crate) struct Unpack {
    zstd: Option<(Decoder<'static>, Vec<u8>)>,
}

impl Unpack {
    pub(crate) fn new(compressed: bool) -> io::Result<Unpack> {
        let open = || Ok::<_, io::Error>((Decoder::new()?, vec![0; UNPACK_BYTES]));
        Ok(Unpack { zstd: compressed.then(open).transpose()? })
    }

    /// The next piece of what the bytes mean; takes from their front. `None`: that was all.
    pub(crate) fn next<'b, 'a: 'b>(&'b mut self, bytes: &mut &'a [u8]) -> io::Result<Option<&'b [u8]>> {
        let Some((decoder, out)) = &mut self.zstd else {
            let all = std::mem::take(bytes);
            return Ok((!all.is_empty()).then_some(all));
        };
        loop {
            let (mut input, mut output) = (InBuffer::around(bytes), OutBuffer::around(&mut out[..]));
            decoder.run(&mut input, &mut output)?;
            let (read, written) = (input.pos(), output.pos());
            *bytes = &bytes[read..];
            match (written, read) {
                (0, 0) if bytes.is_empty() => return Ok(None),
                (0, 0) => return Err(io::Error::other("the compressed bytes cannot be unpacked")),
                (0, _) => {}
                _ => return Ok(Some(&out[..written])),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bytes_are_unpacked_wherever_they_are_cut() {
        let plain: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let packed = zstd::encode_all(&plain[..], 1).expect("packs");
        for step in [1, 7, 1000, packed.len()] {
            let mut unpack = Unpack::new(true).expect("opens");
            let mut got = Vec::new();
            for mut chunk in packed.chunks(step) {
                while let Some(piece) = unpack.next(&mut chunk).expect("unpacks") {
                    got.extend_from_slice(piece);
                }
            }
            assert!(got == plain, "in steps of {step}");
        }
    }
}
