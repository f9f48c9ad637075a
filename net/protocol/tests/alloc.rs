//! Counts allocations on the path of one send: parsing the frame, its header and typed header, writing the record and
//! the reply. It has to be its own test binary, because the counting allocator is the whole program's.

#![expect(unsafe_code, reason = "a global allocator that counts can only be written with unsafe")]
#![expect(clippy::unwrap_used, reason = "the steps of a send are shared by the tests; a failing one fails them")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use ringmq_protocol::command::{Command, HeaderView, ReplyHead};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_protocol::header::{Names, PullHeader, PullRequest, SendHeader, SendRequest, SendResponse};
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::message::{BODY_MAX_DEFAULT, Property, Record, RecordSpec};
use ringmq_protocol::names;
use ringmq_protocol::properties::{CLUSTER, MSG_REGION, TRACE_ON};
use ringmq_protocol::sql::SqlFilter;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; counting touches a thread-local that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the pointer came from `System.alloc` with this layout; the size is the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn send_frame(serialize: Serialize) -> Vec<u8> {
    let header = SendRequest {
        producer_group: "ProducerGroup".to_owned(),
        topic: "TopicTest".to_owned(),
        default_topic: "TBW102".to_owned(),
        default_topic_queue_nums: 4,
        born_timestamp: 1_700_000_000_000,
        properties: Some("UNIQ_KEY\u{1}7F00000100002A9F18B4AAC21234\u{2}WAIT\u{1}true\u{2}TAGS\u{1}TagA".to_owned()),
        ..SendRequest::default()
    };
    let mut command = Command::request(310, 7);
    header.encode_names(Names::V2, &mut command.ext);
    for extra in ["AccessKey", "Signature", "SecurityToken", "bname", "ns", "nsd"] {
        command.ext.push((extra.to_owned(), "value".to_owned()));
    }
    let mut frame = Vec::new();
    command.encode_frame(serialize, &[7; 1024], &mut frame).unwrap();
    frame
}

/// What a broker does with a send, as far as this crate goes.
fn receive(frame: &[u8], log: &mut [u8], reply: &mut Vec<u8>) -> usize {
    let head = FrameHead::parse(frame[..PREFIX_LEN].try_into().unwrap()).unwrap();
    let (header_bytes, body) = frame[PREFIX_LEN..].split_at(head.header_len as usize);
    let view = HeaderView::parse(head.serialize, header_bytes).unwrap();
    let header = SendHeader::parse(&view, Names::V2).unwrap();
    let topic = header.topic.get(header_bytes).as_plain().unwrap();
    names::check_topic(topic).unwrap();
    let host = Host::new([127, 0, 0, 1].into(), 10911);
    let properties = [
        Property::Encoded(header.properties.unwrap().get(header_bytes)),
        Property::Pair(MSG_REGION, "DefaultRegion"),
        Property::Pair(TRACE_ON, "true"),
        Property::Pair(CLUSTER, "DefaultCluster"),
    ];
    let (first, second) = body.split_at(100);
    let spec = RecordSpec {
        topic,
        queue_id: header.queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: host,
        store_host: host,
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        body: &[first, second],
        body_max: BODY_MAX_DEFAULT,
        properties: &properties,
    };
    let len = spec.encoded_len().unwrap();
    spec.encode_into(&mut log[..len], 1, 2, 3).unwrap();
    let mut writer = ReplyHead { code: 0, opaque: view.opaque, remark: None }.begin(reply);
    writer.str("msgId", &offset_msg_id(host, 2)).i64("queueId", 0).i64("queueOffset", 1).bool("TRACE_ON", true);
    writer.finish(0).unwrap();
    len
}

#[test]
fn a_send_allocates_nothing() {
    for serialize in [Serialize::Json, Serialize::RocketMq] {
        let frame = send_frame(serialize);
        let mut log = vec![0; 4096];
        let mut reply = Vec::with_capacity(4096);
        let mut len = 0;
        let count = allocations(|| len = receive(black_box(&frame), &mut log, &mut reply));
        assert_eq!(count, 0, "{serialize:?}");
        let (record, _) = Record::parse(&log[..len]).unwrap();
        assert_eq!((record.topic(), record.body().len(), record.property(TRACE_ON)), ("TopicTest", 1024, Some("true")));
        let response = Command::decode(Serialize::Json, &reply[PREFIX_LEN..]).unwrap();
        assert_eq!(response.ext("msgId").map(str::len), Some(32));
    }
}

#[test]
fn a_pull_header_and_a_typed_reply_allocate_nothing() {
    let mut command = Command::request(11, 8);
    let request = PullRequest { consumer_group: "CG".to_owned(), topic: "T".to_owned(), ..PullRequest::default() };
    request.encode(&mut command.ext);
    let mut header = Vec::new();
    command.encode(Serialize::Json, &mut header).unwrap();
    let mut reply = Vec::with_capacity(4096);
    let count = allocations(|| {
        let view = HeaderView::parse(Serialize::Json, black_box(&header)).unwrap();
        let pull = PullHeader::parse(&view, Names::V1).unwrap();
        assert!(pull.topic.get(&header).eq_str("T"));
        let mut writer = ReplyHead { code: 0, opaque: view.opaque, remark: Some("FOUND") }.begin(&mut reply);
        SendResponse { queue_offset: 9, ..SendResponse::default() }.encode(&mut writer);
        writer.finish(1 << 20).unwrap();
    });
    assert_eq!(count, 0);
}

#[test]
fn a_filter_is_asked_without_allocating() {
    let filter = SqlFilter::parse("a BETWEEN 1 AND 9 AND b IN ('x', 'y') AND c CONTAINS 'z' AND d > 0.5").unwrap();
    let count = allocations(|| {
        assert!(filter.matches(black_box("a\u{1}5\u{2}b\u{1}y\u{2}c\u{1}xyz\u{2}d\u{1}0x1p3\u{2}")));
        assert!(!filter.matches(black_box("a\u{1}no number\u{2}")));
    });
    assert_eq!(count, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Vec::<u8>::with_capacity(black_box(10))))), 1);
}
