//! From received bytes to frames, without copying bodies.
//!
//! A frame usually lies whole in one receive buffer and is handed out as a slice of it. One that crosses buffers keeps its
//! body in the pieces it came in; only a header that crosses is put together. Long frames, and pieces that would have to be
//! held while the shard is short of receive buffers, move to memory of their own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use ringmq_protocol::frame::{FrameError, FrameHead, PREFIX_LEN};
use ringmq_rt::Slice;
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::limits::CHAIN_MAX;

/// The pieces of a body, in order.
pub type BodyParts<'a> = SmallVec<[&'a [u8]; 4]>;

/// One frame as it was received. Cloning it keeps the receive buffers, never copies them.
#[derive(Debug, Clone)]
pub struct Frame {
    head: FrameHead,
    /// Prefix, the whole header, and the first piece of the body.
    first: Slice,
    rest: SmallVec<[Slice; 2]>,
}

impl Frame {
    /// The frame's checked lengths.
    pub fn head(&self) -> FrameHead {
        self.head
    }

    /// The header's bytes.
    pub fn header(&self) -> &[u8] {
        &self.first[PREFIX_LEN..self.head.body_start()]
    }

    /// Bytes of body.
    pub fn body_len(&self) -> usize {
        self.head.body_len()
    }

    /// The body where it lies.
    pub fn body_parts(&self) -> BodyParts<'_> {
        let mut parts = BodyParts::new();
        let first = &self.first[self.head.body_start()..];
        if !first.is_empty() {
            parts.push(first);
        }
        parts.extend(self.rest.iter().map(|s| &**s));
        parts
    }

    /// The body in one piece; copied if it lies in several.
    pub fn body(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.rest.is_empty() {
            (&self.first[self.head.body_start()..]).into()
        } else {
            self.body_parts().concat().into()
        }
    }
}

/// Why a connection's bytes cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AssembleError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("half-received frames of this shard already hold {0} bytes, the most allowed")]
    OutOfMemory(usize),
}

/// Memory that one shard's half-received large frames hold together.
#[derive(Debug, Clone)]
pub(crate) struct Assembly {
    used: Rc<Cell<usize>>,
    max: usize,
}

impl Assembly {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: Rc::default(), max }
    }
}

/// Puts the bytes of one connection together.
#[derive(Debug)]
pub(crate) struct Assembler {
    chunks: VecDeque<Slice>,
    have: usize,
    /// A frame too long to stay in receive buffers, and what there is of it.
    large: Option<(FrameHead, Vec<u8>)>,
    assembly: Assembly,
    accounted: usize,
}

impl Assembler {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self { chunks: VecDeque::new(), have: 0, large: None, assembly, accounted: 0 }
    }

    /// Takes in what was received.
    pub(crate) fn push(&mut self, chunk: Slice) {
        self.have += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// When the bytes are no frame, or the shard holds too much already: the connection is of no more use.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, AssembleError> {
        if self.large.is_some() {
            return self.continue_large();
        }
        let Some(prefix) = self.prefix() else { return Ok(None) };
        let head = FrameHead::parse(&prefix)?;
        if head.frame_len() > CHAIN_MAX {
            self.large = Some((head, Vec::new()));
            return self.continue_large();
        }
        if self.have < head.frame_len() {
            return Ok(None);
        }
        Ok(Some(self.cut(head)))
    }

    /// Gives receive buffers back before waiting for the rest of a frame.
    pub(crate) fn spill(&mut self) {
        if self.chunks.iter().any(Slice::is_receive_buffer) {
            let mut bytes = Vec::with_capacity(self.have);
            for chunk in self.chunks.drain(..) {
                bytes.extend_from_slice(&chunk);
            }
            self.chunks.push_back(Slice::from(bytes));
        }
    }

    fn prefix(&self) -> Option<[u8; PREFIX_LEN]> {
        if self.have < PREFIX_LEN {
            return None;
        }
        let mut prefix = [0; PREFIX_LEN];
        if let Some(first) = self.chunks.front()
            && let Some(whole) = first.first_chunk()
        {
            return Some(*whole);
        }
        let bytes = self.chunks.iter().flat_map(|c| c.iter());
        for (to, from) in prefix.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(prefix)
    }

    /// Takes up to `n` bytes of the first chunk.
    fn take(&mut self, n: usize) -> Option<Slice> {
        let first = self.chunks.front_mut()?;
        let taken = if first.len() <= n {
            self.chunks.pop_front()?
        } else {
            let taken = first.cut(0..n);
            first.advance(n);
            taken
        };
        self.have -= taken.len();
        Some(taken)
    }

    /// Cuts the frame, all of which is here, off the front.
    fn cut(&mut self, head: FrameHead) -> Frame {
        let mut left = head.frame_len();
        let mut first = self.take(left).unwrap_or(const { Slice::empty() });
        left -= first.len();
        if first.len() < head.body_start() {
            // The header crosses buffers: put together just that much.
            let mut missing = head.body_start() - first.len();
            let mut pieces: SmallVec<[Slice; 4]> = smallvec![first];
            while missing > 0 {
                let Some(more) = self.take(missing) else { break };
                left -= more.len();
                missing -= more.len();
                pieces.push(more);
            }
            first = Slice::gather(&pieces);
        }
        let mut rest = SmallVec::new();
        while left > 0 {
            let Some(more) = self.take(left) else { break };
            left -= more.len();
            rest.push(more);
        }
        Frame { head, first, rest }
    }

    fn continue_large(&mut self) -> Result<Option<Frame>, AssembleError> {
        let Some((head, mut bytes)) = self.large.take() else { return Ok(None) };
        while bytes.len() < head.frame_len() {
            let Some(chunk) = self.take(head.frame_len() - bytes.len()) else { break };
            self.account(chunk.len())?;
            // Room grows with what has really arrived, not with what the length field claims.
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() < head.frame_len() {
            self.large = Some((head, bytes));
            return Ok(None);
        }
        self.release();
        Ok(Some(Frame { head, first: Slice::from(bytes), rest: SmallVec::new() }))
    }

    fn account(&mut self, n: usize) -> Result<(), AssembleError> {
        let used = self.assembly.used.get() + n;
        if used > self.assembly.max {
            return Err(AssembleError::OutOfMemory(self.assembly.max));
        }
        self.assembly.used.set(used);
        self.accounted += n;
        Ok(())
    }

    fn release(&mut self) {
        self.assembly.used.set(self.assembly.used.get() - self.accounted);
        self.accounted = 0;
    }
}

impl Drop for Assembler {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&u32::try_from(4 + header.len() + body.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(body);
        out
    }

    /// Header and body of each frame.
    type Frames = Vec<(Vec<u8>, Vec<u8>)>;

    fn all(chunks: &[&[u8]], max: usize) -> Result<Frames, AssembleError> {
        let mut assembler = Assembler::new(Assembly::new(max));
        let mut got = Vec::new();
        for chunk in chunks {
            assembler.push(Slice::from(chunk.to_vec()));
            while let Some(f) = assembler.next_frame()? {
                got.push((f.header().to_vec(), f.body().into_owned()));
                assert_eq!(f.body_parts().concat(), *f.body());
            }
        }
        Ok(got)
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let mut bytes = frame(b"{\"code\":1}", b"hello");
        bytes.extend(frame(b"h", b""));
        bytes.extend(frame(b"", &[7; 300]));
        let whole = all(&[&bytes], 0).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], (b"{\"code\":1}".to_vec(), b"hello".to_vec()));
        for size in 1..bytes.len() {
            let cut: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(all(&cut, 0).unwrap(), whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_long_frame_is_put_together_within_its_budget() {
        let body: Vec<u8> = (0..CHAIN_MAX * 2).map(|i| i as u8).collect();
        let mut bytes = frame(b"h", &body);
        bytes.extend(frame(b"next", b"x"));
        let cut: Vec<&[u8]> = bytes.chunks(16 * 1024).collect();
        let got = all(&cut, bytes.len()).unwrap();
        assert_eq!(got, [(b"h".to_vec(), body), (b"next".to_vec(), b"x".to_vec())]);
        assert_eq!(all(&cut, CHAIN_MAX), Err(AssembleError::OutOfMemory(CHAIN_MAX)));
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        assert!(all(&[&[0xff; 8]], 0).is_err());
        assert!(all(&[&[0, 0, 0, 5, 0, 0, 0, 9]], 0).is_err(), "a header longer than its frame");
        assert_eq!(all(&[&[0, 0, 0, 5, 0, 0]], 0), Ok(vec![]));
    }

    #[test]
    fn a_body_that_crosses_buffers_is_not_copied() {
        let bytes = frame(b"header", &[1; 100]);
        let whole = Slice::from(bytes);
        let mut assembler = Assembler::new(Assembly::new(0));
        assembler.push(whole.cut(0..50));
        assert!(assembler.next_frame().unwrap().is_none());
        assembler.push(whole.cut(50..whole.len()));
        let got = assembler.next_frame().unwrap().unwrap();
        let at: Vec<*const u8> = got.body_parts().iter().map(|p| p.as_ptr()).collect();
        assert_eq!(at, [whole[14..].as_ptr(), whole[50..].as_ptr()]);
    }
}
