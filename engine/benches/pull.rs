//! What finding the messages of a pull costs on the shard's thread: queue entries, tag filter, and one slice of the log
//! buffer for each record, all from memory. Bodies of 1 KiB.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_engine::{
    Draft, Keys, QueueOffset, ReadPlan, ReadRequest, ReadStatus, Shard, ShardId, ShardOptions, Store, StoreOptions,
};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::{Property, RecordSpec};
use ringmq_rt::host::block_on;

const TOPIC: &str = "bench";
/// Messages in the queue: as many as its end keeps in memory, below one block of its index.
const MESSAGES: u64 = 128;
/// Tag hash of every second message.
const RED: i64 = 112_785;

async fn fill(shard: &Shard) {
    let host = Host::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10911);
    let body = vec![7_u8; 1024];
    let properties = [Property::Pair("UNIQ_KEY", "7F0000010000000000000000000000FF"), Property::Pair("TAGS", "red")];
    let mut end = 0;
    for number in 0..MESSAGES {
        let spec = RecordSpec {
            topic: TOPIC,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: 0,
            body: &[&body],
            body_max: 4 << 20,
            properties: &properties,
        };
        let tags_code = if number % 2 == 0 { RED } else { 0 };
        end = shard
            .append(&Draft { spec: &spec, tags_code, keys: Keys::default(), due_ms: None, promised: false }, 1)
            .unwrap()
            .end;
    }
    shard.confirmed(end).await.unwrap();
}

/// `count` pulls of `messages` each, one behind the other, of all messages or of those with the tag.
fn pulls(shard: &Shard, count: u64, messages: usize, tagged: bool) -> Duration {
    let start = Instant::now();
    let mut at = 0;
    for _ in 0..count {
        let request = ReadRequest {
            topic: TOPIC,
            queue_id: 0,
            offset: QueueOffset(at),
            max_messages: messages,
            max_bytes: 256 << 10,
        };
        let ReadPlan::Ready(batch) = shard.read(request, &mut |tag| !tagged || tag == RED).unwrap() else {
            panic!("a message has left the memory")
        };
        assert_eq!((batch.status, batch.records.len()), (ReadStatus::Found, messages));
        at = if batch.next.0 + 2 * messages as u64 > MESSAGES { 0 } else { batch.next.0 };
        black_box(batch);
    }
    start.elapsed()
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("pull from memory");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for (messages, tagged) in [(1, false), (32, false), (32, true)] {
        let name = if tagged { "every second message by tag" } else { "all messages" };
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(format!("{messages}, {name}"), |b| {
            b.iter_custom(|count| {
                let parent = std::env::var_os("RINGMQ_BENCH_DIR").unwrap_or_else(|| ".".into());
                let dir = tempfile::tempdir_in(parent).unwrap();
                let root = dir.path().to_path_buf();
                let run = block_on(move || async move {
                    let options = StoreOptions { shards: None, default_shards: 1 };
                    let store = Store::open(&root, options).await.unwrap();
                    let options = ShardOptions { disk_full_ratio: 1.0, ..ShardOptions::default() };
                    let shard = Shard::open(&root, ShardId::new(0).unwrap(), store.meta(), options).await.unwrap();
                    fill(&shard).await;
                    let elapsed = pulls(&shard, count, messages, tagged);
                    shard.close().await.unwrap();
                    elapsed
                });
                run.unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
