//! What an append costs on the shard's thread: encode into the log buffer, checksum, queue entry, and the seal and the
//! write of its batch, on the real backend under ASYNC_FLUSH with 1 KiB bodies; with the key index and without.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq_engine::{AppendError, Draft, Keys, Shard, ShardId, ShardOptions, Store, StoreOptions};
use ringmq_protocol::host::Host;
use ringmq_protocol::message::{Property, RecordSpec};
use ringmq_rt::host::block_on;

const BODY: usize = 1024;
/// Appends between two looks at the watermarks, as a broker makes in one turn.
const TURN: u64 = 64;

/// Appends `count` messages to eight queues; the time that it took, waits for the disk included.
async fn append(shard: &Shard, count: u64, business: Option<&str>) -> Duration {
    let host = Host::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10911);
    let body = vec![7_u8; BODY];
    let properties = [Property::Pair("UNIQ_KEY", "7F0000010000000000000000000000FF"), Property::Pair("TAGS", "red")];
    let keys = Keys { unique: Some("7F0000010000000000000000000000FF"), business };
    let start = Instant::now();
    let mut done = 0;
    while done < count {
        let spec = RecordSpec {
            topic: "bench",
            queue_id: i32::try_from(done % 8).unwrap_or(0),
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
        match shard.append(&Draft { spec: &spec, tags_code: 112_785, keys, due_ms: None, promised: false }, 1) {
            Ok(_) => done += 1,
            Err(AppendError::Busy { .. }) => {
                let written = shard.watermarks().written;
                shard.progress().until(|| (shard.watermarks().written > written).then_some(())).await;
            }
            Err(e) => panic!("{e}"),
        }
        if done.is_multiple_of(TURN) {
            ringmq_rt::yield_now().await;
        }
    }
    start.elapsed()
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(2));
    for (name, key_index, business) in [
        ("1 KiB, ASYNC_FLUSH", true, None),
        ("1 KiB, ASYNC_FLUSH, two more keys", true, Some("order-0000000188 buyer-0000000042")),
        ("1 KiB, ASYNC_FLUSH, no key index", false, None),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let base = std::env::var_os("RINGMQ_BENCH_DIR").unwrap_or_else(|| ".".into());
                let dir = tempfile::tempdir_in(base).unwrap();
                let root = dir.path().to_path_buf();
                let run = block_on(move || async move {
                    let options = StoreOptions { shards: None, default_shards: 1 };
                    let store = Store::open(&root, options).await.unwrap();
                    let first = ShardId::new(0).unwrap();
                    let options = ShardOptions { disk_full_ratio: 1.0, key_index, ..ShardOptions::default() };
                    let shard = Shard::open(&root, first, store.meta(), options).await.unwrap();
                    let elapsed = append(&shard, count, business).await;
                    shard.close().await.unwrap();
                    elapsed
                });
                run.unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
