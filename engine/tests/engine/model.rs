//! Random appends and reads against vectors, and the rules of reading.

use std::collections::BTreeMap;

use ringmq_engine::{AppendError, Draft, FlushPolicy, QueueOffset, ReadPlan, ReadStatus, ShardOptions};
use ringmq_protocol::message::tags_code;
use ringmq_rt::sim::Sim;

use super::support::{Message, all, append, close, open, read, request, small};

#[test]
fn what_is_read_is_what_was_appended() {
    for seed in 0..30 {
        let policy = if seed % 2 == 0 { FlushPolicy::Async } else { FlushPolicy::Sync };
        let sim = Sim::new(seed);
        let mut rng = sim.fork_rng();
        sim.run(async {
            let (store, shard) = open(small(policy)).await.unwrap();
            let mut model: BTreeMap<(String, i32), Vec<Vec<u8>>> = BTreeMap::new();
            for _ in 0..1500 {
                let topic = format!("topic-{}", rng.below(3));
                let queue = i32::try_from(rng.below(3)).unwrap();
                let size = if rng.below(50) == 0 { rng.below(60_000) } else { rng.below(600) };
                let body = (0..size).map(|n| (n ^ seed) as u8).collect();
                let message = Message::new(&topic, queue, body);
                let ticket = append(&shard, &message).await.unwrap();
                let known = model.entry((topic, queue)).or_default();
                assert_eq!(ticket.queue_offset.0, known.len() as u64);
                known.push(message.bytes(&ticket));
                if rng.below(30) == 0 {
                    shard.confirmed(ticket.end).await.unwrap();
                    let keys: Vec<_> = model.keys().cloned().collect();
                    let (topic, queue) = &keys[rng.index(keys.len())];
                    let expect = &model[&(topic.clone(), *queue)];
                    let from = rng.below(expect.len() as u64 + 1);
                    let batch = read(&shard, request(topic, *queue, from)).await;
                    assert_eq!((batch.min.0, batch.max.0), (0, expect.len() as u64));
                    let got: Vec<_> = batch.records.iter().map(|r| r.to_vec()).collect();
                    let reach = usize::try_from(batch.next.0).unwrap();
                    assert_eq!(
                        got,
                        expect[usize::try_from(from).unwrap()..reach],
                        "seed {seed} {topic} {queue} {from}"
                    );
                }
            }
            close(store, &shard).await;
            for ((topic, queue), expect) in &model {
                assert_eq!(&all(&shard, topic, *queue).await, expect, "closed, seed {seed}");
            }
            let (_store, shard) = open(small(policy)).await.unwrap();
            assert_eq!(shard.recovery().replayed_records, 0, "a clean stop leaves nothing to read again");
            for ((topic, queue), expect) in &model {
                assert_eq!(&all(&shard, topic, *queue).await, expect, "reopened, seed {seed}");
            }
        });
    }
}

#[test]
fn the_rules_of_reading() {
    Sim::new(1).run(async {
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        let read_at = async |offset| read(&shard, request("t", 0, offset)).await;
        assert_eq!(read_at(0).await.status, ReadStatus::NoMatchedLogicQueue);
        let ticket = Message::new("t", 0, vec![1; 10]).append(&shard).unwrap();
        let unconfirmed = read_at(0).await;
        assert_eq!((unconfirmed.status, unconfirmed.max.0), (ReadStatus::NoMessageInQueue, 0), "not flushed, not seen");
        assert!(shard.record_at(ticket.position).await.unwrap().is_none(), "not flushed, not seen");
        shard.confirmed(ticket.end).await.unwrap();
        assert_eq!(read_at(0).await.status, ReadStatus::Found);
        let next = read_at(1).await;
        assert_eq!((next.status, next.next.0), (ReadStatus::OffsetOverflowOne, 1));
        let beyond = read_at(7).await;
        assert_eq!((beyond.status, beyond.next.0), (ReadStatus::OffsetOverflowBadly, 1));
        let mut none = |_| false;
        let ReadPlan::Ready(filtered) = shard.read(request("t", 0, 0), &mut none).unwrap() else { panic!("cold") };
        assert_eq!((filtered.status, filtered.next.0, filtered.records.len()), (ReadStatus::NoMatchedMessage, 1, 0));
        let mut codes = Vec::new();
        let mut note = |code| {
            codes.push(code);
            true
        };
        shard.read(request("t", 0, 0), &mut note).unwrap();
        assert_eq!(codes, [tags_code("red")]);
        let record = shard.record_at(ticket.position).await.unwrap().unwrap();
        assert_eq!(record.to_vec(), Message::new("t", 0, vec![1; 10]).bytes(&ticket));
    });
}

#[test]
fn limits_hold_but_one_message_always_comes() {
    Sim::new(2).run(async {
        let (_store, shard) = open(small(FlushPolicy::Async)).await.unwrap();
        let mut end = 0;
        for _ in 0..10 {
            end = append(&shard, &Message::new("t", 0, vec![1; 5000])).await.unwrap().end;
        }
        shard.confirmed(end).await.unwrap();
        let count = async |max_messages, max_bytes| {
            let ask = ringmq_engine::ReadRequest { max_messages, max_bytes, ..request("t", 0, 2) };
            let batch = read(&shard, ask).await;
            assert_eq!(batch.next.0, 2 + batch.records.len() as u64);
            batch.records.len()
        };
        assert_eq!(count(3, 1 << 20).await, 3);
        assert_eq!(count(32, 11_000).await, 2);
        assert_eq!(count(32, 10).await, 1);
        assert_eq!(count(32, 1 << 20).await, 8);
    });
}

#[test]
fn a_batch_lies_together_and_a_refused_one_leaves_nothing() {
    Sim::new(3).run(async {
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        let messages: Vec<_> = (0..5).map(|n| Message::new("t", 1, vec![n; 300])).collect();
        let mut tickets = Vec::new();
        let nest = |out: &mut Vec<_>| {
            messages[0].with(|a| messages[1].with(|b| messages[2].with(|c| shard.append_batch(&[a, b, c], 5, out))))
        };
        nest(&mut tickets).unwrap();
        assert_eq!(tickets.iter().map(|t| t.queue_offset.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(tickets[0].end, tickets[1].position.offset());
        let before = shard.watermarks().appended;
        let huge = Message::new("t", 1, vec![0; 65 << 10]);
        assert!(matches!(huge.append(&shard), Err(AppendError::TooLarge { .. })));
        let refused = huge.with(|h| messages[0].with(|a| shard.append_batch(&[a, h], 5, &mut tickets)));
        assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
        assert!(matches!(shard.append_batch(&[], 5, &mut tickets), Err(AppendError::Empty)));
        assert_eq!((shard.watermarks().appended, tickets.len()), (before, 3));
        // What was taken in by other options is.
        let promised = |huge: &Message| huge.with(|draft| shard.append(&Draft { promised: true, ..draft }, 5));
        let longer_than_a_segment = promised(&Message::new("t", 2, vec![0; 128 << 10])).unwrap_err();
        assert!(matches!(longer_than_a_segment, AppendError::TooLarge { .. }) && longer_than_a_segment.is_final());
        assert_eq!(promised(&huge).unwrap().queue_offset.0, 3);
        shard.confirmed(tickets[2].end).await.unwrap();
        shard.confirmed(shard.watermarks().appended.offset()).await.unwrap();
        assert_eq!(all(&shard, "t", 1).await.len(), 4);
    });
}

#[test]
fn store_times_never_go_back_and_find_their_message() {
    Sim::new(4).run(async {
        let (_store, shard) = open(small(FlushPolicy::Async)).await.unwrap();
        let mut end = 0;
        for n in 0..500_i64 {
            let now = if n == 100 { 3 } else { 1_000 + n * 10 };
            let message = Message::new("t", 0, vec![0; 900]);
            let ticket = loop {
                match message.with(|d| shard.append(&d, now)) {
                    Ok(ticket) => break ticket,
                    Err(AppendError::Busy { .. }) => ringmq_rt::sleep(std::time::Duration::from_millis(1)).await,
                    Err(e) => panic!("{e}"),
                }
            };
            end = ticket.end;
        }
        shard.confirmed(end).await.unwrap();
        let at = async |time| shard.offset_by_time("t", 0, time).await.unwrap().unwrap().0;
        assert_eq!(at(0).await, 0);
        assert_eq!(at(1_000 + 99 * 10).await, 99, "the first of two with the same time");
        assert_eq!(at(1_000 + 300 * 10 - 5).await, 300);
        assert_eq!(at(i64::MAX).await, 500);
        assert_eq!(shard.offset_by_time("x", 0, 0).await.unwrap(), None);
        assert_eq!(shard.earliest_store_time("t", 0).await.unwrap(), Some(1_000));
        assert_eq!(shard.store_time("t", 0, QueueOffset(100)).await.unwrap(), Some(1_000 + 99 * 10));
    });
}

#[test]
fn arrivals_name_each_queue_once() {
    Sim::new(5).run(async {
        let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
        let mut end = 0;
        for n in 0..20 {
            end = Message::new("t", n % 2, vec![0; 10]).append(&shard).unwrap().end;
        }
        assert!(!shard.has_arrivals());
        shard.confirmed(end).await.unwrap();
        let mut arrived = Vec::new();
        shard.take_arrivals(&mut arrived);
        let mut names: Vec<_> = arrived.iter().map(|&q| shard.queue_name(q).unwrap().1).collect();
        names.sort_unstable();
        assert_eq!(names, [0, 1]);
        assert!(!shard.has_arrivals());
        let end = Message::new("t", 1, vec![0; 10]).append(&shard).unwrap().end;
        shard.confirmed(end).await.unwrap();
        arrived.clear();
        shard.take_arrivals(&mut arrived);
        assert_eq!(arrived, [shard.queue("t", 1).unwrap()]);
    });
}

#[test]
fn a_deleted_topic_begins_anew_after_a_crash_too() {
    for snapshot in [false, true] {
        let sim = Sim::new(6);
        let again = Message::new("gone", 0, vec![9; 10]);
        let bytes = sim.run(async {
            let (_store, shard) = open(small(FlushPolicy::Sync)).await.unwrap();
            for n in 0..300 {
                append(&shard, &Message::new(if n % 2 == 0 { "gone" } else { "kept" }, 0, vec![1; 50])).await.unwrap();
            }
            if snapshot {
                shard.snapshot().await.unwrap();
            }
            shard.delete_queues("gone").unwrap();
            assert_eq!((shard.bounds("gone", 0), shard.queues_of("gone")), (None, Vec::new()));
            let ticket = again.append(&shard).unwrap();
            assert_eq!(ticket.queue_offset.0, 0);
            shard.flushed(ticket.end).await.unwrap();
            again.bytes(&ticket)
        });
        sim.crash(ringmq_rt::sim::CrashKind::ProcessKill);
        sim.restart();
        sim.run(async {
            let (_store, shard) = open(ShardOptions { ..small(FlushPolicy::Sync) }).await.unwrap();
            assert_eq!(all(&shard, "gone", 0).await, [bytes]);
            assert_eq!(all(&shard, "kept", 0).await.len(), 150);
        });
    }
}
