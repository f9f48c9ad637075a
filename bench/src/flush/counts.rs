//! What a broker counts itself and tells on request: its writes and flushes, and how many messages each took. Totals
//! since its start; a run is the difference of before and after. A broker that does not tell, such as Apache's, has no
//! such figures here.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_client::NameServers;
use ringmq_client::admin::Admin;
use ringmq_client::driver::blocking::Remoting;
use serde::Serialize;

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Batches given to the disk.
    pub(crate) writes: u64,
    /// The i-th: of how many the batch had 2^i to 2^(i+1)-1 messages.
    pub(crate) write_sizes: Vec<u64>,
    /// Times that the device was told to make everything durable.
    pub(crate) flushes: u64,
    /// As `write_sizes`, of what a flush made durable.
    pub(crate) flush_sizes: Vec<u64>,
    pub(crate) flushed_bytes: u64,
}

impl Counts {
    /// Asks a broker; `None` when it cannot or will not say.
    pub(crate) fn ask(addr: &str) -> Option<Counts> {
        let admin = Admin::new(Remoting::default(), NameServers::none()).with_timeout(TIMEOUT);
        Counts::read(&admin.broker_runtime_info(addr).ok()?)
    }

    fn read(table: &BTreeMap<String, String>) -> Option<Counts> {
        let number = |name: &str| table.get(name)?.trim().parse().ok();
        let numbers = |name: &str| {
            let text = table.get(name)?;
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()
        };
        Some(Counts {
            writes: number("ringmqWrites")?,
            write_sizes: numbers("ringmqWriteSizes")?,
            flushes: number("ringmqFlushes")?,
            flush_sizes: numbers("ringmqFlushSizes")?,
            flushed_bytes: number("ringmqFlushedBytes")?,
        })
    }

    /// What was added since `before`. `None` when a count fell: it was another process then.
    pub(crate) fn since(&self, before: &Counts) -> Option<Counts> {
        Some(Counts {
            writes: self.writes.checked_sub(before.writes)?,
            write_sizes: zipped(&self.write_sizes, &before.write_sizes, u64::checked_sub)?,
            flushes: self.flushes.checked_sub(before.flushes)?,
            flush_sizes: zipped(&self.flush_sizes, &before.flush_sizes, u64::checked_sub)?,
            flushed_bytes: self.flushed_bytes.checked_sub(before.flushed_bytes)?,
        })
    }

    pub(crate) fn plus(&self, other: &Counts) -> Option<Counts> {
        Some(Counts {
            writes: self.writes.checked_add(other.writes)?,
            write_sizes: zipped(&self.write_sizes, &other.write_sizes, u64::checked_add)?,
            flushes: self.flushes.checked_add(other.flushes)?,
            flush_sizes: zipped(&self.flush_sizes, &other.flush_sizes, u64::checked_add)?,
            flushed_bytes: self.flushed_bytes.checked_add(other.flushed_bytes)?,
        })
    }
}

/// Lists grow when a larger batch is seen for the first time.
fn zipped(one: &[u64], two: &[u64], join: impl Fn(u64, u64) -> Option<u64>) -> Option<Vec<u64>> {
    let at = |list: &[u64], i: usize| list.get(i).copied().unwrap_or(0);
    (0..one.len().max(two.len())).map(|i| join(at(one, i), at(two, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(writes: &str, sizes: &str) -> BTreeMap<String, String> {
        let pairs = [
            ("ringmqWrites", writes),
            ("ringmqWriteSizes", sizes),
            ("ringmqFlushes", "7"),
            ("ringmqFlushSizes", "0,7"),
            ("ringmqFlushedBytes", "4096"),
            ("putTps", "1.0 2.0 3.0"),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_run_is_the_difference() {
        let before = Counts::read(&table("10", "4,6")).unwrap();
        let after = Counts::read(&table("15", "5, 6, 4")).unwrap();
        let run = after.since(&before).unwrap();
        assert_eq!((run.writes, run.write_sizes.as_slice(), run.flushes), (5, &[1, 0, 4][..], 0));
        assert_eq!(before.since(&after), None, "another process");
        assert_eq!(run.plus(&before), Some(after));
    }

    #[test]
    fn a_broker_that_does_not_tell_has_no_counts() {
        let mut apache = table("1", "1");
        apache.retain(|name, _| name == "putTps");
        assert_eq!(Counts::read(&apache), None);
        assert_eq!(Counts::read(&table("many", "1")), None);
        assert_eq!(Counts::read(&table("1", "1,x")), None);
        assert_eq!(Counts::read(&table("0", "")).map(|counts| counts.write_sizes), Some(Vec::new()));
        assert_eq!(Counts::ask("127.0.0.1:1"), None);
    }
}
