//! The frame of the small binary files beside a log: magic, version, whose it is, content, checksum. Pure bytes.

use crate::position::ShardId;

/// Why a file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    #[error("it is not a file of this version")]
    Version,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it belongs to another store or shard")]
    Stranger,
    #[error("its content contradicts itself")]
    Content,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) version: u32,
}

pub(crate) struct Encoder {
    pub(crate) out: Vec<u8>,
    summed: usize,
    crc: u32,
}

impl Encoder {
    pub(crate) fn new(kind: Kind, shard: ShardId, store: u64) -> Self {
        let mut this = Self { out: Vec::with_capacity(4096), summed: 0, crc: 0 };
        this.out.extend_from_slice(kind.magic);
        this.u32(kind.version);
        this.u32(u32::from(shard.get()));
        this.u64(store);
        this
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A number of things that follow; they are far fewer than 2^32.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or_else(|_| panic!("{value} entries of one kind")));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Brings the checksum up to date, so that no long sum is left for the end.
    pub(crate) fn sum(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, &self.out[self.summed..]);
        self.summed = self.out.len();
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.sum();
        let crc = self.crc;
        self.u32(crc);
        self.out
    }
}

/// The content of a file that is not yet read.
pub(crate) struct Decoder<'a>(pub(crate) &'a [u8]);

impl<'a> Decoder<'a> {
    /// Verifies the frame.
    pub(crate) fn open(bytes: &'a [u8], kind: Kind, shard: ShardId, store: u64) -> Result<Self, BadFile> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadFile::Content)?;
        let mut input = Self(body);
        if input.take(kind.magic.len())? != kind.magic || input.u32()? != kind.version {
            return Err(BadFile::Version);
        }
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(BadFile::Checksum);
        }
        if input.u32()? != u32::from(shard.get()) || input.u64()? != store {
            return Err(BadFile::Stranger);
        }
        Ok(input)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], BadFile> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(BadFile::Content)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, BadFile> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(BadFile::Content)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*taken))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BadFile> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, BadFile> {
        let len = self.u32()? as usize;
        std::str::from_utf8(self.take(len)?).map_err(|_| BadFile::Content)
    }

    /// So many things of `each` bytes.
    pub(crate) fn many(&mut self, each: usize) -> Result<&'a [u8], BadFile> {
        let count = self.u32()? as usize;
        self.take(count.checked_mul(each).ok_or(BadFile::Content)?)
    }
}
