use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::queue::Entry;

/// Decoding only gives way, so that polling on is all it needs.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

fn shard() -> ShardId {
    ShardId::new(5).unwrap()
}

fn sample() -> Vec<u8> {
    let mut encoder = Encoder::new(KIND, shard(), 99);
    encoder.u32(4);
    encoder.u64(4096);
    encoder.u64(12_345);
    encoder.count(1);
    encoder.u32(0);
    encoder.u64(4000);
    let mut queue = Queue::new("orders".into(), -7, 100, 50);
    queue.blocks = [Block::new(3, 1 << 40), Block::new(9, (1 << 40) + 7)].into();
    queue.push(&Entry { offset: 4000, size: 91, tags_code: -5 });
    put_queue(&mut encoder, &queue);
    put_queue(&mut encoder, &Queue::new("empty".into(), 0, 0, 0));
    encoder.u64(8192);
    encoder.u32(10);
    encoder.u32(2);
    put_vouched(&mut encoder, KEYS);
    put_vouched(&mut encoder, Vouched::default());
    encoder.finish()
}

const KEYS: Vouched = Vouched { next: 7, end: 4000, covered: 4096 };

#[test]
fn a_snapshot_reads_back() {
    let found = wait(decode(&sample(), shard(), 99)).unwrap();
    assert_eq!((found.epoch, found.replay, found.flushed), (Epoch(4), 4096, 8192));
    assert_eq!((found.index_next, found.store_ms, found.queues.len()), (10, 12_345, 2));
    let queue = found.queues.get(found.queues.find("orders", -7).unwrap()).unwrap();
    assert_eq!((queue.born, queue.base, queue.next()), (100, 50, 451));
    assert_eq!(queue.blocks, [Block::new(3, 1 << 40), Block::new(9, (1 << 40) + 7)]);
    assert_eq!(found.runs, Vouchers { keys: KEYS, timers: Vouched::default() });
    assert_eq!(found.index_files, [FileReach { number: 0, last: 4000 }]);
}

#[test]
fn no_damaged_or_foreign_snapshot_is_believed() {
    let good = sample();
    for len in 0..good.len() {
        assert!(wait(decode(&good[..len], shard(), 99)).is_err(), "{len} bytes");
    }
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        assert!(wait(decode(&bad, shard(), 99)).is_err(), "byte {byte}");
    }
    assert_eq!(wait(decode(&good, shard(), 98)).unwrap_err(), BadFile::Stranger);
    assert_eq!(wait(decode(&good, ShardId::new(6).unwrap(), 99)).unwrap_err(), BadFile::Stranger);
}

#[test]
fn lengths_that_lie_are_content_not_memory() {
    let mut encoder = Encoder::new(KIND, shard(), 99);
    encoder.u32(4);
    encoder.u64(0);
    encoder.u64(0);
    encoder.u32(0);
    encoder.u32(u32::MAX);
    encoder.u64(0);
    encoder.u32(0);
    encoder.u32(1);
    put_vouched(&mut encoder, KEYS);
    put_vouched(&mut encoder, KEYS);
    assert_eq!(wait(decode(&encoder.finish(), shard(), 99)).unwrap_err(), BadFile::Content);
}
