//! Dropping the oldest segments and using their files again: what goes, what stays, what a restart makes of it.

use std::path::Path;
use std::time::Duration;

use ringmq_engine::{FlushPolicy, OpenError, QueueOffset, ReadStatus, Shard, ShardOptions};
use ringmq_rt::sim::{Cache, CrashKind, Sim};

use super::support::{Message, all, append, close, open, open_at, read, request, small};

const SEGMENT: u64 = 64 << 10;

/// Small segments, snapshots only when asked for, files that go at once.
fn options(policy: FlushPolicy) -> ShardOptions {
    ShardOptions {
        segment_size: SEGMENT,
        snapshot_bytes: u64::MAX,
        snapshot_interval: Duration::from_secs(86_400),
        drop_interval: Duration::ZERO,
        ..small(policy)
    }
}

/// Appends messages of one size, each a batch of its own, until the log is `bytes` longer.
async fn fill(shard: &Shard, topic: &str, bytes: u64) {
    let to = shard.watermarks().appended.offset() + bytes;
    while shard.watermarks().appended.offset() < to {
        let ticket = append(shard, &Message::new(topic, 0, vec![7; 3000])).await.unwrap();
        shard.hurry_flush();
        shard.flushed(ticket.end).await.unwrap();
    }
}

/// Drops what lies in front of `offset` and waits until that is done.
async fn drop_to(shard: &Shard, offset: u64) -> u64 {
    let start = shard.drop_before(offset);
    shard.progress().until(|| (shard.start() == start).then_some(())).await;
    // The files go behind the decision.
    ringmq_rt::sleep(Duration::from_millis(50)).await;
    start
}

fn segment_files(sim: &Sim) -> Vec<String> {
    let names = sim.disk().files().into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name.len() == 20 || name.starts_with("spare")).collect()
}

#[test]
fn only_whole_flushed_segments_go_and_their_time_is_known() {
    let sim = Sim::new(1);
    sim.run(async {
        let (store, shard) = open(options(FlushPolicy::Sync)).await.unwrap();
        assert_eq!(shard.drop_before(u64::MAX), 0, "the segment that is written stays");
        fill(&shard, "t", 5 * SEGMENT).await;
        let before = shard.segments().await.unwrap();
        let end = shard.watermarks().appended.offset();
        assert!(
            before.windows(2).all(|pair| pair[0].end == pair[1].base && pair[0].last_store_ms <= pair[1].last_store_ms)
        );
        assert!(before.last().unwrap().end <= end && before.len() >= 4, "{before:?} of {end}");
        assert_eq!(drop_to(&shard, 2 * SEGMENT + 5).await, 2 * SEGMENT);
        assert_eq!(shard.segments().await.unwrap(), before[2..]);
        close(store, &shard).await;
        // An earlier run's times are found by the next segment's first record.
        let (_store, shard) = open(options(FlushPolicy::Sync)).await.unwrap();
        let again = shard.segments().await.unwrap();
        let known = before.iter().find(|segment| segment.base == again[0].base).unwrap();
        assert!(
            (known.last_store_ms..known.last_store_ms + 1000).contains(&again[0].last_store_ms),
            "{again:?} {known:?}"
        );
        let unflushed = append(&shard, &Message::new("t", 0, vec![1; 60_000])).await.unwrap();
        assert!(shard.drop_before(u64::MAX) <= shard.watermarks().flushed.offset());
        shard.flushed(unflushed.end).await.unwrap();
    });
}

#[test]
fn a_queue_begins_with_its_first_message_that_is_left() {
    let sim = Sim::new(2);
    sim.run(async {
        let (store, shard) = open(options(FlushPolicy::Async)).await.unwrap();
        // Small messages: a boundary lies within a block of the index.
        let mut places = Vec::new();
        for _ in 0..1500 {
            let ticket = append(&shard, &Message::new("t", 0, vec![1; 100])).await.unwrap();
            places.push(ticket.position.offset());
        }
        append(&shard, &Message::new("quiet", 3, vec![1; 10])).await.unwrap();
        fill(&shard, "filler", SEGMENT).await;
        let end = shard.watermarks().appended.offset();
        assert_eq!(shard.behind_origin("t", 0), Some(end - places[0]), "the first message is in a block of the index");
        let quiet = shard.behind_origin("quiet", 3).unwrap();
        assert!(quiet < end - places[1499], "it came behind all of them: {quiet}");
        assert_eq!(shard.behind_origin("unknown", 0), None);
        let mut last = 0;
        for cut in 1..=shard.watermarks().flushed.offset() / SEGMENT {
            let start = drop_to(&shard, cut * SEGMENT).await;
            let first = places.partition_point(|place| *place < start) as u64;
            let max = places.len() as u64;
            assert_eq!(
                shard.behind_origin("t", 0).is_some(),
                first == 0,
                "nobody needs to have looked for the first one"
            );
            let known = shard.min_offset("t", 0).0;
            assert!(known <= first && first - known < 200, "{known} is told of {first}");
            // A reader in front of it is told where to go on, one behind it reads.
            let small = read(&shard, request("t", 0, last)).await;
            if last < first {
                assert_eq!((small.status, small.next.0, small.min.0), (ReadStatus::OffsetTooSmall, first, first));
            }
            assert_eq!(shard.first_offset("t", 0).await.unwrap(), Some(QueueOffset(first)));
            assert_eq!(shard.bounds("t", 0), Some((QueueOffset(first), QueueOffset(max))));
            assert_eq!(all(&shard, "t", 0).await.len() as u64, max - first);
            let found = shard.offset_by_time("t", 0, 0).await.unwrap();
            assert_eq!(found, Some(QueueOffset(first)));
            last = first;
        }
        assert_eq!(last, 1500, "all of them are gone in the end");
        let end = read(&shard, request("t", 0, 1500)).await;
        assert_eq!((end.status, end.min.0, end.max.0), (ReadStatus::OffsetOverflowOne, 1500, 1500));
        assert_eq!(shard.bounds("quiet", 3), Some((QueueOffset(1), QueueOffset(1))));
        close(store, &shard).await;
    });
}

#[test]
fn a_queue_without_messages_keeps_its_next_offset() {
    for (seed, loses_snapshot) in [(3, false), (4, true)] {
        let sim = Sim::new(seed);
        sim.run(async {
            let (_store, shard) = open(options(FlushPolicy::Sync)).await.unwrap();
            for _ in 0..250 {
                append(&shard, &Message::new("gone", 1, vec![1; 10])).await.unwrap();
            }
            let end = append(&shard, &Message::new("deleted", 0, vec![1; 10])).await.unwrap().end;
            shard.flushed(end).await.unwrap();
            fill(&shard, "filler", 3 * SEGMENT).await;
            drop_to(&shard, u64::MAX).await;
            shard.delete_queues("deleted").unwrap();
            fill(&shard, "filler", SEGMENT / 2).await;
        });
        sim.crash(CrashKind::PowerCut(Cache::Random));
        sim.restart();
        sim.run(async {
            if loses_snapshot {
                ringmq_rt::fs::remove(Path::new("/store/index/0/snapshot")).await.unwrap();
            }
            let (_store, shard) = open(options(FlushPolicy::Sync)).await.unwrap();
            assert_eq!(shard.bounds("gone", 1), Some((QueueOffset(250), QueueOffset(250))));
            assert_eq!(shard.bounds("deleted", 0), None, "a deleted queue does not come back");
            let ticket = append(&shard, &Message::new("gone", 1, vec![2; 10])).await.unwrap();
            assert_eq!(ticket.queue_offset.0, 250);
            shard.flushed(ticket.end).await.unwrap();
            assert_eq!(all(&shard, "gone", 1).await.len(), 1);
        });
    }
}

#[test]
fn a_recycled_segment_is_not_written_full_of_zeros() {
    let written = |spare_segments| {
        let sim = Sim::new(5);
        let options = ShardOptions { spare_segments, zero_lead: 2 << 20, ..options(FlushPolicy::Async) };
        sim.run(async move {
            let (store, shard) = open(options).await.unwrap();
            for _ in 0..40 {
                fill(&shard, "t", SEGMENT).await;
                drop_to(&shard, u64::MAX).await;
            }
            let counters = shard.stats().counters;
            assert!(counters.dropped >= 35 && counters.made >= 38, "{counters:?}");
            assert_eq!(counters.recycled > 30, spare_segments > 0, "{counters:?}");
            assert!(shard.stats().spares <= spare_segments);
            close(store, &shard).await;
        });
        assert!(segment_files(&sim).len() <= 3 + spare_segments, "{:?}", segment_files(&sim));
        sim.disk().stats().bytes_written
    };
    let (removed, recycled) = (written(0), written(2));
    assert!(recycled * 3 < removed * 2, "{recycled} bytes written with spares, {removed} without");
}

/// The hardest case for recovery: every batch of the recycled segment has the same length as the one that lay in its place.
#[test]
fn old_batches_in_a_recycled_segment_are_neither_read_nor_taken_for_damage() {
    for seed in 10..30 {
        let sim = Sim::new(seed);
        let options = ShardOptions { zero_lead: 0, ..options(FlushPolicy::Sync) };
        let (sent, end) = sim.run(async {
            let (_store, shard) = open(options.clone()).await.unwrap();
            for _ in 0..6 {
                fill(&shard, "t", SEGMENT).await;
                drop_to(&shard, u64::MAX).await;
            }
            assert!(shard.stats().counters.recycled >= 3, "{:?}", shard.stats());
            fill(&shard, "t", 4096 * (seed % 5)).await;
            // One more is in flight when the power goes: torn over what lay there.
            let (max, end) = (shard.max_offset("t", 0).0, shard.watermarks().appended.offset());
            Message::new("t", 0, vec![8; 3000]).append(&shard).unwrap();
            ringmq_rt::sleep(Duration::from_micros(30)).await;
            (max, end)
        });
        sim.crash(CrashKind::PowerCut(Cache::Random));
        sim.restart();
        let reads = sim.disk().stats().reads;
        sim.run(async {
            let (_store, shard) = open(options.clone()).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let max = shard.max_offset("t", 0).0;
            assert!(max == sent || max == sent + 1, "seed {seed}: {max} messages, {sent} were flushed");
            let ends = shard.watermarks().appended.offset();
            assert_eq!(ends, end + (max - sent) * 4096, "seed {seed}: the log goes on behind old batches");
            assert!(shard.recovery().cut_bytes <= 4096, "seed {seed}: {:?}", shard.recovery());
            let first = shard.first_offset("t", 0).await.unwrap().unwrap().0;
            assert_eq!(all(&shard, "t", 0).await.len() as u64, max - first);
        });
        assert!(sim.disk().stats().reads - reads < 60, "a start reads no more than before");
    }
}

#[test]
fn a_crash_leaves_files_that_the_next_start_takes_away() {
    let sim = Sim::new(7);
    let slow = ShardOptions { drop_interval: Duration::from_secs(60), ..options(FlushPolicy::Sync) };
    sim.run(async {
        let (_store, shard) = open(slow.clone()).await.unwrap();
        fill(&shard, "t", 8 * SEGMENT).await;
        drop_to(&shard, 6 * SEGMENT).await;
    });
    assert!(segment_files(&sim).len() >= 8, "{:?}", segment_files(&sim));
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(slow.clone()).await.unwrap();
        assert_eq!((shard.start(), shard.stats().spares), (6 * SEGMENT, 2));
        let first = shard.first_offset("t", 0).await.unwrap().unwrap();
        assert_eq!(all(&shard, "t", 0).await.len() as u64, shard.max_offset("t", 0).0 - first.0);
    });
    assert!(segment_files(&sim).len() <= 6, "{:?}", segment_files(&sim));
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    // A segment that was not dropped is missed.
    sim.run(async {
        ringmq_rt::fs::remove(Path::new(&format!("/store/commitlog/0/{:020}", 6 * SEGMENT))).await.unwrap();
        let opened = open(slow.clone()).await;
        assert!(
            matches!(&opened, Err(OpenError::Gap { position, .. }) if position.offset() == 6 * SEGMENT),
            "{opened:?}"
        );
    });
}

#[test]
fn a_disk_that_is_nearly_full_gets_the_spares_back() {
    let sim = Sim::new(8);
    let disk = sim.disk();
    sim.run(async {
        let (_store, shard) = open(options(FlushPolicy::Sync)).await.unwrap();
        fill(&shard, "t", 6 * SEGMENT).await;
        drop_to(&shard, u64::MAX).await;
        assert_eq!(shard.stats().spares, 2);
        disk.set_capacity(Some(5 * SEGMENT));
        ringmq_rt::sleep(Duration::from_secs(3)).await;
        assert_eq!(shard.stats().spares, 0);
        disk.set_capacity(None);
    });
}

#[test]
fn readers_of_what_goes_end_well() {
    for seed in 40..50 {
        let sim = Sim::new(seed);
        let mut rng = sim.fork_rng();
        sim.run(async {
            let cold = ShardOptions { tail_cache_bytes: 0, cold_cache_bytes: 0, ..options(FlushPolicy::Async) };
            let (_store, shard) = open(cold).await.unwrap();
            let mut readers = Vec::new();
            for reader in 0..4 {
                let shard = shard.clone();
                let mut rng = rng.fork();
                readers.push(ringmq_rt::spawn("reader", async move {
                    let (mut at, mut told) = (0, 0);
                    while at < 4000 {
                        ringmq_rt::sleep(Duration::from_micros(rng.below(4000))).await;
                        let batch = read(&shard, request("t", 0, at)).await;
                        for record in &batch.records {
                            let offset = i64::from_be_bytes(record[20..28].try_into().unwrap());
                            assert_eq!(offset.cast_unsigned(), at, "reader {reader}");
                            at += 1;
                        }
                        if batch.status == ReadStatus::OffsetTooSmall {
                            assert!(batch.next.0 > at);
                            at = batch.next.0;
                            told += 1;
                        }
                    }
                    told
                }));
            }
            for n in 0..4000 {
                append(&shard, &Message::new("t", 0, vec![1; 200])).await.unwrap();
                if n % 100 == 0 {
                    shard.hurry_flush();
                    shard.drop_before(u64::MAX);
                    ringmq_rt::sleep(Duration::from_micros(rng.below(3000))).await;
                }
            }
            shard.hurry_flush();
            let mut told = 0;
            for reader in readers {
                told += reader.await;
            }
            assert!(told > 0, "seed {seed}: nobody was overtaken");
        });
    }
}

#[test]
fn the_real_disk_recycles_too() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    ringmq_rt::host::block_on(move || async move {
        let (store, shard) = open_at(&root, options(FlushPolicy::Sync)).await.unwrap();
        for _ in 0..6 {
            fill(&shard, "t", SEGMENT).await;
            drop_to(&shard, u64::MAX).await;
        }
        assert!(shard.stats().counters.recycled >= 3, "{:?}", shard.stats());
        close(store, &shard).await;
        let (store, shard) = open_at(&root, options(FlushPolicy::Sync)).await.unwrap();
        let first = shard.first_offset("t", 0).await.unwrap().unwrap().0;
        assert!(first > 0 && shard.stats().spares > 0, "{:?}", shard.stats());
        fill(&shard, "t", 3 * SEGMENT).await;
        assert_eq!(all(&shard, "t", 0).await.len() as u64, shard.max_offset("t", 0).0 - first);
        close(store, &shard).await;
    })
    .unwrap();
}
