//! What a reader at the tail gets is the memory that the record was appended into, not a copy of it.

use std::path::Path;

use ringmq_engine::{FlushPolicy, ReadPlan, Shard, ShardOptions};
use ringmq_rt::Slice;
use ringmq_rt::host::block_on;
use ringmq_rt::sim::Sim;

use super::support::{Message, ROOT, append, close, open_at, request};

/// Bursts that are written one after the other, and the records of each.
const BURSTS: usize = 3;
const EACH: usize = 10;

/// From memory alone.
fn tail(shard: &Shard) -> Vec<Slice> {
    match shard.read(request("copies", 0, 0), &mut |_| true).unwrap() {
        ReadPlan::Ready(batch) => batch.records.into_vec(),
        ReadPlan::Cold => panic!("a tail read asks for the disk"),
    }
}

async fn tail_reads_share_the_log(root: &Path, flush: FlushPolicy) {
    let (store, shard) = open_at(root, ShardOptions { flush, ..ShardOptions::default() }).await.unwrap();
    let mut expect = Vec::new();
    let mut end = 0;
    for burst in 0..BURSTS {
        for n in 0..EACH {
            let message = Message::new("copies", 0, vec![(burst * EACH + n) as u8; 1024]);
            let ticket = message.append(&shard).unwrap();
            expect.push(message.bytes(&ticket));
            end = ticket.end;
        }
        shard.confirmed(end).await.unwrap();
    }
    let (first, second) = (tail(&shard), tail(&shard));
    assert_eq!(first.iter().map(|r| r.to_vec()).collect::<Vec<_>>(), expect);
    for (one, two) in first.iter().zip(&second) {
        assert_eq!((one.as_ptr(), one.len()), (two.as_ptr(), two.len()), "two reads of one record");
    }
    neighbours_join(&first);
    // What was read before is where it was, whatever is appended behind it.
    let ticket = append(&shard, &Message::new("copies", 0, vec![0xff; 1024])).await.unwrap();
    shard.flushed(ticket.end.max(end)).await.unwrap();
    let third = tail(&shard);
    assert!(third.iter().zip(&first).all(|(later, before)| later.as_ptr() == before.as_ptr()));
    assert_eq!(third.len(), first.len() + 1);
    drop((first, second, third));
    close(store, &shard).await;
}

/// Records of one burst lie back to back in one buffer, as they lie in the log: one piece of a gathered send. A seal lies
/// between bursts.
fn neighbours_join(records: &[Slice]) {
    let mut pieces: Vec<Slice> = Vec::new();
    for record in records {
        let joined = pieces.last_mut().is_some_and(|piece| piece.try_join(record));
        if !joined {
            pieces.push(record.clone());
        }
    }
    assert_eq!(pieces.len(), BURSTS, "pieces of {} records", records.len());
    for (piece, burst) in pieces.iter().zip(records.chunks(EACH)) {
        assert_eq!(piece.as_ptr(), burst[0].as_ptr());
        assert_eq!(**piece, *burst.iter().map(|record| &**record).collect::<Vec<_>>().concat());
    }
}

#[test]
fn tail_reads_are_slices_of_the_append_buffers() {
    for flush in [FlushPolicy::Sync, FlushPolicy::Async] {
        Sim::new(3).run(async { tail_reads_share_the_log(Path::new(ROOT), flush).await });
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        block_on(move || async move { tail_reads_share_the_log(&root, flush).await }).unwrap();
    }
}
