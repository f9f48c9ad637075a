//! A small map that forgets what was used longest ago. It is for things that cost a read or an open to get again; its
//! size is in the tens or hundreds, so the oldest is found by looking at all.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    map: HashMap<K, (V, u64), foldhash::fast::RandomState>,
    capacity: usize,
    clock: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// A cache of at most `capacity` values, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { map: HashMap::default(), capacity: capacity.max(1), clock: 0 }
    }

    pub(crate) fn get(&mut self, key: K) -> Option<V> {
        self.clock += 1;
        let (value, used) = self.map.get_mut(&key)?;
        *used = self.clock;
        Some(value.clone())
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.map.contains_key(&key)
    }

    pub(crate) fn remove(&mut self, key: K) {
        self.map.remove(&key);
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.map.len() >= self.capacity && !self.map.contains_key(&key) {
            let oldest = self.map.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| self.map.remove(&key));
        }
        self.clock += 1;
        self.map.insert(key, (value, self.clock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(2);
        cache.insert(1, 'a');
        cache.insert(2, 'b');
        assert_eq!(cache.get(1), Some('a'));
        cache.insert(3, 'c');
        assert_eq!((cache.get(1), cache.get(2), cache.get(3)), (Some('a'), None, Some('c')));
        assert!(cache.contains(3) && !cache.contains(2));
    }
}
