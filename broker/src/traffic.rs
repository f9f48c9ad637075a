//! What each topic takes in and each group reads, over the last minute, hour and day: RocketMQ's stats items. Executors
//! count in place; every ten seconds the control shard collects what is new, so an executor holds no more than what
//! moved since, and the history of an item that stands still for a day goes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use foldhash::HashMap;
use ringmq_protocol::body::{BrokerStatsData, BrokerStatsItem};

use crate::limits::TRAFFIC_ITEMS_MAX;

/// Time between two collections.
pub const COLLECT_PERIOD: Duration = Duration::from_secs(10);

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// Messages sent to a topic.
    Put(Box<str>),
    /// Messages of a topic that a group has pulled.
    Got { topic: Box<str>, group: Box<str> },
    /// All messages sent.
    AllPut,
    /// All messages pulled.
    AllGot,
}

/// How much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
    /// Requests that they came or went with.
    pub times: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.times += other.times;
    }
}

type ByName<T> = HashMap<Box<str>, T>;

/// What one executor has counted since it was last asked.
#[derive(Debug, Default)]
pub struct Traffic {
    put: RefCell<ByName<Count>>,
    /// By topic, then by group.
    got: RefCell<ByName<ByName<Count>>>,
}

impl Traffic {
    /// One request brought messages to a topic.
    pub fn put(&self, topic: &str, messages: u64, bytes: u64) {
        let count = Count { messages, bytes, times: 1 };
        let mut put = self.put.borrow_mut();
        match put.get_mut(topic) {
            Some(known) => known.add(count),
            None => drop(put.insert(topic.into(), count)),
        }
    }

    /// One pull brought messages to a group.
    pub fn got(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        let count = Count { messages, bytes, times: 1 };
        let mut got = self.got.borrow_mut();
        if let Some(known) = got.get_mut(topic).and_then(|groups| groups.get_mut(group)) {
            return known.add(count);
        }
        got.entry(topic.into()).or_default().insert(group.into(), count);
    }

    /// What is new; the memory of what moves stays.
    pub fn collect(&self) -> Vec<(Item, Count)> {
        let mut new = Vec::new();
        let mut take = |item: &dyn Fn() -> Item, count: &mut Count| {
            let moved = *count != Count::default();
            if moved {
                new.push((item(), std::mem::take(count)));
            }
            moved
        };
        self.put.borrow_mut().retain(|topic, count| take(&|| Item::Put(topic.clone()), count));
        self.got.borrow_mut().retain(|topic, groups| {
            groups.retain(|group, count| take(&|| Item::Got { topic: topic.clone(), group: group.clone() }, count));
            !groups.is_empty()
        });
        new
    }
}

/// What an item counted at a time.
type Point = (Duration, Count);

/// The past of one item: where each window began.
#[derive(Debug, Default)]
struct Series {
    total: Count,
    minute: VecDeque<Point>,
    hour: VecDeque<Point>,
    day: VecDeque<Point>,
}

/// Collections between two points of a window, and how many points it has.
const MINUTE: (u64, usize) = (1, 7);
const HOUR: (u64, usize) = (60, 7);
const DAY: (u64, usize) = (360, 25);

impl Series {
    fn begun(at: Duration) -> Self {
        let start = VecDeque::from([(at.saturating_sub(COLLECT_PERIOD), Count::default())]);
        Self { total: Count::default(), minute: start.clone(), hour: start.clone(), day: start }
    }

    fn mark(&mut self, nth: u64, at: Duration) {
        for ((every, points), window) in [(MINUTE, &mut self.minute), (HOUR, &mut self.hour), (DAY, &mut self.day)] {
            if nth.is_multiple_of(every) {
                window.push_back((at, self.total));
                if window.len() > points {
                    window.pop_front();
                }
            }
        }
    }

    /// Nothing moved for as long as anybody can ask about.
    fn is_idle(&self) -> bool {
        self.day.len() == DAY.1 && self.day.front().is_some_and(|(_, count)| *count == self.total)
    }
}

/// The past of every item. It knows no clock.
#[derive(Debug, Default)]
pub struct Past {
    items: HashMap<Item, Series>,
    collections: u64,
    at: Duration,
}

/// The number that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Messages,
    Bytes,
}

impl Past {
    /// Takes in what all executors counted since the last time, on a clock that never goes back.
    pub fn collected(&mut self, at: Duration, new: Vec<(Item, Count)>) {
        self.collections += 1;
        self.at = at;
        for (item, count) in new {
            let all = if matches!(item, Item::Put(_)) { Item::AllPut } else { Item::AllGot };
            for item in [item, all] {
                if self.items.len() >= TRAFFIC_ITEMS_MAX && !self.items.contains_key(&item) {
                    continue;
                }
                self.items.entry(item).or_insert_with(|| Series::begun(at)).total.add(count);
            }
        }
        let nth = self.collections;
        self.items.retain(|_, series| {
            series.mark(nth, at);
            !series.is_idle()
        });
    }

    /// Forgets a deleted topic.
    pub fn forget_topic(&mut self, name: &str) {
        self.items.retain(|item, _| match item {
            Item::Put(topic) | Item::Got { topic, .. } => **topic != *name,
            Item::AllPut | Item::AllGot => true,
        });
    }

    /// Forgets a deleted group.
    pub fn forget_group(&mut self, name: &str) {
        self.items.retain(|item, _| !matches!(item, Item::Got { group, .. } if **group == *name));
    }

    /// Messages a second that a group pulled of a topic, over the last minute.
    pub fn pulled_per_second(&self, group: &str, topic: &str) -> f64 {
        let item = Item::Got { topic: topic.into(), group: group.into() };
        self.items.get(&item).map_or(0.0, |series| self.window(series, &series.minute, Of::Messages).tps)
    }

    /// VIEW_BROKER_STATS_DATA; `None` for what is not counted, or has not moved for a day.
    pub fn view(&self, name: &str, key: &str, cluster: &str) -> Option<BrokerStatsData> {
        let topic_and_group = || key.split_once('@').map(|(t, g)| Item::Got { topic: t.into(), group: g.into() });
        let (item, of) = match name {
            "TOPIC_PUT_NUMS" => (Item::Put(key.into()), Of::Messages),
            "TOPIC_PUT_SIZE" => (Item::Put(key.into()), Of::Bytes),
            "GROUP_GET_NUMS" => (topic_and_group()?, Of::Messages),
            "GROUP_GET_SIZE" => (topic_and_group()?, Of::Bytes),
            "BROKER_PUT_NUMS" if key == cluster => (Item::AllPut, Of::Messages),
            "BROKER_GET_NUMS" if key == cluster => (Item::AllGot, Of::Messages),
            _ => return None,
        };
        let series = self.items.get(&item)?;
        Some(BrokerStatsData {
            stats_day: self.window(series, &series.day, of),
            stats_hour: self.window(series, &series.hour, of),
            stats_minute: self.window(series, &series.minute, of),
        })
    }

    fn window(&self, series: &Series, window: &VecDeque<Point>, of: Of) -> BrokerStatsItem {
        let Some((from, before)) = window.front() else { return BrokerStatsItem::default() };
        let value = |count: &Count| if of == Of::Bytes { count.bytes } else { count.messages };
        let sum = value(&series.total) - value(before);
        let times = series.total.times - before.times;
        let seconds = self.at.saturating_sub(*from).as_secs_f64();
        BrokerStatsItem {
            avgpt: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
            sum: i64::try_from(sum).unwrap_or(i64::MAX),
            tps: if seconds > 0.0 { sum as f64 / seconds } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(past: &mut Past, nth: u64, new: Vec<(Item, Count)>) {
        past.collected(COLLECT_PERIOD * u32::try_from(nth).unwrap(), new);
    }

    fn put(messages: u64) -> Vec<(Item, Count)> {
        vec![(Item::Put("T".into()), Count { messages, bytes: messages * 100, times: messages / 2 })]
    }

    #[test]
    fn an_executor_tells_what_is_new_once() {
        let traffic = Traffic::default();
        traffic.put("T", 1, 10);
        traffic.put("T", 3, 30);
        traffic.got("T", "g", 2, 20);
        let mut new = traffic.collect();
        new.sort_by_key(|(item, _)| format!("{item:?}"));
        let got = Item::Got { topic: "T".into(), group: "g".into() };
        assert_eq!(new[0], (got, Count { messages: 2, bytes: 20, times: 1 }));
        assert_eq!(new[1], (Item::Put("T".into()), Count { messages: 4, bytes: 40, times: 2 }));
        assert_eq!(traffic.collect(), []);
        assert!(traffic.put.borrow().is_empty() && traffic.got.borrow().is_empty());
    }

    #[test]
    fn the_windows_are_a_minute_an_hour_and_a_day() {
        let mut past = Past::default();
        tick(&mut past, 1, put(100));
        let seen = past.view("TOPIC_PUT_NUMS", "T", "C").unwrap();
        assert_eq!((seen.stats_minute.sum, seen.stats_minute.tps, seen.stats_minute.avgpt), (100, 10.0, 2.0));
        for nth in 2..=1000 {
            tick(&mut past, nth, put(10));
        }
        let seen = past.view("TOPIC_PUT_NUMS", "T", "C").unwrap();
        assert_eq!((seen.stats_minute.sum, seen.stats_minute.tps), (60, 1.0));
        assert_eq!(seen.stats_day.sum, 100 + 999 * 10, "a day has not passed");
        assert!((3600..=4200).contains(&seen.stats_hour.sum), "{seen:?}");
        assert_eq!(past.view("TOPIC_PUT_SIZE", "T", "C").unwrap().stats_minute.sum, 6000);
        assert_eq!(past.view("BROKER_PUT_NUMS", "C", "C").unwrap().stats_minute.sum, 60);
        assert_eq!(past.view("BROKER_PUT_NUMS", "other", "C"), None);
        assert_eq!(past.view("GROUP_GET_NUMS", "T@g", "C"), None);
        assert_eq!(past.view("NO_SUCH_NAME", "T", "C"), None);
        assert_eq!(past.pulled_per_second("g", "T"), 0.0);
    }

    #[test]
    fn what_is_deleted_or_stands_still_for_a_day_is_forgotten() {
        let got = |group: &str| {
            (Item::Got { topic: "T".into(), group: group.into() }, Count { messages: 6, bytes: 6, times: 1 })
        };
        let mut past = Past::default();
        tick(&mut past, 1, vec![got("g"), got("h")]);
        assert_eq!(past.pulled_per_second("g", "T"), 0.6);
        past.forget_group("g");
        assert_eq!(past.view("GROUP_GET_NUMS", "T@g", "C"), None);
        assert!(past.view("GROUP_GET_NUMS", "T@h", "C").is_some());
        past.forget_topic("T");
        assert_eq!(past.view("GROUP_GET_NUMS", "T@h", "C"), None);
        tick(&mut past, 2, put(1));
        for nth in 3..=360 * 26 {
            tick(&mut past, nth, vec![]);
        }
        assert_eq!(past.view("TOPIC_PUT_NUMS", "T", "C"), None);
        assert!(past.items.is_empty());
    }
}
