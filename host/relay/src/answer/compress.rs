//! Compression of one answer, as one stream. Each batch is flushed, so that a subscriber has all of what was sent.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::raw::{CParameter, Encoder as ZstdStream};
use zstd::stream::write::Encoder as ZstdEncoder;

use super::Encoding;

/// What a match may reach back: 128 KiB. Hundreds of answers have a window each, and the default's is eight times as
/// large for a few percent.
const ZSTD_WINDOW_LOG: u32 = 17;

/// The fastest of both: a relay sends what it reads at the speed of a network.
const ZSTD_LEVEL: i32 = 1;

/// See the module.
pub(crate) enum Compressor {
    None,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl Compressor {
    pub(crate) fn new(encoding: Encoding) -> io::Result<Compressor> {
        Ok(match encoding {
            Encoding::Identity => Compressor::None,
            Encoding::Gzip => Compressor::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            Encoding::Zstd => {
                let mut stream = ZstdStream::new(ZSTD_LEVEL)?;
                stream.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG))?;
                Compressor::Zstd(Box::new(ZstdEncoder::with_encoder(Vec::new(), stream)))
            }
        })
    }

    /// What goes out for that; `ends`: nothing follows.
    pub(crate) fn compress(&mut self, parts: Vec<Bytes>, ends: bool) -> io::Result<Vec<Bytes>> {
        let out = match self {
            Compressor::None => return Ok(parts),
            Compressor::Gzip(gzip) => {
                write_all(gzip, &parts)?;
                if ends {
                    gzip.try_finish()?
                }
                std::mem::take(gzip.get_mut())
            }
            Compressor::Zstd(zstd) => {
                write_all(zstd, &parts)?;
                if ends {
                    zstd.do_finish()?
                }
                std::mem::take(zstd.get_mut())
            }
        };
        Ok(if out.is_empty() { vec![] } else { vec![out.into()] })
    }
}

fn write_all(encoder: &mut impl Write, parts: &[Bytes]) -> io::Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    parts.iter().try_for_each(|part| encoder.write_all(part))?;
    encoder.flush()
}
