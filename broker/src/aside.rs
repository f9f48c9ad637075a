//! Messages that are due and that the disk does not read, as the one on a bad sector: what follows one of them is not held up.
//! It is tried a few times in its place, then set aside and tried again less and less often. Its reader's saved progress stays
//! in front of it, so that the next start finds it again, and retention leaves its segment. Only after a long time is it given
//! up. Pure: the caller reads, and says when.
//!
//! A damaged message is none of these: what was read is wrong however often it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_engine::ReadError;
use ringmq_rt::Instant;

use crate::limits::ASIDE_MAX;

/// Tries of a message in its place, a second apart, before what follows goes on without it.
pub const TRIES: u32 = 3;
/// Wait before the first try of a message that was set aside; each further one is twice as long.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
/// The longest wait.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How long after it was due and set aside a message is given up.
pub const GIVEN_UP_AFTER: Duration = Duration::from_secs(3600);

/// Whether the disk did not read the bytes that were asked for. Anything else says nothing about one message.
pub fn is_unread(error: &ReadError) -> bool {
    matches!(error, ReadError::Io { .. })
}

/// Messages of one reader that are set aside, by their place in its order.
#[derive(Debug)]
pub struct Asides<K> {
    messages: BTreeMap<K, Aside>,
}

#[derive(Debug)]
struct Aside {
    since: Instant,
    /// By then at the latest.
    due: Instant,
    next: Instant,
    wait: Duration,
}

impl<K> Default for Asides<K> {
    fn default() -> Self {
        Self { messages: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Asides<K> {
    /// Sets a message aside that is due at `due` at the latest; false when there are too many already.
    pub fn add(&mut self, message: K, due: Instant, at: Instant) -> bool {
        if self.messages.len() >= ASIDE_MAX {
            return false;
        }
        let aside = Aside { since: at, due: due.max(at), next: at.after(AGAIN_FIRST), wait: AGAIN_FIRST };
        self.messages.insert(message, aside);
        true
    }

    /// When the next one is to be tried; `None` if there is none.
    pub fn next_try(&self) -> Option<Instant> {
        self.messages.values().map(|aside| aside.next).min()
    }

    /// A message that is to be tried now.
    pub fn to_try(&self, at: Instant) -> Option<K> {
        let due = self.messages.iter().filter(|(_, aside)| aside.next <= at);
        due.min_by_key(|(_, aside)| aside.next).map(|(message, _)| *message)
    }

    /// A try was in vain; true if it was the last one, and the message is none of these any more.
    pub fn failed(&mut self, message: K, at: Instant) -> bool {
        let Some(aside) = self.messages.get_mut(&message) else { return false };
        if at >= aside.due.after(GIVEN_UP_AFTER) {
            self.messages.remove(&message);
            return true;
        }
        aside.wait = (aside.wait * 2).min(AGAIN_MAX);
        aside.next = at.after(aside.wait);
        false
    }

    /// The message was read, and cannot be released before `wait` is over.
    pub fn wait(&mut self, message: K, wait: Duration, at: Instant) {
        if let Some(aside) = self.messages.get_mut(&message) {
            aside.next = at.after(wait.min(AGAIN_MAX));
        }
    }

    /// How long a message is still not due at most.
    pub fn left(&self, message: K, at: Instant) -> Duration {
        self.messages.get(&message).map_or(Duration::ZERO, |aside| aside.due.since(at))
    }

    /// The message is none of these any more; for how long it was.
    pub fn remove(&mut self, message: K, at: Instant) -> Duration {
        self.messages.remove(&message).map_or(Duration::ZERO, |aside| at.since(aside.since))
    }

    /// The first of them: progress stays in front of it.
    pub fn first(&self) -> Option<K> {
        self.messages.keys().next().copied()
    }

    /// Whether a message is one of them.
    pub fn contains(&self, message: K) -> bool {
        self.messages.contains_key(&message)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> (Asides<u64>, Instant) {
        (Asides::default(), Instant(1 << 40))
    }

    /// Tries it in vain until it is given up: the waits in between, in seconds.
    fn tried(asides: &mut Asides<u64>, from: Instant) -> Vec<u64> {
        let (mut waits, mut at) = (Vec::new(), from);
        while let Some(next) = asides.next_try() {
            assert_eq!(asides.to_try(Instant(next.0 - 1)), None);
            assert_eq!(asides.to_try(next), Some(7));
            waits.push(next.since(at).as_secs());
            at = next;
            asides.failed(7, at);
        }
        waits
    }

    #[test]
    fn it_is_tried_less_and_less_often_and_given_up_in_the_end() {
        let (mut asides, at) = start();
        assert!(asides.add(7, at, at));
        let waits = tried(&mut asides, at);
        assert_eq!(waits[..7], [2, 4, 8, 16, 32, 60, 60]);
        let (last, all) = (waits[waits.len() - 1], waits.iter().sum::<u64>());
        assert!(all >= 3600 && all - last < 3600, "{all}");
    }

    #[test]
    fn it_is_not_given_up_before_it_was_due_for_as_long() {
        let (mut asides, at) = start();
        assert!(asides.add(7, at.after(Duration::from_secs(7200)), at));
        assert!(tried(&mut asides, at).iter().sum::<u64>() >= 7200 + 3600);
    }

    #[test]
    fn it_waits_for_its_time_once_it_was_read() {
        let (mut asides, at) = start();
        assert!(asides.add(7, at.after(Duration::from_secs(30)), at));
        assert_eq!(asides.left(7, at.after(Duration::from_secs(10))), Duration::from_secs(20));
        asides.wait(7, Duration::from_secs(30), at);
        assert_eq!(asides.next_try(), Some(at.after(Duration::from_secs(30))));
        assert_eq!(asides.remove(7, at.after(Duration::from_secs(31))), Duration::from_secs(31));
        assert!(asides.is_empty() && asides.next_try().is_none());
    }

    #[test]
    fn there_are_never_many_and_the_first_is_known() {
        let (mut asides, at) = start();
        let many = ASIDE_MAX as u64;
        assert!((0..many).rev().all(|message| asides.add(message, at, at)));
        assert!(!asides.add(many, at, at));
        assert_eq!((asides.first(), asides.len()), (Some(0), ASIDE_MAX));
        asides.remove(0, at);
        assert!(asides.add(many, at, at));
        assert_eq!(asides.first(), Some(1));
    }
}
