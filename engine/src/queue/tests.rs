use super::*;
use crate::index_log::IndexBlock;

fn entry(n: u64) -> Entry {
    Entry { offset: n * 100, size: 100, tags_code: -1 - n.cast_signed() }
}

#[test]
fn an_entry_reads_back() {
    let entry = Entry { offset: 1 << 55, size: u32::MAX, tags_code: i64::MIN };
    assert_eq!(Entry::decode(&entry.encode()), entry);
}

#[test]
fn only_confirmed_entries_are_visible_and_leave_for_the_index() {
    let mut queues = Queues::default();
    let mut index = IndexLog::new(40);
    let id = queues.find_or_create("t", 3, 0, 0);
    for n in 0..450 {
        queues.get_mut(id).unwrap().push(&entry(n));
    }
    let check = |queues: &mut Queues, index: &mut IndexLog, confirmed: u64, blocks: &[u32], visible: u64| {
        queues.confirm(&[id], confirmed, index);
        let queue = queues.get_mut(id).unwrap();
        assert_eq!(queue.visible(confirmed), visible);
        let numbers: Vec<u32> = queue.blocks.iter().map(|block| block.number).collect();
        assert_eq!((numbers.as_slice(), queue.next()), (blocks, 450));
    };
    check(&mut queues, &mut index, 19_999, &[], 199);
    check(&mut queues, &mut index, 20_000, &[40], 200);
    check(&mut queues, &mut index, 45_000, &[40, 41], 450);
    let queue = queues.get(id).unwrap();
    assert_eq!(queue.place(400), Place::Tail(entry(400)));
    assert_eq!(queue.place(399), Place::Block { block: 41, at: 199 });
    assert_eq!(queue.place(450), Place::Nowhere);
    assert_eq!(index.get(41).unwrap().entry(199), Some(entry(399)));
    assert!(index.get(42).is_none() && index.get(39).is_none());
}

#[test]
fn a_block_is_trusted_only_whole_and_where_it_belongs() {
    let mut index = IndexLog::new(0);
    let entries: Vec<_> = (0..BLOCK_ENTRIES as u64).map(|n| entry(n).encode()).collect();
    index.append(BlockHead::new("t", 1, 600), &entries).unwrap();
    let (_, parts) = index.next_write().unwrap();
    let check = |bytes: Vec<u8>, first| IndexBlock::check(bytes.into(), BlockHead::new("t", 1, first)).is_some();
    assert!(check(parts[0].to_vec(), 600));
    assert!(!check(parts[0].to_vec(), 800));
    assert!(!check(parts[0][..4000].to_vec(), 600));
    assert!(IndexBlock::check(parts[0].clone(), BlockHead::new("u", 1, 600)).is_none(), "another queue's");
    for byte in [0, 5, 17, 25, 90, 96, 4095] {
        let mut bad = parts[0].to_vec();
        bad[byte] ^= 1;
        assert!(!check(bad, 600), "byte {byte}");
    }
}

#[test]
fn a_full_index_keeps_the_entries_in_memory_until_there_is_room() {
    let mut queues = Queues::default();
    let mut index = IndexLog::new(0);
    let id = queues.find_or_create("t", 0, 0, 0);
    let count = (crate::limits::INDEX_PENDING_MAX as u64 + 3) * BLOCK_ENTRIES as u64;
    for n in 0..count {
        queues.get_mut(id).unwrap().push(&entry(n));
    }
    queues.confirm(&[id], u64::MAX, &mut index);
    assert_eq!(queues.get(id).unwrap().tail.len(), 3 * BLOCK_ENTRIES);
    index.wrote(10);
    queues.work_off(u64::MAX, &mut index);
    assert_eq!((queues.get(id).unwrap().tail.len(), queues.get(id).unwrap().next()), (0, count));
}

#[test]
fn a_deleted_topic_takes_its_older_queues_along_and_no_later_one() {
    let mut queues = Queues::default();
    let old = queues.find_or_create("t", 0, 100, 0);
    let other = queues.find_or_create("u", 0, 100, 0);
    queues.find_or_create("t", 1, 900, 0);
    assert_eq!(queues.remove_topic("t", 500), 1);
    assert_eq!((queues.find("t", 0), queues.find("u", 0)), (None, Some(other)));
    assert!(queues.find("t", 1).is_some() && queues.len() == 2);
    assert_eq!(queues.find_or_create("w", 0, 1000, 7), old, "the slot is used again");
    assert_eq!(queues.get(old).unwrap().next(), 7);
    assert_eq!(queues.remove_topic("nothing", 500), 0);
}

#[test]
fn a_queue_forgets_whole_blocks_by_what_it_knows_and_the_rest_by_one_look() {
    let mut queues = Queues::default();
    let mut index = IndexLog::new(0);
    let id = queues.find_or_create("t", 0, 0, 50);
    for n in 0..650 {
        queues.get_mut(id).unwrap().push(&entry(n));
    }
    queues.confirm(&[id], u64::MAX, &mut index);
    let content = index.get(1).unwrap();
    let queue = queues.get_mut(id).unwrap();
    let kept = |start| Kept { start, block: 0 };
    assert_eq!(queue.first(kept(0)), First::Known(50));
    assert_eq!(queue.first(kept(20_000)), First::Known(250), "a boundary between blocks needs no look");
    assert_eq!((queue.first(kept(25_050)), queue.min()), (First::In { block: 1, first: 250 }, 250));
    queue.learn(kept(25_050), 1, &content);
    assert_eq!((queue.first(kept(25_050)), queue.min()), (First::Known(301), 301));
    assert_eq!(queue.first(kept(25_060)), First::In { block: 1, first: 250 }, "another start, another look");
    queue.learn(kept(39_950), 1, &content);
    assert_eq!((queue.first(kept(39_950)), queue.blocks.len()), (First::Known(450), 1));
    assert_eq!(queue.first(kept(60_001)), First::Known(651), "only the tail is left");
    assert_eq!(queue.place(651), Place::Tail(entry(601)));
    assert!(queue.outlives(60_100, 60_200) && !queue.outlives(60_100, 60_199) && !queue.outlives(65_000, u64::MAX));
    assert_eq!((queue.first(kept(65_000)), queue.next()), (First::Known(700), 700));
}

#[test]
fn where_a_queue_would_begin_is_told_without_forgetting_anything() {
    let mut queues = Queues::default();
    let mut index = IndexLog::new(0);
    let id = queues.find_or_create("t", 0, 0, 50);
    let check = |queues: &Queues, expected: &[(u64, First)]| {
        for (start, first) in expected {
            assert_eq!(queues.get(id).unwrap().first_from(*start), *first, "from {start} on");
        }
    };
    for n in 0..450 {
        queues.get_mut(id).unwrap().push(&entry(n));
    }
    check(&queues, &[(0, First::Known(50)), (1, First::Known(51)), (44_900, First::Known(499))]);
    queues.confirm(&[id], u64::MAX, &mut index);
    let within = |block: u32| First::In { block, first: 50 + 200 * u64::from(block) };
    check(&queues, &[(0, First::Known(50)), (1, within(0)), (20_000, within(0)), (20_001, within(1))]);
    check(&queues, &[(40_000, within(1)), (40_001, First::Known(451)), (44_900, First::Known(499))]);
    check(&queues, &[(90_000, First::Known(500)), (0, First::Known(50))]);
}

#[test]
fn a_block_in_front_of_the_index_is_gone_without_a_look() {
    let mut queues = Queues::default();
    let mut index = IndexLog::new(7);
    let id = queues.find_or_create("t", 0, 0, 0);
    for n in 0..200 {
        queues.get_mut(id).unwrap().push(&entry(n));
    }
    queues.confirm(&[id], u64::MAX, &mut index);
    let queue = queues.get_mut(id).unwrap();
    assert_eq!(queue.first(Kept { start: 30_000, block: 7 }), First::In { block: 7, first: 0 });
    assert_eq!(queue.first(Kept { start: 30_000, block: 8 }), First::Known(200));
}

#[test]
fn a_file_of_the_index_is_needed_until_the_log_starts_behind_all_of_it() {
    use crate::index_log::FileReach;
    use crate::limits::INDEX_FILE_BLOCKS;
    let mut index = IndexLog::new(0);
    let entries = |n: u64| (0..BLOCK_ENTRIES as u64).map(|e| entry(n * 200 + e).encode()).collect::<Vec<_>>();
    for n in 0..=u64::from(INDEX_FILE_BLOCKS) {
        index.append(BlockHead::new("t", 0, n * 200), &entries(n)).unwrap();
        index.wrote(1);
    }
    let last = index.files()[0].last;
    assert_eq!(last, (u64::from(INDEX_FILE_BLOCKS) * 200 - 1) * 100);
    assert_eq!((index.needed_from(last), index.needed_from(last + 1)), (0, INDEX_FILE_BLOCKS));
    assert_eq!(index.needed_from(u64::MAX), INDEX_FILE_BLOCKS, "never the file that is written");
    index.forget_before(INDEX_FILE_BLOCKS);
    assert_eq!((index.first(), index.files().len()), (INDEX_FILE_BLOCKS, 1));
    // A start knows of the last files only that they reach no further than what was flushed.
    let files = [FileReach { number: 1, last: 5 }];
    let resumed = IndexLog::resume(INDEX_FILE_BLOCKS, 3 * INDEX_FILE_BLOCKS, &files, 900);
    let reach = |number| FileReach { number, last: 900 };
    assert_eq!(resumed.files(), &[reach(1), reach(2)]);
    assert_eq!(resumed.needed_from(901), 3 * INDEX_FILE_BLOCKS);
}
