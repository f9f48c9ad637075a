use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn queue(id: i32) -> MessageQueue {
    MessageQueue { topic: "T".to_owned(), broker_name: "b".to_owned(), queue_id: id }
}

fn queues(ids: &[i32]) -> Vec<MessageQueue> {
    ids.iter().copied().map(queue).collect()
}

#[test]
fn a_free_queue_is_granted_and_a_taken_one_is_not() {
    let mut table = LockTable::new();
    assert_eq!(table.lock("g", "a", &queues(&[0, 1]), 0), Ok(queues(&[0, 1])));
    assert_eq!(table.lock("g", "b", &queues(&[1, 2]), 10), Ok(queues(&[2])));
    assert_eq!(table.lock("other", "b", &queues(&[1]), 10), Ok(queues(&[1])));
}

#[test]
fn a_queue_with_endless_names_is_not_kept() {
    let mut table = LockTable::new();
    let long = MessageQueue { topic: "T".repeat(LOCK_NAMES_MAX), broker_name: "b".to_owned(), queue_id: 0 };
    assert!(table.lock("g", "a", &[queue(0), long], 0).is_err());
    assert!(table.is_empty());
}

#[test]
fn a_lock_runs_out_sixty_seconds_after_its_last_refresh() {
    let mut table = LockTable::new();
    table.lock("g", "a", &queues(&[0]), 0).unwrap();
    table.lock("g", "a", &queues(&[0]), 20_000).unwrap();
    assert_eq!(table.lock("g", "b", &queues(&[0]), 80_000), Ok(vec![]));
    assert_eq!(table.owner("g", &queue(0), 80_000), Some("a"));
    assert_eq!(table.lock("g", "b", &queues(&[0]), 80_001), Ok(queues(&[0])));
    assert_eq!(table.owner("g", &queue(0), 80_001), Some("b"));
}

#[test]
fn only_the_owner_releases_and_the_queue_is_free_at_once() {
    let mut table = LockTable::new();
    table.lock("g", "a", &queues(&[0]), 0).unwrap();
    table.unlock("g", "b", &queues(&[0])).unwrap();
    assert_eq!(table.owner("g", &queue(0), 1), Some("a"));
    table.unlock("g", "a", &queues(&[0])).unwrap();
    assert_eq!(table.lock("g", "b", &queues(&[0]), 1), Ok(queues(&[0])));
}

#[test]
fn the_name_of_the_broker_belongs_to_the_lock() {
    let mut table = LockTable::new();
    table.lock("g", "a", &queues(&[0]), 0).unwrap();
    let elsewhere = MessageQueue { broker_name: "c".to_owned(), ..queue(0) };
    assert_eq!(table.lock("g", "b", std::slice::from_ref(&elsewhere), 0), Ok(vec![elsewhere]));
}

#[test]
fn expired_locks_leave_the_table() {
    let mut table = LockTable::new();
    table.lock("g", "a", &queues(&[0, 1]), 0).unwrap();
    table.lock("h", "a", &queues(&[0]), 50_000).unwrap();
    table.expire(60_000);
    assert_eq!(table.len(), 3);
    table.expire(60_001);
    assert_eq!(table.len(), 1);
    table.remove_group("h");
    assert!(table.is_empty());
}

#[test]
fn a_request_out_of_bounds_is_refused() {
    let mut table = LockTable::new();
    assert!(table.lock("", "a", &queues(&[0]), 0).is_err());
    assert!(table.lock("g", "", &queues(&[0]), 0).is_err());
    let many = vec![queue(0); LOCKS_PER_REQUEST_MAX + 1];
    assert!(table.lock("g", "a", &many, 0).is_err());
    assert!(table.unlock("g", "a", &many).is_err());
    assert!(table.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Lock { client: u8, ids: Vec<i32> },
    Unlock { client: u8, ids: Vec<i32> },
    Sleep(i64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || prop::collection::vec(0..4i32, 0..4);
    prop_oneof![
        4 => (0..3u8, ids()).prop_map(|(client, ids)| Step::Lock { client, ids }),
        2 => (0..3u8, ids()).prop_map(|(client, ids)| Step::Unlock { client, ids }),
        2 => (0..70_000i64).prop_map(Step::Sleep),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// A queue has one owner at a time, and the owner is the one a simple model names.
    #[test]
    fn locks_follow_the_model(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = LockTable::new();
        let mut model: BTreeMap<i32, (u8, i64)> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Sleep(ms) => now += ms,
                Step::Expire => table.expire(now),
                Step::Unlock { client, ids } => {
                    table.unlock("g", &client.to_string(), &queues(&ids)).unwrap();
                    model.retain(|id, (owner, _)| *owner != client || !ids.contains(id));
                }
                Step::Lock { client, ids } => {
                    let mut expected = Vec::new();
                    for id in &ids {
                        let free = model.get(id).is_none_or(|(owner, at)| *owner == client || now - at > LOCK_LIFE_MS);
                        if free {
                            model.insert(*id, (client, now));
                            expected.push(*id);
                        }
                    }
                    prop_assert_eq!(table.lock("g", &client.to_string(), &queues(&ids), now), Ok(queues(&expected)));
                }
            }
            for id in 0..4 {
                let living = model.get(&id).filter(|(_, at)| now - at <= LOCK_LIFE_MS);
                let owner = living.map(|(client, _)| client.to_string());
                prop_assert_eq!(table.owner("g", &queue(id), now), owner.as_deref());
            }
            prop_assert!(table.len() >= model.values().filter(|(_, at)| now - at <= LOCK_LIFE_MS).count());
        }
    }
}
