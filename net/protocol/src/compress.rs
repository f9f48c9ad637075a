//! Body codecs: zlib, with a bound on what comes out. LZ4 and zstd are named, so that refusing them can say what they are.
//!
//! The broker stores and sends compressed bodies as they are; only clients and tools that read bodies come here.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use thiserror::Error;

use crate::properties::sys_flag;

/// The codec that a sysFlag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Lz4,
    Zstd,
    Zlib,
}

impl Codec {
    /// The codec of a compressed body; `None` when the body is not compressed or the type is unknown.
    pub const fn of(sys_flag: i32) -> Option<Codec> {
        if !sys_flag::is_compressed(sys_flag) {
            return None;
        }
        match sys_flag::compression_type(sys_flag) {
            1 => Some(Codec::Lz4),
            2 => Some(Codec::Zstd),
            0 | 3 => Some(Codec::Zlib),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Codec::Lz4 => "LZ4",
            Codec::Zstd => "ZSTD",
            Codec::Zlib => "ZLIB",
        }
    }
}

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompressError {
    #[error("{0} bodies are not supported")]
    Unsupported(&'static str),
    #[error("the compression type {0} is unknown")]
    UnknownType(i32),
    #[error("the zlib stream is damaged")]
    Damaged,
    #[error("the zlib stream holds more than {0} bytes")]
    TooLarge(usize),
}

/// Undoes the compression that `sys_flag` tells of; `None` when the body is not compressed.
pub fn decompress(sys_flag: i32, body: &[u8], max: usize) -> Result<Option<Vec<u8>>, CompressError> {
    match Codec::of(sys_flag) {
        Some(Codec::Zlib) => inflate(body, max).map(Some),
        Some(other) => Err(CompressError::Unsupported(other.name())),
        None if sys_flag::is_compressed(sys_flag) => {
            Err(CompressError::UnknownType(sys_flag::compression_type(sys_flag)))
        }
        None => Ok(None),
    }
}

/// Unpacks a zlib stream into at most `max` bytes; the memory taken grows with what really comes out.
pub fn inflate(stream: &[u8], max: usize) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    ZlibDecoder::new(stream).take(limit).read_to_end(&mut out).map_err(|_| CompressError::Damaged)?;
    if out.len() > max {
        return Err(CompressError::TooLarge(max));
    }
    Ok(out)
}

/// Packs bytes into a zlib stream at a level from 0 to 9; Java's default is 5.
pub fn deflate(bytes: &[u8], level: u32) -> Result<Vec<u8>, CompressError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level.min(9)));
    // Writing to memory does not fail; if the codec does, the stream would be damaged.
    encoder.write_all(bytes).map_err(|_| CompressError::Damaged)?;
    encoder.finish().map_err(|_| CompressError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_flag_names_the_codec() {
        let cases = [
            (0, None),
            (1, Some(Codec::Zlib)),
            (0x301, Some(Codec::Zlib)),
            (0x101, Some(Codec::Lz4)),
            (0x201, Some(Codec::Zstd)),
            (0x701, None),
        ];
        for (flag, codec) in cases {
            assert_eq!(Codec::of(flag), codec, "{flag:#x}");
        }
        assert_eq!(decompress(0x101, b"x", 9).unwrap_err().to_string(), "LZ4 bodies are not supported");
        assert_eq!(decompress(0x501, b"x", 9), Err(CompressError::UnknownType(5)));
        assert_eq!(decompress(0, b"x", 9), Ok(None));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = deflate(&vec![0; 1 << 20], 9).unwrap();
        assert!(bomb.len() < 4096);
        assert_eq!(inflate(&bomb, 1 << 16), Err(CompressError::TooLarge(1 << 16)));
        assert_eq!(inflate(&bomb, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(inflate(&bomb[..bomb.len() / 2], 1 << 20), Err(CompressError::Damaged));
    }

    proptest! {
        #[test]
        fn every_body_comes_back(body in prop::collection::vec(any::<u8>(), 0..500), level in 0..12u32) {
            let packed = deflate(&body, level).unwrap();
            prop_assert_eq!(decompress(1, &packed, body.len()), Ok(Some(body)));
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = inflate(&bytes, 1000);
        }
    }
}
