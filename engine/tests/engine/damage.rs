//! Damage to what was flushed is refused with its place; an unfinished tail is cut.

use ringmq_engine::{FlushPolicy, OpenError, QueueOffset, ReadError, ReadStatus, Shard, ShardOptions};
use ringmq_rt::sim::{CrashKind, Sim};

use super::support::{Message, all, append, close, open, small};

const SEGMENT: &str = "/store/commitlog/0/00000000000000000000";

/// A shard that never snapshots on its own, so that a start reads the whole log.
fn bare() -> ShardOptions {
    ShardOptions {
        snapshot_bytes: u64::MAX,
        snapshot_interval: std::time::Duration::from_secs(86_400),
        ..small(FlushPolicy::Sync)
    }
}

/// Twenty batches of one record.
async fn fill(shard: &Shard) -> Vec<u64> {
    let mut ends = Vec::new();
    for n in 0..20 {
        let ticket = append(shard, &Message::new("t", 0, vec![n; 1000])).await.unwrap();
        shard.flushed(ticket.end).await.unwrap();
        ends.push(ticket.position.offset());
    }
    ends
}

#[test]
fn a_flipped_byte_in_the_middle_is_refused_with_its_place() {
    for byte in [20, 500, 1100, 4095] {
        let sim = Sim::new(byte);
        let starts = sim.run(async {
            let (_store, shard) = open(bare()).await.unwrap();
            fill(&shard).await
        });
        sim.crash(CrashKind::ProcessKill);
        sim.disk().corrupt(SEGMENT, starts[7] + byte, 1).unwrap();
        sim.restart();
        sim.run(async {
            match open(bare()).await {
                Err(OpenError::Damaged { path, at, position, flushed, .. }) => {
                    assert_eq!((path.to_str().unwrap(), at, position.offset()), (SEGMENT, starts[7], starts[7]));
                    assert!(flushed > starts[7]);
                }
                other => panic!("byte {byte}: {other:?}"),
            }
        });
    }
}

#[test]
fn after_a_clean_stop_the_last_byte_counts_too() {
    let sim = Sim::new(1);
    let starts = sim.run(async {
        let (store, shard) = open(bare()).await.unwrap();
        let starts = fill(&shard).await;
        close(store, &shard).await;
        starts
    });
    sim.crash(CrashKind::ProcessKill);
    sim.disk().corrupt(SEGMENT, starts[19] + 100, 1).unwrap();
    sim.restart();
    sim.run(async {
        // The snapshot lies behind the damage: it is found by the reader.
        let (_store, shard) = open(bare()).await.unwrap();
        drop(shard);
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        ringmq_rt::fs::remove(std::path::Path::new("/store/index/0/snapshot")).await.unwrap();
        let opened = open(bare()).await;
        assert!(matches!(&opened, Err(OpenError::Damaged { at, .. }) if *at == starts[19]), "{opened:?}");
    });
}

#[test]
fn a_torn_last_batch_is_cut_and_the_log_goes_on_there() {
    let sim = Sim::new(2);
    let starts = sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        fill(&shard).await
    });
    sim.crash(CrashKind::ProcessKill);
    // Nothing says that the last batch was flushed: it is as if its write had not finished.
    sim.disk().corrupt(SEGMENT, starts[19] + 100, 1).unwrap();
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        assert_eq!(shard.recovery().cut_bytes, 4096);
        assert_eq!(all(&shard, "t", 0).await.len(), 19);
        let ticket = append(&shard, &Message::new("t", 0, vec![99; 10])).await.unwrap();
        assert_eq!((ticket.position.offset(), ticket.queue_offset.0), (starts[19], 19));
        shard.flushed(ticket.end).await.unwrap();
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        assert_eq!(all(&shard, "t", 0).await.len(), 20);
    });
}

#[test]
fn a_missing_segment_is_named() {
    let sim = Sim::new(3);
    sim.run(async {
        let (store, shard) = open(bare()).await.unwrap();
        for _ in 0..5 {
            fill(&shard).await;
        }
        close(store, &shard).await;
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let second = std::path::Path::new("/store/commitlog/0/00000000000000131072");
        ringmq_rt::fs::remove(second).await.unwrap();
        let opened = open(bare()).await;
        assert!(matches!(&opened, Err(OpenError::Gap { position, .. }) if position.offset() == 131_072), "{opened:?}");
    });
}

#[test]
fn a_damaged_index_block_is_noticed_and_rebuilt_by_the_next_start() {
    let sim = Sim::new(4);
    sim.run(async {
        let (store, shard) = open(bare()).await.unwrap();
        for n in 0..500 {
            append(&shard, &Message::new("t", 0, vec![n as u8; 100])).await.unwrap();
        }
        close(store, &shard).await;
    });
    sim.crash(CrashKind::ProcessKill);
    sim.disk().corrupt("/store/index/0/0000000000", 300, 1).unwrap();
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        let ask = super::support::request("t", 0, 0);
        let damaged = shard.read_cold(ask, &mut |_| true).await;
        assert!(matches!(damaged, Err(ReadError::IndexDamaged { block: 0, .. })), "{damaged:?}");
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        assert_eq!(all(&shard, "t", 0).await.len(), 500);
    });
}

#[test]
fn a_torn_snapshot_costs_only_time() {
    let sim = Sim::new(5);
    sim.run(async {
        let (store, shard) = open(bare()).await.unwrap();
        fill(&shard).await;
        close(store, &shard).await;
    });
    sim.crash(CrashKind::ProcessKill);
    sim.disk().corrupt("/store/index/0/snapshot", 60, 1).unwrap();
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        assert_eq!(shard.recovery().replayed_records, 20);
        assert_eq!(all(&shard, "t", 0).await.len(), 20);
    });
}

/// From a record's first byte to its queue offset.
const QUEUE_OFFSET: u64 = 20;

/// Damages the head of some of the messages of [`fill`], and gives the place of each.
fn damage_heads(sim: &Sim, of: &[usize], at: u64) -> Vec<u64> {
    let starts = sim.run(async {
        let (store, shard) = open(bare()).await.unwrap();
        let starts = fill(&shard).await;
        close(store, &shard).await;
        starts
    });
    sim.crash(CrashKind::ProcessKill);
    for n in of {
        sim.disk().corrupt(SEGMENT, starts[*n] + at, 1).unwrap();
    }
    sim.restart();
    starts
}

#[test]
fn what_stands_in_front_of_a_damaged_message_and_behind_it_is_read() {
    // The length is looked at before the record is whole in memory, the queue offset afterwards.
    for at in [0, QUEUE_OFFSET] {
        let sim = Sim::new(6);
        damage_heads(&sim, &[7], at);
        sim.run(async {
            let (_store, shard) = open(bare()).await.unwrap();
            let read = async |offset| shard.read_cold(super::support::request("t", 0, offset), &mut |_| true).await;
            let front = read(3).await.unwrap();
            assert_eq!((front.status, front.records.len(), front.next.0), (ReadStatus::Found, 4, 7));
            assert_eq!((front.min.0, front.max.0), (0, 20));
            let damaged = read(7).await;
            assert!(matches!(damaged, Err(ReadError::Damaged { .. })), "{damaged:?}");
            assert_eq!(read(8).await.unwrap().records.len(), 12);
        });
    }
}

#[test]
fn a_queue_with_damaged_messages_is_still_searched_by_time() {
    let sim = Sim::new(7);
    // The first two places that a search looks at, one of them with its neighbours.
    damage_heads(&sim, &[5, 9, 10, 11, 19], QUEUE_OFFSET);
    sim.run(async {
        let (_store, shard) = open(bare()).await.unwrap();
        let time = async |offset| shard.store_time("t", 0, QueueOffset(offset)).await.unwrap();
        assert_eq!((time(10).await, time(19).await), (None, None), "they do not tell, and nobody is refused");
        let found = async |time| shard.offset_by_time("t", 0, time).await.unwrap().unwrap().0;
        for offset in [0, 1, 4, 6, 8, 12, 13, 18] {
            let stored = time(offset).await.unwrap();
            // Several may be of one millisecond, and those that are damaged are as old as the next.
            let first = found(stored).await;
            assert!(first <= offset, "{first} for {offset}");
            for behind in first..offset {
                assert!(time(behind).await.is_none_or(|time| time == stored), "{behind} is older than {offset}");
            }
            if let Some(before) = first.checked_sub(1) {
                assert!(time(before).await.is_none_or(|time| time < stored), "{before} is as old as {offset}");
            }
        }
        let last = time(18).await.unwrap();
        assert!(found(last + 1).await >= 19);
    });
}
