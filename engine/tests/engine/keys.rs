//! Finding messages by key: what a query gives, and that a crash at any step, a missing index or a damaged one changes
//! nothing about it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use std::path::Path;

use ringmq_engine::{
    FlushPolicy, Found, KeyKind, KeyQuery, Position, ReadError, Shard, ShardId, ShardOptions, Store, StoreOptions,
};
use ringmq_rt::sim::{Cache, CrashKind, Sim};

use super::support::{Message, ROOT, append, close, open, small};

fn about<'a>(topic: &'a str, key: &'a str) -> KeyQuery<'a> {
    KeyQuery { topic, key, kind: KeyKind::Either, max: 64, max_bytes: 1 << 20, begin_ms: 0, end_ms: i64::MAX }
}

async fn ask(shard: &Shard, query: KeyQuery<'_>) -> Vec<Found> {
    shard.query(&query).await.unwrap()
}

/// The first bytes of the bodies that were found, as numbers.
fn numbers(found: &[Found]) -> Vec<u64> {
    // Body length and body follow the fixed fields of a record with IPv4 hosts.
    found.iter().map(|found| u64::from_be_bytes(*found.record[88..].first_chunk().unwrap())).collect()
}

/// A message with a number as its body.
fn message(topic: &str, queue: i32, keys: &str, number: u64) -> Message {
    let mut message = Message::new(topic, queue, number.to_be_bytes().to_vec());
    keys.clone_into(&mut message.keys);
    message
}

/// Tables, runs and merges soon.
fn soon(flush: FlushPolicy) -> ShardOptions {
    ShardOptions { key_table: 40, snapshot_interval: Duration::from_millis(30), ..small(flush) }
}

#[test]
fn a_query_gives_the_newest_first_and_nothing_else() {
    Sim::new(1).run(async {
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        let mut ends = Vec::new();
        for n in 0..200 {
            let mut message = message(if n % 2 == 0 { "even" } else { "odd" }, (n % 3) as i32, "", n);
            message.keys = format!("all  tens{} {n}", n / 10);
            message.unique = Some(format!("U{n}"));
            let now = 1_000 + i64::try_from(n).unwrap() * 10;
            ends.push(message.with(|draft| shard.append(&draft, now)).unwrap().end);
        }
        assert!(ask(&shard, about("even", "all")).await.is_empty(), "not confirmed, not seen");
        shard.confirmed(*ends.last().unwrap()).await.unwrap();
        let found = |query| {
            let shard = shard.clone();
            async move { numbers(&ask(&shard, query).await) }
        };
        let evens = |from: u64, to: u64| (from..=to).rev().filter(|n| n % 2 == 0).collect::<Vec<_>>();
        assert_eq!(found(about("even", "all")).await, evens(72, 199), "the newest 64");
        assert_eq!(found(about("even", "tens7")).await, evens(70, 79));
        assert_eq!(found(about("odd", "101")).await, [101]);
        assert!(found(about("even", "101")).await.is_empty(), "another topic's key");
        assert!(found(about("none", "all")).await.is_empty());
        assert!(found(about("even", "")).await.is_empty());
        assert_eq!(found(KeyQuery { max: 3, ..about("even", "all") }).await, evens(194, 199));
        let begin_ms = 1_000 + 185 * 10;
        assert_eq!(found(KeyQuery { begin_ms, ..about("even", "all") }).await, evens(186, 199));
        let end_ms = 1_000 + 20 * 10;
        assert_eq!(found(KeyQuery { end_ms, ..about("even", "all") }).await, evens(0, 20));
        let between = KeyQuery { begin_ms: end_ms, end_ms: end_ms + 40, ..about("even", "all") };
        assert_eq!(found(between).await, evens(20, 24), "both ends included");
        let few = KeyQuery { max_bytes: 1, ..about("even", "all") };
        assert_eq!(found(few).await, [198], "one always comes");
        for (kind, unique, business) in [(KeyKind::Unique, 1, 0), (KeyKind::Business, 0, 1), (KeyKind::Either, 1, 1)] {
            assert_eq!(ask(&shard, KeyQuery { kind, ..about("even", "U8") }).await.len(), unique, "{kind:?}");
            assert_eq!(ask(&shard, KeyQuery { kind, ..about("even", "8") }).await.len(), business, "{kind:?}");
        }
        let one = ask(&shard, about("odd", "U9")).await.remove(0);
        assert_eq!((one.store_ms, one.position.offset() < ends[9]), (1_090, true));
        assert_eq!(shard.record_at(one.position).await.unwrap().unwrap().to_vec(), one.record.to_vec());
    });
}

#[test]
fn a_deleted_topic_is_not_found_any_more_even_if_it_begins_anew() {
    let sim = Sim::new(2);
    let check = async |shard: &Shard| {
        assert_eq!(numbers(&ask(shard, about("gone", "k")).await), [7]);
        assert_eq!(ask(shard, about("kept", "k")).await.len(), 50);
    };
    sim.run(async {
        let (_store, shard) = open(soon(FlushPolicy::Sync)).await.unwrap();
        for n in 0..100 {
            append(&shard, &message(if n % 2 == 0 { "gone" } else { "kept" }, 0, "k", n)).await.unwrap();
        }
        shard.snapshot().await.unwrap();
        let end = shard.delete_queues("gone").unwrap().end;
        shard.flushed(end).await.unwrap();
        assert!(ask(&shard, about("gone", "k")).await.is_empty());
        let end = append(&shard, &message("gone", 0, "k", 7)).await.unwrap().end;
        shard.flushed(end).await.unwrap();
        check(&shard).await;
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(soon(FlushPolicy::Sync)).await.unwrap();
        check(&shard).await;
    });
}

/// What was appended: key number and message number, by where its batch ends.
type Sent = Rc<RefCell<Vec<(u64, u64, u64)>>>;

async fn work(options: ShardOptions, sent: Sent, mut rng: ringmq_rt::sim::Rng) {
    let (_store, shard) = open(options).await.unwrap();
    loop {
        for _ in 0..rng.below(12) {
            let number = sent.borrow().len() as u64;
            let key = rng.below(5);
            let keys = format!("k{key} common n{number}");
            let Ok(ticket) = message("t", (number % 2) as i32, &keys, number).append(&shard) else { break };
            sent.borrow_mut().push((ticket.end, key, number));
        }
        if rng.below(6) == 0 {
            // Whoever asks in between finds nothing that was not sent, and nothing twice.
            let found = numbers(&ask(&shard, about("t", "common")).await);
            assert!(found.is_sorted_by(|a, b| a > b), "{found:?}");
        }
        ringmq_rt::sleep(Duration::from_micros(rng.below(900))).await;
    }
}

#[test]
fn after_a_crash_at_any_step_exactly_what_is_in_the_log_is_found() {
    for seed in 0..120 {
        let policy = if seed % 2 == 0 { FlushPolicy::Sync } else { FlushPolicy::Async };
        let sim = Sim::new(seed);
        let mut rng = sim.fork_rng();
        let sent = Sent::default();
        for round in 0..3 {
            let steps = rng.below(5_000);
            sim.run_steps(steps, work(soon(policy), Rc::clone(&sent), rng.fork()));
            sim.crash(match rng.below(4) {
                0 => CrashKind::PowerCut(Cache::Lost),
                1 => CrashKind::PowerCut(Cache::Random),
                _ => CrashKind::ProcessKill,
            });
            sim.restart();
            sim.run(async {
                let (_store, shard) = open(soon(policy)).await.unwrap_or_else(|e| panic!("seed {seed} {round}: {e}"));
                let end = shard.watermarks().flushed.offset();
                sent.borrow_mut().retain(|(ended, ..)| *ended <= end);
                let sent = sent.borrow().clone();
                for key in 0..5 {
                    let name = format!("k{key}");
                    let expect: Vec<u64> =
                        sent.iter().rev().filter(|(_, of, _)| *of == key).map(|(.., n)| *n).take(64).collect();
                    let found = numbers(&ask(&shard, about("t", &name)).await);
                    assert_eq!(found, expect, "seed {seed} round {round} {name}");
                }
                let all = ask(&shard, KeyQuery { max: usize::MAX, max_bytes: u64::MAX, ..about("t", "common") }).await;
                assert_eq!(all.len(), sent.len(), "seed {seed} round {round}");
            });
            sim.crash(CrashKind::ProcessKill);
            sim.restart();
        }
    }
}

#[test]
fn an_index_that_is_missing_or_was_switched_off_is_built_again() {
    let sim = Sim::new(3);
    let off = || ShardOptions { key_index: false, ..soon(FlushPolicy::Sync) };
    let write = async |options, from: u64| {
        let (store, shard) = open(options).await.unwrap();
        for n in from..from + 300 {
            append(&shard, &message("t", 0, &format!("common n{n}"), n)).await.unwrap();
        }
        close(store, &shard).await;
        shard
    };
    let all = KeyQuery { max: 5_000, ..about("t", "common") };
    sim.run(async {
        write(soon(FlushPolicy::Sync), 0).await;
        let shard = write(off(), 300).await;
        assert!(ask(&shard, all).await.is_empty(), "switched off, nothing is found");
        assert_eq!(shard.last_key(), None);
    });
    sim.run(async {
        let (store, shard) = open(soon(FlushPolicy::Sync)).await.unwrap();
        assert_eq!(ask(&shard, all).await.len(), 600);
        assert!(shard.recovery().replayed_records > 0, "what was sent without an index is read again");
        assert_eq!(shard.bounds("t", 0).unwrap().1.0, 600);
        close(store, &shard).await;
        let (_store, shard) = open(soon(FlushPolicy::Sync)).await.unwrap();
        assert_eq!((ask(&shard, all).await.len(), shard.recovery().replayed_records), (600, 0));
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    let first = sim.disk().files().into_iter().find(|file| file.extension().is_some_and(|e| e == "run")).unwrap();
    sim.run(async { ringmq_rt::fs::remove(&first).await.unwrap() });
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(soon(FlushPolicy::Sync)).await.unwrap();
        assert_eq!(ask(&shard, all).await.len(), 600, "the first run is gone");
    });
}

#[test]
fn damage_is_told_and_the_next_start_finds_everything_again() {
    let sim = Sim::new(4);
    let options = || ShardOptions { key_table: 5_000, ..small(FlushPolicy::Sync) };
    sim.run(async {
        let (store, shard) = open(options()).await.unwrap();
        for n in 0..1_000 {
            append(&shard, &message("t", 0, &format!("n{n}"), n)).await.unwrap();
        }
        close(store, &shard).await;
    });
    let runs: Vec<_> = sim.disk().files().into_iter().filter(|f| f.extension().is_some_and(|e| e == "run")).collect();
    for run in &runs {
        sim.disk().corrupt(run, 4096 + 99, 1).unwrap();
    }
    sim.run(async {
        let (_store, shard) = open(options()).await.unwrap();
        let mut damaged = 0;
        for n in 0..1_000 {
            match shard.query(&about("t", &format!("n{n}"))).await {
                Ok(found) => assert_eq!(numbers(&found), [n], "never a wrong answer"),
                Err(ReadError::RunDamaged { path, at }) => {
                    assert!(runs.contains(&path) && at == 4096, "{} at {at}", path.display());
                    damaged += 1;
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert!(damaged > 0 && damaged < 1_000, "{damaged}");
        // Messages go on.
        let end = append(&shard, &message("t", 0, "later", 1_000)).await.unwrap().end;
        shard.flushed(end).await.unwrap();
    });
    sim.crash(CrashKind::ProcessKill);
    sim.restart();
    sim.run(async {
        let (_store, shard) = open(options()).await.unwrap();
        for n in 0..1_000 {
            assert_eq!(numbers(&ask(&shard, about("t", &format!("n{n}"))).await), [n]);
        }
        assert_eq!(numbers(&ask(&shard, about("t", "later")).await), [1_000]);
    });
}

#[test]
fn a_full_disk_stops_messages_in_time_and_not_for_good() {
    let sim = Sim::new(5);
    let disk = sim.disk();
    sim.run(async {
        let (store, shard) = open(soon(FlushPolicy::Async)).await.unwrap();
        let mut sent = 0;
        // As full as it is now: the log's segment is allocated, a run is not.
        disk.set_capacity(Some(1 << 20));
        for n in 0..3_000 {
            match message("t", 0, &format!("common n{n}"), sent).append(&shard) {
                Ok(_) => sent += 1,
                Err(ringmq_engine::AppendError::Busy { .. } | ringmq_engine::AppendError::DiskFull { .. }) => {
                    ringmq_rt::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => panic!("{e}"),
            }
            if n % 50 == 0 {
                ringmq_rt::sleep(Duration::from_millis(2)).await;
            }
        }
        disk.set_capacity(None);
        ringmq_rt::sleep(Duration::from_secs(5)).await;
        let end = append(&shard, &message("t", 0, "last", sent)).await.unwrap().end;
        shard.confirmed(end).await.unwrap();
        assert_eq!(numbers(&ask(&shard, about("t", "last")).await), [sent]);
        let all = ask(&shard, KeyQuery { max: 5_000, ..about("t", "common") }).await;
        assert_eq!(all.len() as u64, sent);
        close(store, &shard).await;
    });
}

#[test]
fn a_position_that_lost_its_lowest_bits_still_leads_to_its_record() {
    Sim::new(6).run(async {
        // Far enough behind the start of the log that positions are no exact doubles.
        let seven = ShardId::new(7).unwrap();
        let store = Store::open(Path::new(ROOT), StoreOptions { shards: Some(8), default_shards: 8 }).await.unwrap();
        let shard = Shard::open(Path::new(ROOT), seven, store.meta(), small(FlushPolicy::Sync)).await.unwrap();
        let mut positions = Vec::new();
        for n in 0..200 {
            positions.push(append(&shard, &message("t", 0, "k", n)).await.unwrap());
        }
        shard.flushed(positions[199].end).await.unwrap();
        let doubles: Vec<f64> = positions.iter().map(|ticket| ticket.position.to_wire() as f64).collect();
        let mut rounded = 0;
        for (ticket, double) in positions.iter().zip(&doubles) {
            let exact = shard.record_near(ticket.position).await.unwrap().unwrap();
            let asked = Position::from_wire(*double as i64).unwrap();
            let found = shard.record_near(asked).await.unwrap();
            let shared = doubles.iter().filter(|other| *other == double).count();
            match found {
                Some(found) => assert_eq!(found.to_vec(), exact.to_vec()),
                None => assert!(shared > 1, "{asked} is one record only"),
            }
            rounded += usize::from(asked != ticket.position);
        }
        assert!(rounded > 50, "only {rounded} positions are no doubles");
        let nowhere = Position::new(seven, positions[0].position.offset() + 1);
        assert!(
            shard.record_near(nowhere).await.unwrap().is_none(),
            "a whole number that is no double was not rounded"
        );
    });
}
