use super::*;
use crate::limits::BLOCK;

fn writer() -> Writer {
    Writer { shard: ShardId::new(1).unwrap(), epoch: Epoch(3), store: 77 }
}

fn log(end: u64, size: u64) -> Log {
    Log::new(writer(), end, Span { base: 0, end: size }, size, 0)
}

fn put(log: &mut Log, len: u64) -> Result<u64, NoRoom> {
    log.make_room(len, 0)?;
    Ok(log.append(len, 5, |out, offset| out.fill(offset as u8 | 1)).0)
}

#[test]
fn a_batch_is_everything_since_the_last_write_and_ends_with_its_seal() {
    let mut log = log(0, 1 << 20);
    assert_eq!((put(&mut log, 100), put(&mut log, 200)), (Ok(0), Ok(100)));
    let write = log.next_write(0).unwrap();
    assert_eq!((write.start, write.end, write.bytes, write.records, write.parts.len()), (0, BLOCK, BLOCK, 2, 1));
    let trailer = Trailer::decode(&write.parts[0]).unwrap();
    let crc = crc32c::crc32c(&write.parts[0][..to_usize(BLOCK) - seal::TRAILER]);
    assert_eq!((trailer.start, trailer.len, trailer.records, trailer.crc), (0, BLOCK as u32, 2, crc));
    assert!(log.next_write(0).is_none(), "nothing was appended since");
    assert_eq!(put(&mut log, 50), Ok(BLOCK), "the next batch begins on a fresh block");
}

#[test]
fn a_full_buffer_ends_its_batch_and_one_write_takes_several() {
    let mut log = log(0, 64 << 20);
    let mut records = 0;
    while log.end() < 3 * limits::BUFFER {
        put(&mut log, 10_000).unwrap();
        records += 1;
    }
    let write = log.next_write(0).unwrap();
    assert_eq!((write.records, write.parts.len()), (records, 4));
    assert!(write.parts.iter().all(|p| (p.len() as u64).is_multiple_of(BLOCK) && Trailer::decode(p).is_some()));
    assert_eq!(write.bytes, write.parts.iter().map(|p| p.len() as u64).sum::<u64>());
}

#[test]
fn a_write_is_bounded() {
    let mut log = log(0, 64 << 20);
    while log.end() < 3 * limits::WRITE_MAX {
        put(&mut log, 10_000).unwrap();
    }
    let mut at = 0;
    while let Some(write) = log.next_write(0) {
        assert_eq!(write.start, at);
        assert!(write.bytes <= limits::WRITE_MAX);
        at = write.end;
    }
    assert_eq!(at, log.end());
}

#[test]
fn a_segment_is_left_with_a_seal_that_says_so() {
    let size = 16 * BLOCK;
    let mut log = log(0, size);
    put(&mut log, 14 * BLOCK).unwrap();
    // Written before the log has to roll: then an empty batch says that it goes on elsewhere.
    log.next_write(0).unwrap();
    assert_eq!(put(&mut log, 2 * BLOCK), Err(NoRoom::Segment), "the next segment is not allocated");
    log.set_next(Span { base: size, end: 2 * size });
    assert_eq!(put(&mut log, 2 * BLOCK), Ok(size));
    let left = log.next_write(0).unwrap();
    assert_eq!((left.start, left.end, left.bytes, left.records), (15 * BLOCK, size, BLOCK, 0));
    assert!(Trailer::decode(&left.parts[0]).unwrap().roll);
    let next = log.next_write(0).unwrap();
    assert_eq!((next.start, next.records), (size, 1), "two segments are two writes");
}

#[test]
fn an_exactly_full_segment_needs_no_word() {
    let size = 16 * BLOCK;
    let mut log = log(0, size);
    put(&mut log, size - SEAL_MIN).unwrap();
    let first = log.next_write(0).unwrap();
    assert_eq!((first.end, Trailer::decode(&first.parts[0]).unwrap().roll), (size, false));
    log.set_next(Span { base: size, end: 2 * size });
    assert_eq!(put(&mut log, 10), Ok(size));
    assert_eq!(log.next_write(0).unwrap().start, size, "no empty batch comes before");
}

#[test]
fn what_fits_no_segment_is_refused() {
    let mut log = log(0, 16 * BLOCK);
    assert_eq!(put(&mut log, 16 * BLOCK), Err(NoRoom::TooLarge { max: 16 * BLOCK - SEAL_MIN }));
    assert_eq!(log.end(), 0);
}

#[test]
fn the_tail_cache_forgets_the_oldest_but_nothing_unwritten() {
    let mut log = log(0, 64 << 20);
    for _ in 0..4 {
        put(&mut log, 900_000).unwrap();
    }
    log.trim(0, 0);
    assert_eq!(log.buffered(), 4 * limits::BUFFER, "nothing is written");
    let first = log.slice(0, 900_000).unwrap();
    let write = log.next_write(0).unwrap();
    let end = write.end;
    drop(write);
    log.trim(2 * limits::BUFFER, end);
    assert_eq!(log.buffered(), 2 * limits::BUFFER);
    assert!(log.slice(0, 10).is_none());
    assert_eq!(first.len(), 900_000, "whoever holds a slice keeps it");
    assert!(log.slice(end - BLOCK, 10).is_some());
    assert!(log.slice(end - BLOCK, 2 * BLOCK).is_none(), "not beyond what is appended");
}
