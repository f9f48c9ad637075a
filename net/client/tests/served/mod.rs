//! A server that the test plays: real sockets, and a script that says what becomes of each request. The bench's tests use
//! it too.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringmq_protocol::command::{Command, FLAG_RESPONSE};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};

/// What the server does with a request.
pub(crate) enum Served {
    /// A one-way request gets none.
    Answer(Command, Vec<u8>),
    Silence,
    HangUp,
    /// Bytes that are written as they are.
    Raw(&'static [u8]),
}

/// Serves until the test ends, with the same script for every connection. Gives the address, and how many connections
/// there have been.
pub(crate) fn serve(script: impl FnMut(&Command, &[u8]) -> Served + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let script = Arc::new(Mutex::new(script));
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            seen.fetch_add(1, Ordering::SeqCst);
            stream.set_nodelay(true).unwrap();
            let script = Arc::clone(&script);
            thread::spawn(move || play(stream, &script));
        }
    });
    (addr, connections)
}

fn play(mut stream: TcpStream, script: &Mutex<impl FnMut(&Command, &[u8]) -> Served>) {
    let mut prefix = [0; PREFIX_LEN];
    while stream.read_exact(&mut prefix).is_ok() {
        let head = FrameHead::parse(&prefix).unwrap();
        let mut rest = vec![0; head.frame_len() - PREFIX_LEN];
        stream.read_exact(&mut rest).unwrap();
        let (header, body) = rest.split_at(head.header_len as usize);
        let request = Command::decode(head.serialize, header).unwrap();
        let served = script.lock().unwrap()(&request, body);
        let written = match served {
            Served::Answer(reply, body) if !request.is_oneway() => {
                let mut frame = Vec::new();
                reply.encode_frame(Serialize::Json, &body, &mut frame).unwrap();
                stream.write_all(&frame)
            }
            Served::Answer(..) | Served::Silence => Ok(()),
            Served::HangUp => return,
            Served::Raw(bytes) => stream.write_all(bytes),
        };
        if written.is_err() {
            return;
        }
    }
}

/// An address that answers nothing at all, until what keeps it so is dropped: nobody accepts, and the kernel's queue is full.
pub(crate) fn hole() -> (String, (TcpListener, Vec<TcpStream>)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&addr, Duration::from_millis(100)).ok();
    let queue = std::iter::from_fn(connect).collect();
    (addr.to_string(), (listener, queue))
}

/// An answer with this code and nothing else yet.
pub(crate) fn reply_to(request: &Command, code: i32) -> Command {
    let mut reply = Command::request(code, request.opaque);
    reply.flag = FLAG_RESPONSE;
    reply
}
