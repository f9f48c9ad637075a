//! A proxy that keeps the frames that pass it, both ways, byte for byte.
//!
//! In front of a name server it can exchange one address for another inside the replies, so that clients come to the
//! broker through a second recorder. What it keeps is what was on the wire before the exchange.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::Frame;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// A frame that passed, with the connection it passed on.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    pub(crate) connection: usize,
    pub(crate) direction: Direction,
    pub(crate) frame: Frame,
}

/// Two texts of the same length: the first is replaced by the second in what goes to clients.
pub(crate) type Exchange = (String, String);

/// A running proxy; it ends with the test's process.
pub(crate) struct Recorder {
    pub(crate) address: String,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Recorder {
    /// Listens on `port` and connects each client to `server`.
    pub(crate) fn start(port: u16, server: &str, exchange: Option<Exchange>) -> Recorder {
        if let Some((from, to)) = &exchange {
            assert_eq!(from.len(), to.len(), "an exchange must keep every length in the frame");
        }
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let passed = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&passed);
        let server: SocketAddr = server.parse().unwrap();
        thread::spawn(move || {
            for (connection, client) in listener.incoming().flatten().enumerate() {
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                for (direction, from, to) in
                    [(Direction::ToServer, &client, &upstream), (Direction::ToClient, &upstream, &client)]
                {
                    let lane = Lane {
                        connection,
                        direction,
                        from: from.try_clone().unwrap(),
                        to: to.try_clone().unwrap(),
                        exchange: exchange.clone(),
                        kept: Arc::clone(&kept),
                    };
                    thread::spawn(move || lane.carry());
                }
            }
        });
        Recorder { address: format!("127.0.0.1:{port}"), passed }
    }

    pub(crate) fn passed(&self) -> Vec<Passed> {
        self.passed.lock().unwrap().clone()
    }

    /// The first reply to `request` on its connection.
    pub(crate) fn reply_to(&self, request: &Passed) -> Option<Passed> {
        self.passed().into_iter().find(|other| {
            other.connection == request.connection
                && other.direction != request.direction
                && other.frame.header.is_reply()
                && other.frame.header.opaque == request.frame.header.opaque
        })
    }
}

/// One direction of one connection.
struct Lane {
    connection: usize,
    direction: Direction,
    from: TcpStream,
    to: TcpStream,
    exchange: Option<Exchange>,
    kept: Arc<Mutex<Vec<Passed>>>,
}

impl Lane {
    fn carry(mut self) {
        while let Ok(Some(frame)) = Frame::read(&mut self.from) {
            let bytes = self.outgoing(&frame);
            let passed = Passed { connection: self.connection, direction: self.direction, frame };
            self.kept.lock().unwrap().push(passed);
            if self.to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _already_closed = self.to.shutdown(Shutdown::Both);
        let _already_closed = self.from.shutdown(Shutdown::Both);
    }

    fn outgoing(&self, frame: &Frame) -> Vec<u8> {
        match &self.exchange {
            Some((from, to)) if self.direction == Direction::ToClient => {
                replaced(&frame.bytes, from.as_bytes(), to.as_bytes())
            }
            _ => frame.bytes.clone(),
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= out.len() {
        if &out[at..at + from.len()] == from {
            out[at..at + to.len()].copy_from_slice(to);
            at += to.len();
        } else {
            at += 1;
        }
    }
    out
}
