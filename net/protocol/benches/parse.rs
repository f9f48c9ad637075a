//! What this crate costs per message: a frame's lengths checked, a Java V2 send header read and typed, a record written,
//! a reply written, a message's properties asked whether an SQL92 filter wants them.

#![expect(clippy::unwrap_used, reason = "the inputs are constants that parse")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_protocol::command::{HeaderView, ReplyHead};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_protocol::header::{Names, SendHeader};
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::message::{BODY_MAX_DEFAULT, Property, Record, RecordSpec};
use ringmq_protocol::properties::{CLUSTER, MSG_REGION, TRACE_ON};
use ringmq_protocol::sql::SqlFilter;

/// As the Java client 5.x writes it, some 500 bytes.
const HEADER: &str = concat!(
    r#"{"code":310,"extFields":{"a":"please_rename_unique_group_name","b":"TopicTest","c":"TBW102","d":"4","e":"3","#,
    r#""f":"0","g":"1700000000000","h":"0","i":"KEYS\u0001OrderID188\u0002UNIQ_KEY\u00017F00000142B218B4AAC28A5A4F2D0001"#,
    r#"\u0002CLUSTER\u0001DefaultCluster\u0002WAIT\u0001true\u0002TAGS\u0001TagA\u0002colour\u0001a pale shade of green","#,
    r#""j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":123456,"#,
    r#""serializeTypeCurrentRPC":"JSON","version":479}"#
);

fn frame(criterion: &mut Criterion) {
    let header_len = u32::try_from(HEADER.len()).unwrap();
    let mut first8 = [0; PREFIX_LEN];
    first8[..4].copy_from_slice(&(4 + header_len + 1024).to_be_bytes());
    first8[4..].copy_from_slice(&header_len.to_be_bytes());
    criterion.bench_function("frame head", |bencher| {
        bencher.iter(|| FrameHead::parse(black_box(&first8)).unwrap().body_start());
    });
}

fn header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    group.throughput(Throughput::Bytes(HEADER.len() as u64));
    group.bench_function("view", |bencher| {
        bencher.iter(|| HeaderView::parse(Serialize::Json, black_box(HEADER.as_bytes())).unwrap().opaque);
    });
    group.bench_function("view and send header", |bencher| {
        bencher.iter(|| {
            let view = HeaderView::parse(Serialize::Json, black_box(HEADER.as_bytes())).unwrap();
            SendHeader::parse(&view, Names::V2).unwrap()
        });
    });
    group.finish();
}

fn record(criterion: &mut Criterion) {
    let view = HeaderView::parse(Serialize::Json, HEADER.as_bytes()).unwrap();
    let header = SendHeader::parse(&view, Names::V2).unwrap();
    let bytes = HEADER.as_bytes();
    let host = Host::new([127, 0, 0, 1].into(), 10911);
    let properties = [
        Property::Encoded(header.properties.unwrap().get(bytes)),
        Property::Pair(MSG_REGION, "DefaultRegion"),
        Property::Pair(TRACE_ON, "true"),
        Property::Pair(CLUSTER, "DefaultCluster"),
    ];
    let body = [7; 1024];
    let parts = [&body[..300], &body[300..]];
    let spec = RecordSpec {
        topic: "TopicTest",
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body: &parts,
        body_max: BODY_MAX_DEFAULT,
        properties: &properties,
    };
    let mut out = vec![0; spec.encoded_len().unwrap()];
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(out.len() as u64));
    group.bench_function("write 1 KiB", |bencher| {
        bencher.iter(|| {
            let len = black_box(&spec).encoded_len().unwrap();
            spec.encode_into(&mut out[..len], 1, 2, 3).unwrap();
        });
    });
    group.bench_function("read 1 KiB", |bencher| {
        bencher.iter(|| Record::parse(black_box(&out)).unwrap().0.queue_offset());
    });
    group.finish();
}

fn reply(criterion: &mut Criterion) {
    let host = Host::new([127, 0, 0, 1].into(), 10911);
    let mut out = Vec::with_capacity(4096);
    criterion.bench_function("reply to a send", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut writer = ReplyHead { code: 0, opaque: black_box(123_456), remark: None }.begin(&mut out);
            writer.str("msgId", &offset_msg_id(host, 1 << 40)).i64("queueId", 3).i64("queueOffset", 1_000_000);
            writer.str("MSG_REGION", "DefaultRegion").bool("TRACE_ON", true);
            writer.finish(0).unwrap();
        });
    });
}

fn sql(criterion: &mut Criterion) {
    // As a stored message has them: the application's, the client's and the broker's.
    const PROPERTIES: &str = "region\u{1}hangzhou\u{2}price\u{1}42.5\u{2}count\u{1}17\u{2}KEYS\u{1}order-188\u{2}\
        MSG_REGION\u{1}DefaultRegion\u{2}UNIQ_KEY\u{1}7F00000142B218B4AAC28A5A4F2D0001\u{2}\
        CLUSTER\u{1}DefaultCluster\u{2}TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}TRACE_ON\u{1}true\u{2}";
    // No alternative but the last is true, so every one is looked at.
    let long = (0..19).map(|n| format!("(count > {} AND region = 'place-{n}') OR ", n % 17)).collect::<String>()
        + "NOT (price < 40.0)";
    let mut group = criterion.benchmark_group("sql");
    group.throughput(Throughput::Elements(1));
    for (name, expression) in [
        ("one string", "region = 'hangzhou'"),
        ("range", "count BETWEEN 10 AND 20"),
        ("four conditions", "region IN ('hangzhou', 'beijing') AND price > 40.0 AND count < 20 AND discount IS NULL"),
        ("twenty alternatives", &long),
    ] {
        let filter = SqlFilter::parse(expression).unwrap();
        assert!(filter.matches(PROPERTIES));
        group.bench_function(name, |bencher| bencher.iter(|| filter.matches(black_box(PROPERTIES))));
    }
    let expression = "region IN ('hangzhou', 'beijing') AND price > 40.0 AND count < 20 AND discount IS NULL";
    group.bench_function("read an expression", |bencher| {
        bencher.iter(|| SqlFilter::parse(black_box(expression)).unwrap().cost());
    });
    group.finish();
}

criterion_group!(benches, frame, header, record, reply, sql);
criterion_main!(benches);
