//! Many queues must not mean many files, many small writes or much memory.

use ringmq_engine::{FlushPolicy, ShardOptions};
use ringmq_rt::sim::{CrashKind, Sim};

use super::support::{Message, all, append, open, small};

#[test]
fn ten_thousand_queues_share_a_few_files() {
    let sim = Sim::new(1);
    let disk = sim.disk();
    let options = ShardOptions {
        segment_size: 16 << 20,
        unwritten_max: 8 << 20,
        snapshot_bytes: u64::MAX,
        snapshot_interval: std::time::Duration::from_secs(86_400),
        ..small(FlushPolicy::Async)
    };
    sim.run(async {
        let (_store, shard) = open(options.clone()).await.unwrap();
        let mut end = 0;
        for round in 0..3_u8 {
            for queue in 0..10_000 {
                let topic = format!("topic-{}", queue / 16);
                end = append(&shard, &Message::new(&topic, queue % 16, vec![round; 20])).await.unwrap().end;
            }
        }
        shard.confirmed(end).await.unwrap();
        let stats = shard.stats();
        assert_eq!(stats.queues, 10_000);
        let each = stats.queue_bytes / stats.queues;
        assert!(each <= 512, "{each} bytes a queue with three messages");
        assert!(disk.files().len() <= 10, "{:?}", disk.files());
        shard.snapshot().await.unwrap();
        assert!(disk.files().len() <= 11, "{:?}", disk.files());
        // One queue in ten becomes busy: still at most a block in memory each.
        for _ in 0..250 {
            for queue in (0..10_000).step_by(100) {
                let topic = format!("topic-{}", queue / 16);
                end = append(&shard, &Message::new(&topic, queue % 16, vec![9; 20])).await.unwrap().end;
            }
        }
        shard.confirmed(end).await.unwrap();
        let stats = shard.stats();
        assert_eq!(stats.index_blocks, 100, "each of a hundred queues has filled one block");
        assert!(stats.queue_bytes / 10_000 <= 4096, "{} bytes a queue", stats.queue_bytes / 10_000);
        assert!(disk.files().len() <= 13, "{:?}", disk.files());
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(options).await.unwrap();
        assert_eq!(shard.stats().queues, 10_000);
        assert_eq!(all(&shard, "topic-0", 0).await.len(), 253);
        assert_eq!(all(&shard, "topic-0", 1).await.len(), 3);
    });
}

#[test]
fn a_busy_queue_keeps_at_most_a_block_in_memory() {
    Sim::new(2).run(async {
        let (_store, shard) = open(small(FlushPolicy::Async)).await.unwrap();
        let mut end = 0;
        for n in 0..5_000 {
            end = append(&shard, &Message::new("t", 0, vec![n as u8; 20])).await.unwrap().end;
        }
        shard.confirmed(end).await.unwrap();
        assert_eq!(all(&shard, "t", 0).await.len(), 5_000);
        assert!(shard.stats().queue_bytes <= 3 * 4096, "{}", shard.stats().queue_bytes);
        assert!(shard.stats().index_blocks >= 24);
    });
}

#[test]
fn a_long_log_is_not_replayed_into_memory() {
    let sim = Sim::new(3);
    let options = ShardOptions {
        snapshot_bytes: u64::MAX,
        snapshot_interval: std::time::Duration::from_secs(86_400),
        ..small(FlushPolicy::Async)
    };
    sim.run(async {
        let (_store, shard) = open(options.clone()).await.unwrap();
        let mut end = 0;
        for n in 0..20_000 {
            end = append(&shard, &Message::new("t", 0, vec![n as u8; 20])).await.unwrap().end;
        }
        shard.confirmed(end).await.unwrap();
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(options).await.unwrap();
        assert_eq!(shard.recovery().replayed_records, 20_000);
        let stats = shard.stats();
        assert!(stats.queue_bytes <= 8 << 10, "{} bytes", stats.queue_bytes);
        assert_eq!(stats.index_blocks, 100);
        assert!(stats.index_pending < 64, "{} blocks wait", stats.index_pending);
        assert_eq!(all(&shard, "t", 0).await.len(), 20_000);
    });
}

#[test]
fn a_large_snapshot_waits_for_more_log() {
    let options = ShardOptions {
        segment_size: 16 << 20,
        unwritten_max: 8 << 20,
        snapshot_bytes: 16 << 10,
        snapshot_interval: std::time::Duration::from_secs(86_400),
        ..small(FlushPolicy::Async)
    };
    Sim::new(4).run(async {
        let (_store, shard) = open(options).await.unwrap();
        let send = async |queue: i32| append(&shard, &Message::new("t", queue, vec![7; 1000])).await.unwrap().end;
        for queue in 0..2_000 {
            shard.confirmed(send(queue).await).await.unwrap();
        }
        shard.snapshot().await.unwrap();
        // At 53 bytes or more a queue the next is due after 3 MiB of log; a message of its own batch takes a block of 4 KiB.
        let before = shard.stats().counters.snapshots;
        assert!(before > 2, "{before} snapshots while it was small");
        for queue in 0..2_000 {
            shard.confirmed(send(queue).await).await.unwrap();
        }
        let more = shard.stats().counters.snapshots - before;
        assert!((1..=3).contains(&more), "{more} snapshots");
    });
}
