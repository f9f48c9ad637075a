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

/// What is missing of a frame is read to its place when it is longer than this; less is read with what follows it.
const DIRECT_ABOVE: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// Not taken by the kernel yet, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// In its first `filled` bytes, the beginning of a frame whose rest has not arrived.
    held: Vec<u8>,
    filled: usize,
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
        Ok(Link { stream: TcpStream::from_std(stream), pending: Vec::new(), written: 0, held: Vec::new(), filled: 0 })
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

    /// Bytes that the kernel has not taken.
    pub(crate) fn unsent(&self) -> usize {
        self.pending.len() - self.written
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
            let held = self.filled;
            let frame = frame_len(&self.held[..held])?.unwrap_or(0);
            if frame > held + DIRECT_ABOVE {
                let taken = self.read_rest(frame)?;
                if self.filled == frame {
                    self.filled = 0;
                    split_frames(&self.held[..frame], &mut on_frame)?;
                } else if taken == 0 {
                    return Ok(());
                }
                continue;
            }
            let wanted = frame.max(held + 1);
            if scratch.input.len() < wanted {
                scratch.input.resize(wanted.max(scratch.input.len() * 2).min(FRAME_MAX), 0);
            }
            let input = &mut scratch.input[..];
            let taken = read(&mut self.stream, &mut input[held..])?;
            if taken == 0 {
                return Ok(());
            }
            input[..held].copy_from_slice(&self.held[..held]);
            let filled = held + taken;
            let used = split_frames(&input[..filled], &mut on_frame)?;
            self.hold(&input[used..filled]);
            // A short read has emptied the socket; the next arrival brings a new event.
            if filled < input.len() {
                return Ok(());
            }
        }
    }

    /// Reads what there is of a long frame to behind the part of it that is held.
    fn read_rest(&mut self, frame: usize) -> io::Result<usize> {
        if self.held.len() < frame {
            self.held.resize(frame, 0);
        }
        let taken = read(&mut self.stream, &mut self.held[self.filled..frame])?;
        self.filled += taken;
        Ok(taken)
    }

    fn hold(&mut self, rest: &[u8]) {
        if self.held.len() < rest.len() {
            self.held.resize(rest.len(), 0);
        }
        self.held[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }
}

/// Zero when there is nothing to read.
fn read(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")),
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(e) => return Err(e),
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
    fn frames_of_any_length_come_out_as_they_were_sent() {
        let frame = |len: usize, fill: u8| {
            let mut frame = (len as u32 + 4).to_be_bytes().to_vec();
            frame.extend_from_slice(&[0; 4]);
            frame.resize(len + 8, fill);
            frame
        };
        let lens = [10, 5_000_000, 70_000, 0, 300_000, 65_536, 1_000_000, 20];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = Link::open(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let writer = std::thread::spawn(move || {
            for (fill, len) in lens.iter().enumerate() {
                peer.write_all(&frame(*len, fill as u8)).unwrap();
            }
            peer
        });
        let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(8));
        link.register(poll.registry(), Token(0)).unwrap();
        let (mut scratch, mut seen) = (Scratch::new(), Vec::new());
        while seen.len() < lens.len() {
            poll.poll(&mut events, None).unwrap();
            link.read_frames(&mut scratch, |frame| {
                assert!(frame.body.iter().all(|byte| *byte == seen.len() as u8));
                seen.push(frame.body.len());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(seen, lens);
        writer.join().unwrap();
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert!(lens(&[0xff; 16]).is_err());
        assert!(lens(&[0, 0, 0, 3, 0, 0, 0]).is_err());
        assert!(lens(&[0, 0, 0, 5, 0, 0, 0, 2, 0]).is_err());
    }
}
