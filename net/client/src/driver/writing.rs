//! The writing half of a connection: one writer at a time, and nobody writes or waits for longer than there is time. What a
//! writer had no time for goes before the next frame, because nothing else can follow the half of one.

use std::io::{self, Write as _};
use std::mem;
use std::net::TcpStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::blocking::lock;

/// A peer that takes nothing for so long is lost.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A write returns after so long, to look whether there is time left.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Writing {
    turn: Mutex<Turn>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    is_taken: bool,
    left: Left,
}

/// What the writers before have left.
#[derive(Debug, Default)]
struct Left {
    /// The end of a frame.
    rest: Vec<u8>,
    /// When the peer stopped taking anything.
    stuck_since: Option<Instant>,
}

/// Has the turn until it is dropped.
pub(super) struct Writer<'w> {
    writing: &'w Writing,
    left: Left,
}

impl Writing {
    pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(TICK))
    }

    /// Waits for its turn; `None` when that does not come in time.
    pub(super) fn take(&self, deadline: Instant) -> Option<Writer<'_>> {
        let mut turn = lock(&self.turn);
        while turn.is_taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            turn = self.freed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        turn.is_taken = true;
        Some(Writer { writing: self, left: mem::take(&mut turn.left) })
    }
}

impl Writer<'_> {
    /// Writes what was left and then the frame. False when there was no time for all of it; a frame that has not begun is
    /// never written then.
    pub(super) fn write(&mut self, stream: &TcpStream, frame: &[u8], deadline: Instant) -> io::Result<bool> {
        let rest = mem::take(&mut self.left.rest);
        let at = self.write_part(stream, &rest, deadline)?;
        if at < rest.len() {
            self.left.rest = rest[at..].to_vec();
            return Ok(false);
        }
        let at = self.write_part(stream, frame, deadline)?;
        if at > 0 {
            self.left.rest = frame[at..].to_vec();
        }
        Ok(at == frame.len())
    }

    /// How many of the bytes could be written in time.
    fn write_part(&mut self, mut stream: &TcpStream, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match stream.write(&bytes[at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written;
                    self.left.stuck_since = None;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.left.stuck_since.get_or_insert_with(Instant::now).elapsed() >= WRITE_TIMEOUT {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(e) => return Err(e),
            }
            if at < bytes.len() && Instant::now() >= deadline {
                break;
            }
        }
        Ok(at)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let mut turn = lock(&self.writing.turn);
        (turn.is_taken, turn.left) = (false, mem::take(&mut self.left));
        drop(turn);
        self.writing.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const FRAME: usize = 32 << 20;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    #[test]
    fn frames_stay_whole_whatever_their_writers_had_time_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        Writing::prepare(&stream).unwrap();
        let writing = Writing::default();
        // More than the kernel takes from a peer that does not read.
        assert!(!writing.take(soon()).unwrap().write(&stream, &vec![1; FRAME], soon()).unwrap());
        let mut second = writing.take(soon()).unwrap();
        assert!(!second.write(&stream, &[2; 10], soon()).unwrap());
        assert!(writing.take(soon()).is_none());
        drop(second);
        let reader = thread::spawn(move || {
            let mut seen = vec![0; FRAME + 10];
            peer.read_exact(&mut seen).unwrap();
            seen
        });
        let later = Instant::now() + Duration::from_secs(60);
        assert!(writing.take(later).unwrap().write(&stream, &[3; 10], later).unwrap());
        let seen = reader.join().unwrap();
        assert!(seen[..FRAME].iter().all(|byte| *byte == 1));
        assert_eq!(seen[FRAME..], [3; 10]);
    }
}
