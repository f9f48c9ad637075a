//! Counts what a message costs in allocations on the broker's threads, over a real socket and a real log. It has to be its
//! own test binary, because the counting allocator is the whole program's.

#![expect(unsafe_code, reason = "a global allocator that counts can only be written with unsafe")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmq_engine::FlushPolicy;
use ringmq_protocol::command::Command;
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use support::{Client, bodies, number, run, settings};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Set on the threads of the test itself.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Counts the allocations of every thread but the test's own.
struct Counting;

impl Counting {
    fn count() {
        if !OWN.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system allocator unchanged; counting touches an atomic and a thread-local that needs
// neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the pointer came from `System` with this layout; the size is the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests on the wire before their answers are read.
const IN_FLIGHT: usize = 250;
const MESSAGES: usize = 20_000;
const BODY: usize = 1024;
const TOPIC: &str = "allocations";

fn send_frame(i: usize) -> Vec<u8> {
    let mut command = Command::request(310, i32::try_from(i).unwrap());
    let properties = format!("UNIQ_KEY\u{1}{i:032X}\u{2}WAIT\u{1}true\u{2}TAGS\u{1}red");
    let ext = [
        ("a", "producers"),
        ("b", TOPIC),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "0"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", properties.as_str()),
        ("j", "0"),
        ("k", "false"),
        ("m", "false"),
        ("n", "broker-a"),
    ];
    command.ext = ext.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut frame = Vec::new();
    command.encode_frame(Serialize::Json, &[7; BODY], &mut frame).unwrap();
    frame
}

fn pull_frame(offset: i64) -> Vec<u8> {
    let mut command = Command::request(11, 1);
    let ext = Client::pull_ext(TOPIC, 0, offset, 0, "*");
    command.ext = ext.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut frame = Vec::new();
    command.encode_frame(Serialize::Json, &[], &mut frame).unwrap();
    frame
}

/// Sends `rounds` times the same burst and reads its answers; every answer has to be a success.
fn exchange(client: &mut Client, burst: &[u8], answers: usize, rounds: usize) {
    let mut prefix = [0; PREFIX_LEN];
    let mut rest = vec![0; 1 << 20];
    for _ in 0..rounds {
        client.0.write_all(burst).unwrap();
        for _ in 0..answers {
            client.0.read_exact(&mut prefix).unwrap();
            let head = FrameHead::parse(&prefix).unwrap();
            let rest = &mut rest[..head.frame_len() - PREFIX_LEN];
            client.0.read_exact(rest).unwrap();
            assert!(rest.starts_with(b"{\"code\":0,"), "{}", String::from_utf8_lossy(rest));
        }
    }
}

fn counted(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Under ASYNC_FLUSH the last write may still be in flight when the answers are here.
fn wait_for_max(client: &mut Client, max: i64) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (answer, _) = client.call(30, &[("topic", TOPIC), ("queueId", "0")], &[]);
        let offset = number(&answer, "offset");
        assert!(offset <= max && Instant::now() < deadline, "{offset} of {max} messages can be read");
        if offset == max {
            return max;
        }
    }
}

#[test]
fn a_message_costs_no_allocation_on_its_way_in_and_hardly_one_on_its_way_out() {
    OWN.set(true);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let running = run(settings(dir.path(), 1, FlushPolicy::Async));
    let mut client = Client::new(running.addr);
    assert_eq!(client.publish(TOPIC, 0, "red", &[7; BODY]).code, 0);

    let burst: Vec<u8> = (0..IN_FLIGHT).flat_map(send_frame).collect();
    exchange(&mut client, &burst, IN_FLIGHT, MESSAGES / IN_FLIGHT / 2);
    let sends = counted(|| exchange(&mut client, &burst, IN_FLIGHT, MESSAGES / IN_FLIGHT));
    let each = sends as f64 / MESSAGES as f64;
    println!("{sends} allocations for {MESSAGES} sends of {BODY} bytes: {each:.4} each");

    let max = wait_for_max(&mut client, (1 + MESSAGES + MESSAGES / 2) as i64);
    // The newest messages, which lie in the log's buffers.
    let (found, records) = client.pull(TOPIC, 0, max - 32, 5000, "*");
    assert_eq!((found.code, records.len(), records[31].len()), (0, 32, BODY));
    const PULLS: usize = 16;
    let burst: Vec<u8> = (1..=PULLS as i64).flat_map(|back| pull_frame(max - 32 * back)).collect();
    exchange(&mut client, &burst, PULLS, 8);
    let rounds = MESSAGES.div_ceil(32 * PULLS);
    let pulls = counted(|| exchange(&mut client, &burst, PULLS, rounds));
    let pulled = rounds * PULLS * 32;
    let each_pulled = pulls as f64 / pulled as f64;
    println!("{pulls} allocations for {pulled} messages pulled by 32: {each_pulled:.4} each");
    let (_, last) = client.call(11, &[], &[]);
    assert_eq!(bodies(&last).len(), 0);
    running.stop();

    assert!(
        each < 0.05,
        "{sends} allocations of all threads but the client's for {MESSAGES} sends: {each:.4} a message"
    );
    assert!(
        each_pulled < 0.2,
        "{pulls} allocations of all threads but the client's for {pulled} messages pulled by 32: {each_pulled:.4} a message"
    );
}
