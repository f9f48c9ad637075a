//! A device that says no: errors end the shard's service, a full disk only pauses it.

use std::path::PathBuf;
use std::time::Duration;

use ringmq_engine::{AppendError, FlushPolicy, QueueOffset, ReadError, ShardOptions};
use ringmq_rt::sim::{CrashKind, Failure, Fault, Request, Sim};

use super::support::{Message, all, append, close, open, small};

fn log_fault(request: Request) -> Fault {
    Fault { request, failure: Failure::Once, path: Some(PathBuf::from("/store/commitlog")), skip: 0 }
}

#[test]
fn one_failed_write_or_flush_ends_the_service_for_good() {
    for (policy, request) in [
        (FlushPolicy::Sync, Request::Write),
        (FlushPolicy::Sync, Request::Sync),
        (FlushPolicy::Async, Request::Write),
        (FlushPolicy::Async, Request::Sync),
    ] {
        let sim = Sim::new(1);
        let disk = sim.disk();
        let options = ShardOptions { zero_lead: 0, ..small(policy) };
        let safe = sim.run(async {
            let (_store, shard) = open(options.clone()).await.unwrap();
            let ticket = append(&shard, &Message::new("t", 0, vec![1; 100])).await.unwrap();
            shard.hurry_flush();
            shard.flushed(ticket.end).await.unwrap();
            disk.inject(log_fault(request));
            let doomed = Message::new("t", 0, vec![2; 100]).append(&shard).unwrap();
            shard.hurry_flush();
            let lost = shard.flushed(doomed.end).await.unwrap_err();
            assert!(lost.position.offset() >= ticket.end, "{lost}");
            // The device is fine again, the shard is not.
            let refused = Message::new("t", 0, vec![3; 100]).append(&shard);
            assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
            assert!(shard.poisoned().is_some());
            assert!(shard.close().await.is_err());
            ticket
        });
        sim.crash(CrashKind::ProcessKill);
        sim.restart();
        sim.run(async {
            let (_store, shard) = open(options).await.unwrap();
            let there = all(&shard, "t", 0).await;
            assert_eq!(there[0], Message::new("t", 0, vec![1; 100]).bytes(&safe), "{policy:?} {request:?}");
            let ticket = append(&shard, &Message::new("t", 0, vec![4; 100])).await.unwrap();
            assert_eq!(ticket.queue_offset.0, there.len() as u64);
            shard.confirmed(ticket.end).await.unwrap();
        });
    }
}

#[test]
fn a_full_disk_refuses_serves_reads_and_recovers_by_itself() {
    let sim = Sim::new(2);
    let disk = sim.disk();
    sim.run(async {
        let options = ShardOptions { disk_full_ratio: 1.0, ..small(FlushPolicy::Sync) };
        let (_store, shard) = open(options).await.unwrap();
        disk.set_capacity(Some(500 << 10));
        let mut stored = 0;
        let refused = loop {
            match Message::new("t", 0, vec![1; 2000]).append(&shard) {
                Ok(_) => stored += 1,
                Err(AppendError::Busy { .. }) => ringmq_rt::sleep(Duration::from_millis(1)).await,
                Err(e) => break e,
            }
            assert!(stored < 1000, "the disk holds no more than 250 of them");
        };
        assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused:?}");
        assert!(shard.is_disk_full());
        let end = shard.watermarks().appended.offset();
        shard.flushed(end).await.unwrap();
        assert_eq!(all(&shard, "t", 0).await.len(), stored, "what was taken is stored, and is read");
        disk.set_capacity(None);
        ringmq_rt::sleep(Duration::from_secs(3)).await;
        let ticket = append(&shard, &Message::new("t", 0, vec![1; 2000])).await.unwrap();
        shard.flushed(ticket.end).await.unwrap();
        assert!(!shard.is_disk_full() && shard.poisoned().is_none());
    });
}

#[test]
fn sends_are_refused_above_the_ratio_and_taken_below() {
    let sim = Sim::new(3);
    let disk = sim.disk();
    sim.run(async {
        let (_store, shard) = open(small(FlushPolicy::Async)).await.unwrap();
        disk.set_capacity(Some(136 << 10));
        ringmq_rt::sleep(Duration::from_secs(2)).await;
        let refused = Message::new("t", 0, vec![1; 10]).append(&shard);
        assert!(matches!(refused, Err(AppendError::DiskFull { used_percent }) if used_percent >= 90), "{refused:?}");
        disk.set_capacity(Some(1 << 30));
        ringmq_rt::sleep(Duration::from_secs(2)).await;
        Message::new("t", 0, vec![1; 10]).append(&shard).unwrap();
    });
}

#[test]
fn a_slow_disk_makes_the_shard_busy_and_not_large() {
    let sim = Sim::new(4);
    let disk = sim.disk();
    sim.run(async {
        let options = ShardOptions { segment_size: 1 << 20, ..small(FlushPolicy::Async) };
        let (_store, shard) = open(options).await.unwrap();
        disk.stall(Duration::from_secs(10));
        let mut taken = 0;
        let busy = loop {
            match Message::new("t", 0, vec![1; 2000]).append(&shard) {
                Ok(ticket) => taken = ticket.end,
                Err(e) => break e,
            }
        };
        assert!(matches!(busy, AppendError::Busy { unwritten } if unwritten <= 256 << 10), "{busy:?}");
        shard.confirmed(taken).await.unwrap();
        Message::new("t", 0, vec![1; 2000]).append(&shard).unwrap();
    });
}

#[test]
fn a_block_that_is_not_read_whole_takes_no_other_record_along() {
    let sim = Sim::new(3);
    let disk = sim.disk();
    sim.run(async {
        let (store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        for n in 0..250 {
            append(&shard, &Message::new("t", 0, vec![n; 1000])).await.unwrap();
        }
        close(store, &shard).await;
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        disk.inject(log_fault(Request::Read));
        let (all, faults) = (all(&shard, "t", 0).await, disk.stats().faults);
        assert_eq!((all.len(), faults), (250, 1));
    });
}

#[test]
fn a_record_that_is_not_read_is_found_by_its_queue_all_the_same() {
    let sim = Sim::new(4);
    let disk = sim.disk();
    sim.run(async {
        let (store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        let ticket = append(&shard, &Message::new("t", 0, vec![1; 100])).await.unwrap();
        close(store, &shard).await;
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        disk.inject(Fault { failure: Failure::Sticky, ..log_fault(Request::Read) });
        let read = shard.record_at(ticket.position).await;
        assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
        assert_eq!(shard.position_of("t", 0, QueueOffset(0)).await.unwrap(), Some(ticket.position));
        assert_eq!(shard.position_of("t", 0, QueueOffset(1)).await.unwrap(), None);
    });
}
