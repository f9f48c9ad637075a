//! A frame: `total i32 | serialize u8, header length u24 | header | body`, where total counts what follows itself.
//!
//! Reads the first eight bytes of a frame and writes them around a header that is encoded straight into an output
//! buffer. It does not read sockets and never holds a body: a body stays where it is.

use thiserror::Error;

/// The longest frame accepted or written, its length field included; the limit that Java peers keep by default.
pub const FRAME_MAX: usize = 16 * 1024 * 1024;

/// The bytes before the header: the total length and the header descriptor.
pub const PREFIX_LEN: usize = 8;

/// How the header of a frame is written. The number is the high byte of the header descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Serialize {
    Json,
    RocketMq,
}

impl Serialize {
    /// The name in `serializeTypeCurrentRPC`.
    pub const fn name(self) -> &'static str {
        match self {
            Serialize::Json => "JSON",
            Serialize::RocketMq => "ROCKETMQ",
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Serialize::Json => 0,
            Serialize::RocketMq => 1,
        }
    }
}

/// Why a frame cannot be read or written. A reader closes the connection: there is no way to find the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length field is negative or does not even hold the header descriptor.
    #[error("a frame length of {0} is too short")]
    TooShort(i32),
    /// The frame is longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes is longer than the limit of {FRAME_MAX}")]
    TooLong(u64),
    /// The header would end behind its frame.
    #[error("a header of {header_len} bytes does not fit in a frame of {total}")]
    HeaderTooLong { header_len: u32, total: u32 },
    /// The serialize byte is neither JSON nor ROCKETMQ.
    #[error("unknown header serialize type {0}")]
    UnknownSerialize(u8),
}

/// The first eight bytes of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The bytes behind the length field.
    pub total: u32,
    pub header_len: u32,
    pub serialize: Serialize,
}

impl FrameHead {
    /// Reads and checks the prefix of a frame; nothing about the frame is believed before this returns `Ok`.
    pub fn parse(first8: &[u8; PREFIX_LEN]) -> Result<FrameHead, FrameError> {
        let [t0, t1, t2, t3, kind, h0, h1, h2] = *first8;
        let signed = i32::from_be_bytes([t0, t1, t2, t3]);
        let total = u32::try_from(signed).map_err(|_| FrameError::TooShort(signed))?;
        if total < 4 {
            return Err(FrameError::TooShort(signed));
        }
        if u64::from(total) + 4 > FRAME_MAX as u64 {
            return Err(FrameError::TooLong(u64::from(total) + 4));
        }
        let serialize = match kind {
            0 => Serialize::Json,
            1 => Serialize::RocketMq,
            other => return Err(FrameError::UnknownSerialize(other)),
        };
        let header_len = u32::from_be_bytes([0, h0, h1, h2]);
        if header_len > total - 4 {
            return Err(FrameError::HeaderTooLong { header_len, total });
        }
        Ok(FrameHead { total, header_len, serialize })
    }

    /// The bytes of the body; zero when there is none.
    pub const fn body_len(&self) -> usize {
        (self.total - 4 - self.header_len) as usize
    }

    /// The whole frame on the wire, its length field included.
    pub const fn frame_len(&self) -> usize {
        self.total as usize + 4
    }

    /// Where the body starts, counted from the frame's first byte.
    pub const fn body_start(&self) -> usize {
        PREFIX_LEN + self.header_len as usize
    }
}

/// Where a frame began in an output buffer; [`finish_frame`] writes the lengths there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a frame that was begun has no lengths until it is finished"]
pub struct FrameMark {
    start: usize,
}

impl FrameMark {
    /// The offset of the frame's first byte in the output buffer.
    pub const fn start(self) -> usize {
        self.start
    }
}

/// Reserves the prefix of a frame at the end of `out`. The header is appended next, then [`finish_frame`] called.
pub fn begin_frame(out: &mut Vec<u8>) -> FrameMark {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    FrameMark { start }
}

/// Writes the lengths of the frame begun at `mark`.
///
/// The header ends at `header_end` in `out`; what follows it in `out` is body, and `extra_body_len` bytes of body are
/// to be sent behind `out` from elsewhere. On an error the frame is cut off `out` again.
pub fn finish_frame(
    out: &mut Vec<u8>,
    mark: FrameMark,
    header_end: usize,
    serialize: Serialize,
    extra_body_len: usize,
) -> Result<(), FrameError> {
    assert!(
        mark.start + PREFIX_LEN <= header_end && header_end <= out.len(),
        "a frame begun at {} cannot have a header end at {header_end} in {} bytes",
        mark.start,
        out.len()
    );
    let frame_len = (out.len() - mark.start).saturating_add(extra_body_len);
    if frame_len > FRAME_MAX {
        out.truncate(mark.start);
        return Err(FrameError::TooLong(frame_len as u64));
    }
    // Both fit: the frame is at most FRAME_MAX, and FRAME_MAX is 2^24, which a header inside it stays below.
    let total = (frame_len - 4) as u32;
    let header_len = (header_end - mark.start - PREFIX_LEN) as u32;
    let descriptor = u32::from(serialize.byte()) << 24 | header_len;
    let prefix = &mut out[mark.start..mark.start + PREFIX_LEN];
    prefix[..4].copy_from_slice(&total.to_be_bytes());
    prefix[4..].copy_from_slice(&descriptor.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(total: i32, kind: u8, header_len: u32) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&total.to_be_bytes());
        bytes[4..].copy_from_slice(&(u32::from(kind) << 24 | header_len).to_be_bytes());
        bytes
    }

    #[test]
    fn refuses_lengths_before_believing_them() {
        assert_eq!(FrameHead::parse(&prefix(-1, 0, 0)), Err(FrameError::TooShort(-1)));
        assert_eq!(FrameHead::parse(&prefix(3, 0, 0)), Err(FrameError::TooShort(3)));
        assert_eq!(FrameHead::parse(&prefix(i32::MAX, 0, 0)), Err(FrameError::TooLong(i32::MAX as u64 + 4)));
        assert_eq!(FrameHead::parse(&prefix(10, 0, 7)), Err(FrameError::HeaderTooLong { header_len: 7, total: 10 }));
        assert_eq!(FrameHead::parse(&prefix(10, 2, 6)), Err(FrameError::UnknownSerialize(2)));
        let largest = FrameHead::parse(&prefix(FRAME_MAX as i32 - 4, 1, 100)).unwrap();
        assert_eq!(largest.frame_len(), FRAME_MAX);
        assert_eq!(largest.body_len(), FRAME_MAX - 108);
        assert!(FrameHead::parse(&prefix(FRAME_MAX as i32 - 3, 1, 100)).is_err());
    }

    #[test]
    fn an_oversized_frame_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let mark = begin_frame(&mut out);
        out.extend_from_slice(b"{}");
        let header_end = out.len();
        assert!(finish_frame(&mut out, mark, header_end, Serialize::Json, FRAME_MAX).is_err());
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn any_prefix_is_an_answer(bytes: [u8; 8]) {
            if let Ok(head) = FrameHead::parse(&bytes) {
                prop_assert!(head.frame_len() <= FRAME_MAX);
                prop_assert_eq!(head.body_start() + head.body_len(), head.frame_len());
            }
        }

        #[test]
        fn what_is_finished_parses(before in 0..40usize, header in 0..300usize, body in 0..300usize, extra in 0..100_000usize) {
            let mut out = vec![7; before];
            let mark = begin_frame(&mut out);
            out.resize(out.len() + header, 1);
            let header_end = out.len();
            out.resize(out.len() + body, 2);
            finish_frame(&mut out, mark, header_end, Serialize::RocketMq, extra).unwrap();
            let head = FrameHead::parse(out[before..before + 8].try_into().unwrap()).unwrap();
            prop_assert_eq!(head.header_len as usize, header);
            prop_assert_eq!(head.body_len(), body + extra);
            prop_assert_eq!(head.serialize, Serialize::RocketMq);
        }
    }
}
