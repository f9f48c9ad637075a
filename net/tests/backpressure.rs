//! What one shard's connections do to each other, over real sockets: slow readers, garbage, half frames and silence cost
//! bounded memory, end in a closed connection, and leave the others alone.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringmq_net::{Conn, Frame, Limits, Registry, Server, Service};
use ringmq_protocol::command::{Command, HeaderView, ReplyHead};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_rt::Slice;
use ringmq_rt::host::{Shard, Stop, start};
use ringmq_rt::net::ListenOptions;

const PATIENCE: Duration = Duration::from_secs(20);
/// The code that is answered with [`ANSWER`] bytes; every other one gets an empty answer.
const LARGE: i32 = 1;
const SMALL: i32 = 2;
const ANSWER: usize = 64 * 1024;

/// What the service has seen, for the test's thread.
#[derive(Debug, Default)]
struct Seen {
    /// Requests for large answers.
    requests: AtomicUsize,
    closed: AtomicUsize,
    output_max: AtomicUsize,
    open: AtomicUsize,
}

/// Answers each request at once.
struct Echo {
    seen: Arc<Seen>,
    registry: Rc<Registry>,
    body: Slice,
    requests: Cell<usize>,
}

impl Service for Echo {
    fn request(self: Rc<Self>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
        let body = if view.code == LARGE { self.body.clone() } else { Slice::empty() };
        conn.send(|out| {
            let head = ReplyHead { code: 0, opaque: view.opaque, remark: None };
            out.write(|bytes| head.begin(bytes).finish(body.len())).unwrap();
            out.push(body);
        });
        if view.code == LARGE {
            self.requests.set(self.requests.get() + 1);
            self.seen.requests.store(self.requests.get(), Ordering::SeqCst);
        }
        self.seen.output_max.fetch_max(self.registry.output_bytes(), Ordering::SeqCst);
        self.seen.open.store(self.registry.len(), Ordering::SeqCst);
    }

    fn closed(self: Rc<Self>, _conn: &Conn) {
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
    }
}

struct Running {
    shard: Shard<()>,
    stop: Stop,
    addr: SocketAddr,
    seen: Arc<Seen>,
}

fn run(limits: Limits) -> Running {
    let (stop, seen) = (Stop::new(), Arc::new(Seen::default()));
    let (tell, ready) = mpsc::channel();
    let (stopping, shared) = (stop.clone(), Arc::clone(&seen));
    let shard = start(None, move || async move {
        let registry = Registry::new(0, limits);
        let body = Slice::from(vec![7; ANSWER]);
        let service = Echo { seen: shared, registry: Rc::clone(&registry), body, requests: Cell::new(0) };
        let server = Server::new(Rc::new(service), Rc::clone(&registry));
        tell.send(server.listen("127.0.0.1:0".parse().unwrap(), ListenOptions::default()).await.unwrap()).unwrap();
        stopping.requested().await.unwrap();
        registry.close_all();
    })
    .unwrap();
    Running { shard, stop, addr: ready.recv_timeout(PATIENCE).unwrap(), seen }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn stop(self) {
        self.stop.request();
        self.shard.join().unwrap();
    }
}

fn request(code: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Command::request(code, 9).encode_frame(Serialize::Json, body, &mut frame).unwrap();
    frame
}

/// Reads one answer; the length of its body.
fn answer(stream: &mut TcpStream) -> usize {
    let mut prefix = [0; PREFIX_LEN];
    stream.read_exact(&mut prefix).unwrap();
    let head = FrameHead::parse(&prefix).unwrap();
    let mut rest = vec![0; head.frame_len() - PREFIX_LEN];
    stream.read_exact(&mut rest).unwrap();
    let header = Command::decode(head.serialize, &rest[..head.header_len as usize]).unwrap();
    assert_eq!((header.code, header.opaque), (0, 9));
    head.body_len()
}

fn is_served(stream: &mut TcpStream) {
    stream.write_all(&request(SMALL, &[])).unwrap();
    assert_eq!(answer(stream), 0);
}

/// Whether the peer ends the connection, within the read's patience, without another byte.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

/// Serves `other` until `done`, so that every wait is also a proof that others are served.
fn serve_until(other: &mut TcpStream, what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        is_served(other);
    }
}

#[test]
fn a_peer_that_does_not_read_is_held_back_then_closed_while_others_are_served() {
    const HIGH: usize = 1 << 20;
    const ASKED: usize = 4_000;
    let stalled = Duration::from_secs(1);
    let running = run(Limits { output_high_bytes: HIGH, send_stalled: stalled, ..Limits::default() });
    let mut other = running.connect();
    is_served(&mut other);

    // 250 MiB of answers are asked for, and none is read.
    let mut slow = running.connect();
    let began = Instant::now();
    slow.write_all(&request(LARGE, &[]).repeat(ASKED)).unwrap();
    let seen = Arc::clone(&running.seen);
    serve_until(&mut other, "the slow reader was not closed", || seen.closed.load(Ordering::SeqCst) == 1);
    assert!(began.elapsed() >= stalled, "closed after {:?}", began.elapsed());

    let served = seen.requests.load(Ordering::SeqCst);
    assert!(served < ASKED / 2, "{served} requests of {ASKED} were served although no answer was read");
    let held = seen.output_max.load(Ordering::SeqCst);
    assert!(held >= HIGH, "{held} bytes of answers waited at most: the bound was never reached");
    // What is being sent, what waits behind it, and the answers that passed the bound.
    assert!(held <= 2 * (HIGH + 2 * ANSWER), "{held} bytes of answers waited");
    // What lies in the sockets' buffers can still be read, and then comes the end.
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < ASKED * ANSWER / 2, "{} bytes arrived", rest.len());
    is_served(&mut other);
    running.stop();
}

#[test]
fn a_slow_reader_that_reads_after_all_gets_everything() {
    const HIGH: usize = 256 * 1024;
    const ASKED: usize = 500;
    let running = run(Limits { output_high_bytes: HIGH, ..Limits::default() });
    let mut slow = running.connect();
    slow.write_all(&request(LARGE, &[]).repeat(ASKED)).unwrap();
    let mut other = running.connect();
    let seen = Arc::clone(&running.seen);
    serve_until(&mut other, "no answer waited", || seen.output_max.load(Ordering::SeqCst) >= HIGH);
    for _ in 0..ASKED {
        assert_eq!(answer(&mut slow), ANSWER);
    }
    is_served(&mut slow);
    assert_eq!(seen.requests.load(Ordering::SeqCst), ASKED);
    running.stop();
}

#[test]
fn what_is_no_frame_ends_its_connection_and_no_other() {
    let running = run(Limits::default());
    let mut other = running.connect();
    let header_longer_than_frame = [0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0];
    let unknown_codec = [0, 0, 0, 8, 7, 0, 0, 4, 0, 0, 0, 0];
    let mut no_json = request(SMALL, &[]);
    no_json[PREFIX_LEN] = b'!';
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        &[0xff; 64],
        &[0; 8],
        &header_longer_than_frame,
        &unknown_codec,
        &no_json,
    ];
    for (i, bytes) in garbage.iter().enumerate() {
        let mut peer = running.connect();
        is_served(&mut peer);
        peer.write_all(bytes).unwrap();
        assert!(is_closed(&mut peer), "case {i} stayed open");
        is_served(&mut other);
    }
    let seen = Arc::clone(&running.seen);
    serve_until(&mut other, "an end was not told", || seen.closed.load(Ordering::SeqCst) == garbage.len());
    is_served(&mut other);
    assert_eq!(seen.open.load(Ordering::SeqCst), 1);
    running.stop();
}

/// Lets this process hold that many descriptors, if its hard limit allows; usual soft limits are lower.
fn allow_descriptors(count: usize) {
    let pid = std::process::id().to_string();
    let raised =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={count}:")]).status().unwrap();
    assert!(raised.success(), "this test needs {count} open files: raise the hard limit (ulimit -Hn)");
}

#[test]
fn two_thousand_half_frames_leave_receive_buffers_for_the_others() {
    const CROWD: usize = 2_000;
    // Both ends of each connection are this process's.
    allow_descriptors(2 * CROWD + 1_000);
    let running = run(Limits::default());
    let mut other = running.connect();
    is_served(&mut other);
    let frame = request(SMALL, &[1; 1024]);
    let (half, rest) = frame.split_at(frame.len() / 2);
    let mut crowd: Vec<TcpStream> = (0..CROWD)
        .map(|_| {
            let mut peer = running.connect();
            peer.write_all(half).unwrap();
            peer
        })
        .collect();
    let seen = Arc::clone(&running.seen);
    serve_until(&mut other, "the crowd was not let in", || seen.open.load(Ordering::SeqCst) == CROWD + 1);
    // As much as all receive buffers of the shard together hold.
    let mut newcomer = running.connect();
    newcomer.write_all(&request(SMALL, &vec![1; 8 << 20])).unwrap();
    assert_eq!(answer(&mut newcomer), 0);
    is_served(&mut other);
    // Those who finish their frames are answered as if they had never paused.
    for peer in &mut crowd {
        peer.write_all(rest).unwrap();
    }
    for peer in &mut crowd {
        assert_eq!(answer(peer), 0);
    }
    drop(crowd);
    serve_until(&mut other, "the crowd did not leave", || seen.closed.load(Ordering::SeqCst) >= CROWD);
    running.stop();
}

#[test]
fn silence_ends_a_connection_and_talk_keeps_it() {
    let idle = Duration::from_secs(2);
    let running = run(Limits { idle, ..Limits::default() });
    let mut busy = running.connect();
    let (mut silent, mut half) = (running.connect(), running.connect());
    let began = Instant::now();
    is_served(&mut silent);
    half.write_all(&request(SMALL, &[])[..20]).unwrap();
    let seen = Arc::clone(&running.seen);
    serve_until(&mut busy, "the idle connections stayed open", || seen.closed.load(Ordering::SeqCst) == 2);
    assert!(began.elapsed() >= idle, "closed after {:?}", began.elapsed());
    assert!(is_closed(&mut silent) && is_closed(&mut half));
    is_served(&mut busy);
    running.stop();
}
