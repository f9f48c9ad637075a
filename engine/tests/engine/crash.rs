//! Crashes at random moments: what was reported safe is there, byte for byte and in order; nothing is invented; what a
//! reader saw stays.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{AppendError, FlushPolicy, ReadStatus, Shard, ShardOptions};
use ringmq_rt::sim::{Cache, CrashKind, Ended, Rng, Sim};

use super::support::{Message, all, open, read, request, small};

/// One appended record.
#[derive(Debug, Clone)]
struct Sent {
    position: u64,
    end: u64,
    /// Records with the same number came in one batch.
    batch: u64,
    bytes: Vec<u8>,
}

type Key = (String, i32);

/// What the test knows, outside the world that crashes.
#[derive(Debug, Default)]
struct History {
    queues: BTreeMap<Key, Vec<Sent>>,
    seen: BTreeMap<(Key, u64), Vec<u8>>,
    written: u64,
    flushed: u64,
    batches: u64,
    /// Where the log started last.
    start: u64,
    /// Segments that were another one before.
    recycled: u64,
}

type Shared = Rc<RefCell<History>>;

fn key(rng: &mut Rng) -> Key {
    (format!("topic-{}", rng.below(2)), i32::try_from(rng.below(3)).unwrap())
}

fn message(rng: &mut Rng, key: &Key) -> Message {
    let size = if rng.below(60) == 0 { rng.below(30_000) } else { rng.below(500) };
    let fill = rng.below(256) as u8;
    Message::new(&key.0, key.1, vec![fill; usize::try_from(size).unwrap()])
}

fn note_marks(shard: &Shard, history: &Shared) {
    let marks = shard.watermarks();
    let mut history = history.borrow_mut();
    history.written = history.written.max(marks.written.offset());
    history.flushed = history.flushed.max(marks.flushed.offset());
    history.start = history.start.max(shard.start());
}

async fn send(shard: &Shard, history: &Shared, rng: &mut Rng) {
    let key = key(rng);
    let messages: Vec<_> = (0..=rng.below(4)).map(|_| message(rng, &key)).collect();
    let mut tickets = Vec::new();
    let result = if messages.len() == 1 {
        messages[0].append(shard).map(|ticket| tickets.push(ticket))
    } else {
        batch(shard, &messages, &mut tickets)
    };
    match result {
        Ok(()) => (),
        Err(AppendError::Busy { .. } | AppendError::TooLarge { .. }) => return,
        Err(e) => panic!("{e}"),
    }
    let mut history = history.borrow_mut();
    history.batches += 1;
    let batch = history.batches;
    let queue = history.queues.entry(key).or_default();
    for (message, ticket) in messages.iter().zip(&tickets) {
        assert_eq!(ticket.queue_offset.0, queue.len() as u64, "an offset was left out or given out again");
        let position = ticket.position.offset();
        queue.push(Sent { position, end: ticket.end, batch, bytes: message.bytes(ticket) });
    }
}

fn batch(shard: &Shard, messages: &[Message], tickets: &mut Vec<ringmq_engine::Ticket>) -> Result<(), AppendError> {
    fn gather<'a>(
        rest: &[Message],
        drafts: &mut Vec<ringmq_engine::Draft<'a>>,
        shard: &Shard,
        tickets: &mut Vec<ringmq_engine::Ticket>,
    ) -> Result<(), AppendError> {
        match rest.split_first() {
            None => shard.append_batch(drafts, ringmq_rt::wall_ms(), tickets),
            Some((first, rest)) => first.with(|draft| {
                let mut all: Vec<ringmq_engine::Draft<'_>> = drafts.clone();
                all.push(draft);
                gather(rest, &mut all, shard, tickets)
            }),
        }
    }
    gather(messages, &mut Vec::new(), shard, tickets)
}

/// Sends, reads and waits until the crash; drops old segments too if that is wanted.
async fn work(options: ShardOptions, history: Shared, mut rng: Rng, drops: bool) {
    let (_store, shard) = open(options).await.unwrap();
    // What a recovery shows is safe from then on.
    note_marks(&shard, &history);
    let watcher = (shard.clone(), Rc::clone(&history));
    ringmq_rt::spawn("watch", async move {
        let (shard, history) = watcher;
        let mut last = (0, 0);
        loop {
            note_marks(&shard, &history);
            let marks = || {
                let marks = shard.watermarks();
                (marks.written.offset(), marks.flushed.offset())
            };
            last = shard.progress().until(|| Some(marks()).filter(|now| *now != last)).await;
        }
    })
    .detach();
    let recycled = history.borrow().recycled;
    loop {
        history.borrow_mut().recycled = recycled + shard.stats().counters.recycled;
        for _ in 0..rng.below(8) {
            send(&shard, &history, &mut rng).await;
        }
        if rng.below(2) == 0 {
            look(&shard, &history, &mut rng).await;
        }
        if drops && rng.below(20) == 0 {
            let (start, end) = (shard.start(), shard.watermarks().appended.offset());
            let to = shard.drop_before(start + rng.below(end - start + 1));
            assert!(to <= shard.watermarks().flushed.offset(), "something is dropped that is not flushed");
        }
        ringmq_rt::sleep(Duration::from_micros(rng.below(600))).await;
    }
}

/// Reads somewhere, and remembers what was seen.
async fn look(shard: &Shard, history: &Shared, rng: &mut Rng) {
    let key = key(rng);
    let (min, max) = shard.bounds(&key.0, key.1).map_or((0, 0), |(min, max)| (min.0, max.0));
    let from = min + rng.below(max - min + 1);
    let batch = read(shard, request(&key.0, key.1, from)).await;
    assert!(batch.status != ReadStatus::OffsetTooSmall || batch.min.0 > from, "{batch:?} at {from}");
    let mut history = history.borrow_mut();
    for (offset, record) in (from..).zip(&batch.records) {
        let sent = &history.queues[&key][usize::try_from(offset).unwrap()].bytes;
        assert!(sent == &record.to_vec(), "a reader was given something else than was sent");
        history.seen.insert((key.clone(), offset), record.to_vec());
    }
}

/// Compares what is there with what must be, and forgets what is rightly gone.
async fn check(shard: &Shard, history: &Shared, safe: u64, keeps_seen: bool) {
    let shared = history;
    let mut history = std::mem::take(&mut *shared.borrow_mut());
    let seen = std::mem::take(&mut history.seen);
    let mut partial: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
    let start = shard.start();
    assert!(start >= history.start, "dropped messages are back: the log starts at {start} again");
    for (key, sent) in &mut history.queues {
        let first = shard.first_offset(&key.0, key.1).await.unwrap().map_or(0, |first| first.0);
        let there = all(shard, &key.0, key.1).await;
        let max = shard.max_offset(&key.0, key.1).0;
        assert_eq!(max, first + there.len() as u64, "{key:?} has a hole");
        assert!(max <= sent.len() as u64, "{key:?} ends at {max}, {} were sent", sent.len());
        for (offset, sent) in (0_u64..).zip(sent.iter_mut()) {
            let dropped = sent.position < start;
            if let Some(found) = offset.checked_sub(first).and_then(|at| there.get(usize::try_from(at).unwrap())) {
                assert!(!dropped, "{key:?} {offset} at {} is still there, the log starts at {start}", sent.position);
                assert!(*found == sent.bytes, "{key:?} {offset} is not what was sent");
            } else {
                assert!(dropped || sent.end > safe, "{key:?} {offset}, safe since {}, is gone", sent.end);
                // An offset that is not given out again, although its message was never safe.
                sent.position = if offset < first { 0 } else { sent.position };
            }
            if !dropped {
                partial.entry(sent.batch).or_default().push(offset >= first && offset < max);
            }
        }
        sent.truncate(usize::try_from(max).unwrap());
    }
    for (batch, there) in partial {
        assert!(there.iter().all(|t| *t == there[0]), "half of batch {batch} is there");
    }
    for ((key, offset), bytes) in seen {
        let now = history.queues[&key].get(usize::try_from(offset).unwrap());
        match now {
            Some(now) => assert!(now.bytes == bytes, "{key:?} {offset} was seen with another content"),
            None => assert!(!keeps_seen, "{key:?} {offset} was seen and is gone"),
        }
        if keeps_seen {
            history.seen.insert((key, offset), bytes);
        }
    }
    *shared.borrow_mut() = history;
}

/// Four crashes; says how many segments were recycled before them.
fn crash_and_check(seed: u64, policy: FlushPolicy, drops: bool) -> u64 {
    let sim = Sim::new(seed);
    let mut rng = sim.fork_rng();
    let history = Shared::default();
    for round in 0..4 {
        let small = ShardOptions {
            segment_size: if drops { 64 << 10 } else { 128 << 10 },
            drop_interval: Duration::from_micros(rng.below(2_000)),
            ..small(policy)
        };
        let options = ShardOptions {
            zero_lead: if rng.below(3) == 0 { 0 } else { 1 << 20 },
            flush_interval: Duration::from_millis(5),
            snapshot_interval: Duration::from_millis(20 + rng.below(100)),
            ..small
        };
        let steps = if rng.below(4) == 0 { rng.below(400) } else { rng.below(3_000) };
        let ended = sim.run_steps(steps, work(options.clone(), Rc::clone(&history), rng.fork(), drops));
        assert!(matches!(ended, Ended::Stopped));
        let kind = match rng.below(5) {
            0 => CrashKind::PowerCut(Cache::Lost),
            1 | 2 => CrashKind::PowerCut(Cache::Random),
            _ => CrashKind::ProcessKill,
        };
        sim.crash(kind);
        sim.restart();
        let killed = kind == CrashKind::ProcessKill;
        let safe = {
            let history = history.borrow();
            if killed { history.written } else { history.flushed }
        };
        let keeps_seen = killed || policy == FlushPolicy::Sync;
        let loses_snapshot = drops && rng.below(3) == 0;
        sim.run(async {
            if loses_snapshot {
                ringmq_rt::fs::remove(std::path::Path::new("/store/index/0/snapshot")).await.unwrap();
            }
            let (_store, shard) = open(options).await.unwrap_or_else(|e| panic!("round {round} {kind:?}: {e}"));
            check(&shard, &history, safe, keeps_seen).await;
            // The marks of a cut tail are not comparable with those of the next run.
            let marks = shard.watermarks();
            let mut history = history.borrow_mut();
            (history.written, history.flushed) = (marks.written.offset(), marks.flushed.offset());
        });
        // The shard that was looked at ends here too.
        sim.crash(CrashKind::ProcessKill);
        sim.restart();
    }
    history.take().recycled
}

#[test]
fn sync_flush_keeps_what_it_reported() {
    for seed in 0..150 {
        crash_and_check(seed, FlushPolicy::Sync, false);
    }
}

#[test]
fn async_flush_keeps_what_was_written_over_a_kill_and_what_was_flushed_over_a_power_cut() {
    for seed in 1000..1150 {
        crash_and_check(seed, FlushPolicy::Async, false);
    }
}

#[test]
fn dropped_and_recycled_segments_take_nothing_along_under_sync_flush() {
    let recycled: u64 = (2000..2100).map(|seed| crash_and_check(seed, FlushPolicy::Sync, true)).sum();
    assert!(recycled > 100, "only {recycled} segments were recycled");
}

#[test]
fn dropped_and_recycled_segments_take_nothing_along_under_async_flush() {
    let recycled: u64 = (3000..3100).map(|seed| crash_and_check(seed, FlushPolicy::Async, true)).sum();
    assert!(recycled > 100, "only {recycled} segments were recycled");
}

#[test]
fn a_snapshot_with_the_log_behind_it_is_the_whole_log() {
    for seed in 0..20 {
        let sim = Sim::new(seed);
        let history = Shared::default();
        let options = ShardOptions { snapshot_interval: Duration::from_millis(5), ..small(FlushPolicy::Async) };
        let rng = sim.fork_rng();
        let ended = sim.run_steps(5_000, work(options.clone(), Rc::clone(&history), rng, false));
        assert!(matches!(ended, Ended::Stopped));
        sim.crash(CrashKind::ProcessKill);
        sim.restart();
        let dump = || {
            let options = options.clone();
            let keys: Vec<Key> = history.borrow().queues.keys().cloned().collect();
            let found = sim.run(async move {
                let (_store, shard) = open(options).await.unwrap();
                let mut queues = Vec::new();
                for (topic, queue) in &keys {
                    queues.push((shard.bounds(topic, *queue), all(&shard, topic, *queue).await));
                }
                (queues, shard.recovery().replayed_bytes)
            });
            sim.crash(CrashKind::ProcessKill);
            sim.restart();
            found
        };
        let (with_snapshot, tail) = dump();
        assert!(with_snapshot.iter().any(|(_, records)| !records.is_empty()));
        sim.run(async { ringmq_rt::fs::remove(std::path::Path::new("/store/index/0/snapshot")).await.unwrap() });
        let (without, whole) = dump();
        assert!(tail < whole, "there was no snapshot: {tail} of {whole} bytes were read again");
        assert_eq!(with_snapshot, without, "seed {seed}");
    }
}
