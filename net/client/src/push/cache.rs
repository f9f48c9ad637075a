//! The messages of one queue that have been pulled and are not done: what may be committed, and whether there is room for
//! more. Pure bookkeeping; the messages themselves are with who consumes them.

use std::collections::BTreeMap;

use super::PushOptions;

#[derive(Debug)]
pub(super) struct Cache {
    /// Bytes by queue offset.
    open: BTreeMap<i64, usize>,
    bytes: usize,
    /// Where the next pull begins: everything below has been seen.
    pulled_to: i64,
}

impl Cache {
    pub(super) fn starting_at(offset: i64) -> Cache {
        Cache { open: BTreeMap::new(), bytes: 0, pulled_to: offset }
    }

    pub(super) fn add(&mut self, offset: i64, bytes: usize) {
        self.bytes += bytes;
        if let Some(replaced) = self.open.insert(offset, bytes) {
            self.bytes -= replaced;
        }
    }

    pub(super) fn pulled_to(&mut self, next: i64) {
        self.pulled_to = next;
    }

    pub(super) fn next_pull(&self) -> i64 {
        self.pulled_to
    }

    pub(super) fn done(&mut self, offset: i64) {
        if let Some(bytes) = self.open.remove(&offset) {
            self.bytes -= bytes;
        }
    }

    /// The first message that is not done; all of them done, the next that is to be pulled.
    pub(super) fn committable(&self) -> i64 {
        self.open.keys().next().copied().unwrap_or(self.pulled_to)
    }

    /// How many are open, their first and last offset (0 without any), and their bytes.
    pub(super) fn contents(&self) -> (usize, i64, i64, usize) {
        let (first, last) = (self.open.keys().next(), self.open.keys().next_back());
        (self.open.len(), first.copied().unwrap_or(0), last.copied().unwrap_or(0), self.bytes)
    }

    pub(super) fn has_room(&self, options: &PushOptions, is_orderly: bool) -> bool {
        let span = match (self.open.keys().next(), self.open.keys().next_back()) {
            (Some(first), Some(last)) if !is_orderly => last - first,
            _ => 0,
        };
        self.open.len() < options.queue_messages_max
            && self.bytes < options.queue_bytes_max
            && span < options.queue_span_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_committed_when_all_before_it_are_done() {
        let mut cache = Cache::starting_at(5);
        assert_eq!(cache.committable(), 5);
        (5..8).for_each(|offset| cache.add(offset, 1));
        cache.pulled_to(10);
        cache.done(6);
        cache.done(7);
        assert_eq!(cache.committable(), 5);
        cache.done(5);
        // What the filter did not let through is done as well.
        assert_eq!(cache.committable(), 10);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn messages_bytes_and_span_are_bounded() {
        let mut options = PushOptions::new("g");
        (options.queue_messages_max, options.queue_bytes_max, options.queue_span_max) = (3, 100, 50);
        let full = |messages: &[(i64, usize)], is_orderly| {
            let mut cache = Cache::starting_at(0);
            messages.iter().for_each(|(offset, bytes)| cache.add(*offset, *bytes));
            !cache.has_room(&options, is_orderly)
        };
        assert!(!full(&[(1, 10), (2, 10)], false));
        assert!(full(&[(1, 10), (2, 10), (3, 10)], false));
        assert!(full(&[(1, 100)], false));
        assert!(full(&[(1, 1), (51, 1)], false));
        assert!(!full(&[(1, 1), (51, 1)], true));
    }
}
