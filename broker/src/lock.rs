//! Queue locks of orderly consumers (LOCK_BATCH_MQ, UNLOCK_BATCH_MQ): who alone may consume a queue for a group. Locks
//! live in memory on the control shard, run out when their owner stops refreshing them, and outlast its connection,
//! because a client that reconnects goes on consuming meanwhile. This is not the lock on which durability rests.

use crate::limits::{LOCK_NAMES_MAX, LOCKS_MAX, LOCKS_PER_REQUEST_MAX};
use crate::member::{check_client_id, check_group_length};
use crate::refusal::Refusal;
use foldhash::HashMap;
use ringmq_protocol::body::MessageQueue;

/// How long a lock lives after its last refresh. Clients refresh every 20 s and distrust their own locks after 30 s.
pub const LOCK_LIFE_MS: i64 = 60_000;

#[derive(Debug)]
struct Lock {
    client_id: Box<str>,
    refreshed_ms: i64,
}

impl Lock {
    fn is_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.refreshed_ms) > LOCK_LIFE_MS
    }
}

/// The locks of all groups. The times that it is told are of one clock, which nobody sets.
#[derive(Debug, Default)]
pub struct LockTable {
    groups: HashMap<Box<str>, HashMap<MessageQueue, Lock>>,
    count: usize,
}

impl LockTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Locks for `client_id` what is free, its own, or expired, and returns those queues in the request's order. An
    /// empty answer is a success: the client asks again.
    pub fn lock(
        &mut self,
        group: &str,
        client_id: &str,
        queues: &[MessageQueue],
        now_ms: i64,
    ) -> Result<Vec<MessageQueue>, Refusal> {
        check_request(group, client_id, queues)?;
        if self.count.saturating_add(queues.len()) > LOCKS_MAX {
            self.expire(now_ms);
        }
        let mut granted = Vec::with_capacity(queues.len());
        if queues.is_empty() {
            return Ok(granted);
        }
        let locks = self.groups.entry(group.into()).or_default();
        for queue in queues {
            match locks.get_mut(queue) {
                Some(lock) if *lock.client_id == *client_id => lock.refreshed_ms = now_ms,
                Some(lock) if lock.is_expired(now_ms) => {
                    *lock = Lock { client_id: client_id.into(), refreshed_ms: now_ms };
                }
                Some(_) => continue,
                None if self.count >= LOCKS_MAX => continue,
                None => {
                    locks.insert(queue.clone(), Lock { client_id: client_id.into(), refreshed_ms: now_ms });
                    self.count += 1;
                }
            }
            granted.push(queue.clone());
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
        Ok(granted)
    }

    /// Releases those of `queues` that `client_id` owns; the rest is left alone.
    pub fn unlock(&mut self, group: &str, client_id: &str, queues: &[MessageQueue]) -> Result<(), Refusal> {
        check_request(group, client_id, queues)?;
        let Some(locks) = self.groups.get_mut(group) else { return Ok(()) };
        for queue in queues {
            if locks.get(queue).is_some_and(|lock| *lock.client_id == *client_id) {
                locks.remove(queue);
                self.count -= 1;
            }
        }
        if locks.is_empty() {
            self.groups.remove(group);
        }
        Ok(())
    }

    /// Who holds a queue for a group, if the lock still lives.
    pub fn owner(&self, group: &str, queue: &MessageQueue, now_ms: i64) -> Option<&str> {
        let lock = self.groups.get(group)?.get(queue)?;
        (!lock.is_expired(now_ms)).then_some(&*lock.client_id)
    }

    /// Drops every expired lock. Locking does not depend on it; memory does.
    pub fn expire(&mut self, now_ms: i64) {
        let mut count = 0;
        self.groups.retain(|_, locks| {
            locks.retain(|_, lock| !lock.is_expired(now_ms));
            count += locks.len();
            !locks.is_empty()
        });
        self.count = count;
    }

    /// Drops the locks of a deleted group.
    pub fn remove_group(&mut self, group: &str) {
        if let Some(locks) = self.groups.remove(group) {
            self.count -= locks.len();
        }
    }

    /// Locks in the table, expired ones included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when no lock is in the table.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn check_request(group: &str, client_id: &str, queues: &[MessageQueue]) -> Result<(), Refusal> {
    check_group_length(group)?;
    check_client_id(client_id)?;
    if queues.len() > LOCKS_PER_REQUEST_MAX {
        return Err(Refusal::invalid(format!("one request may name at most {LOCKS_PER_REQUEST_MAX} queues")));
    }
    if queues.iter().any(|queue| queue.topic.len() + queue.broker_name.len() > LOCK_NAMES_MAX) {
        return Err(Refusal::invalid(format!("the names of a queue are longer than {LOCK_NAMES_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
