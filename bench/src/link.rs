//! One non-blocking connection of a load thread: bytes that the kernel did not take yet, bytes of a frame that has
//! not arrived whole. It splits the input into frames and knows nothing of their meaning. Owned by one thread.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::reply::Frame;
use crate::wire::FRAME_MAX;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes asked of the kernel at once; a frame that is longer makes the buffer grow up to the largest frame.
const READ_CHUNK: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Not taken by the kernel yet, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// The beginning of a frame whose rest has not arrived.
    held: Vec<u8>,
}

/// A load thread's buffers, shared by its connections because only one is served at a time.
#[derive(Debug)]
pub(crate) struct Scratch {
    input: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch { input: vec![0; READ_CHUNK] }
    }
}

impl Link {
    pub(crate) fn open(addr: SocketAddr) -> io::Result<Link> {
        let stream = StdStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link { stream: TcpStream::from_std(stream), pending: Vec::new(), written: 0, held: Vec::new() })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) {
        // The socket is closed next; a registration that was never made changes nothing.
        let _ = registry.deregister(&mut self.stream);
    }

    /// Where requests are put together. They leave with the next [`flush`](Link::flush).
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Hands the kernel what it takes; the rest waits for the socket to become writable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.pending.len() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads until the socket is empty and hands over every whole frame. An end of the stream is an error here: a
    /// broker does not close a connection that is in use.
    pub(crate) fn read_frames(
        &mut self,
        scratch: &mut Scratch,
        mut on_frame: impl FnMut(Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let held = self.held.len();
            let wanted = frame_len(&self.held)?.unwrap_or(0).max(held + 1);
            if scratch.input.len() < wanted {
                scratch.input.resize(wanted.max(scratch.input.len() * 2).min(FRAME_MAX), 0);
            }
            let input = &mut scratch.input[..];
            let taken = match self.stream.read(&mut input[held..]) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            input[..held].copy_from_slice(&self.held);
            let filled = held + taken;
            let used = split_frames(&input[..filled], &mut on_frame)?;
            self.held.clear();
            self.held.extend_from_slice(&input[used..filled]);
            // A short read has emptied the socket; the next arrival brings a new event.
            if filled < input.len() {
                return Ok(());
            }
        }
    }
}

/// The whole length of the frame that begins here, once its first four bytes are known.
fn frame_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*prefix) as usize;
    if !(4..=FRAME_MAX - 4).contains(&len) {
        return Err(invalid(format!("a frame of {len} bytes")));
    }
    Ok(Some(len + 4))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Hands over the whole frames and says how many bytes they had.
fn split_frames(input: &[u8], on_frame: &mut impl FnMut(Frame<'_>) -> io::Result<()>) -> io::Result<usize> {
    let mut used = 0;
    while let Some(len) = frame_len(&input[used..])? {
        let Some(frame) = input.get(used..used + len) else { break };
        let (prefix, rest) = frame.split_at(8);
        let header_len = usize::from(prefix[5]) << 16 | usize::from(prefix[6]) << 8 | usize::from(prefix[7]);
        let Some((header, body)) = rest.split_at_checked(header_len) else {
            return Err(invalid(format!("a header of {header_len} bytes in a frame of {len}")));
        };
        on_frame(Frame { binary: prefix[4] == 1, header, body })?;
        used += len;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(input: &[u8]) -> io::Result<(usize, Vec<(usize, usize)>)> {
        let mut seen = Vec::new();
        let used = split_frames(input, &mut |f: Frame<'_>| {
            seen.push((f.header.len(), f.body.len()));
            Ok(())
        })?;
        Ok((used, seen))
    }

    #[test]
    fn whole_frames_are_split_and_a_half_one_waits() {
        let mut input = vec![0, 0, 0, 9, 0, 0, 0, 3, b'{', b'}', b' ', 1, 2];
        input.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0]);
        input.extend_from_slice(&[0, 0, 0, 50, 0, 0]);
        assert_eq!(lens(&input).unwrap(), (21, vec![(3, 2), (0, 0)]));
        assert_eq!(lens(&[]).unwrap(), (0, vec![]));
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert!(lens(&[0xff; 16]).is_err());
        assert!(lens(&[0, 0, 0, 3, 0, 0, 0]).is_err());
        assert!(lens(&[0, 0, 0, 5, 0, 0, 0, 2, 0]).is_err());
    }
}
