//! Readers that must see a record to know whether they want it: they get those and no others, from memory and from disk,
//! and each read ends before it has looked at too much.

use ringmq_engine::{FlushPolicy, ReadBatch, ReadPlan, ReadRequest, ReadStatus, Select, Shard, ShardOptions};
use ringmq_protocol::message::Record;
use ringmq_rt::sim::Sim;

use super::support::{Message, append, open, request, small};

/// Wants the records whose body begins with this, and looks at so many in one read.
struct Wants {
    first: u8,
    looks: usize,
}

impl Select for Wants {
    fn wants_tags(&mut self, _tags_code: i64) -> bool {
        true
    }

    fn wants_record(&mut self, record: &[u8]) -> bool {
        self.looks -= 1;
        Record::parse(record).unwrap().0.body()[0] == self.first
    }

    fn is_spent(&self) -> bool {
        self.looks == 0
    }
}

fn wants(first: u8) -> Wants {
    Wants { first, looks: usize::MAX }
}

async fn read(shard: &Shard, request: ReadRequest<'_>, looks: usize, first: u8) -> ReadBatch {
    match shard.read_selected(request, &mut Wants { first, looks }).unwrap() {
        ReadPlan::Ready(batch) => batch,
        ReadPlan::Cold => shard.read_cold_selected(request, &mut Wants { first, looks }).await.unwrap(),
    }
}

fn first_of(batch: &ReadBatch) -> Vec<u8> {
    batch.records.iter().map(|record| Record::parse(record).unwrap().0.body()[0]).collect()
}

#[test]
fn a_reader_gets_what_it_wants_and_passes_what_it_does_not() {
    Sim::new(3).run(async {
        // The first half no longer fits into memory.
        let (_store, shard) = open(small(FlushPolicy::Async)).await.unwrap();
        let mut end = 0;
        for n in 0..120_u8 {
            end = append(&shard, &Message::new("t", 0, vec![n % 3; 2000])).await.unwrap().end;
        }
        shard.flushed(end).await.unwrap();
        let cold = shard.read_selected(request("t", 0, 0), &mut wants(1)).unwrap();
        assert!(matches!(cold, ReadPlan::Cold), "the test reads from the disk as well");
        let mut at = 0;
        let mut found = 0;
        while at < 120 {
            let ask = ReadRequest { max_messages: 7, ..request("t", 0, at) };
            let batch = read(&shard, ask, usize::MAX, 1).await;
            assert!(first_of(&batch).iter().all(|first| *first == 1));
            assert!(batch.next.0 > at && batch.records.len() <= 7);
            assert_eq!(batch.bytes, batch.records.iter().map(|record| record.len() as u64).sum::<u64>());
            (at, found) = (batch.next.0, found + batch.records.len());
        }
        assert_eq!(found, 40);
        let nothing = read(&shard, request("t", 0, 0), usize::MAX, 9).await;
        assert_eq!((nothing.status, nothing.next.0), (ReadStatus::NoMatchedMessage, 120));
        // What is refused takes no room: a byte less than two records still gives the first that is wanted.
        let ask = ReadRequest { max_bytes: 4000, ..request("t", 0, 0) };
        assert_eq!(first_of(&read(&shard, ask, usize::MAX, 2).await), [2]);
    });
}

#[test]
fn a_read_ends_when_its_reader_is_spent_or_has_refused_enough_bytes() {
    Sim::new(4).run(async {
        let options = ShardOptions {
            segment_size: 4 << 20,
            record_max: 1 << 20,
            unwritten_max: 4 << 20,
            ..small(FlushPolicy::Async)
        };
        let (_store, shard) = open(options).await.unwrap();
        let mut end = 0;
        for _ in 0..12 {
            end = append(&shard, &Message::new("t", 0, vec![0; 1_000_000])).await.unwrap().end;
        }
        shard.flushed(end).await.unwrap();
        let spent = read(&shard, request("t", 0, 0), 3, 9).await;
        assert_eq!((spent.status, spent.next.0), (ReadStatus::NoMatchedMessage, 3));
        // Five of them are the first to be more than 4 MiB together.
        let full = read(&shard, request("t", 0, 0), usize::MAX, 9).await;
        assert_eq!((full.status, full.next.0), (ReadStatus::NoMatchedMessage, 5));
        let rest = read(&shard, request("t", 0, 11), usize::MAX, 9).await;
        assert_eq!((rest.status, rest.next.0), (ReadStatus::NoMatchedMessage, 12), "the last one ends it");
    });
}
