//! What a load thread counts, and how the threads' counts become one. Each thread writes its own without a lock;
//! they are merged after the last thread has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::series::{Cut, Series};

/// Latencies above this are recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Replies with a code that is not a success: how many, and what the first one said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) count: u64,
    pub(crate) first_remark: String,
    /// By what their remarks begin with, in brackets; empty where that is missing.
    pub(crate) causes: BTreeMap<String, u64>,
}

/// How long the requests of transactions took, of the measured time, nanoseconds.
#[derive(Debug)]
pub(crate) struct Steps {
    pub(crate) half: Histogram<u64>,
    pub(crate) end: Histogram<u64>,
}

#[derive(Debug)]
pub(crate) struct Tally {
    /// From the intended time to the reply, of the measured requests, nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The same and the throughput, interval by interval, where the run's length is known when it begins.
    pub(crate) series: Option<Series>,
    /// How late the generator itself was, of requests that no full window held back, nanoseconds.
    pub(crate) lateness: Histogram<u64>,
    /// Of transactions, the two requests that `latency` is the whole of.
    pub(crate) steps: Option<Box<Steps>>,
    pub(crate) requests: u64,
    /// Messages that the requests carried, acknowledged or not.
    pub(crate) sent_messages: u64,
    /// Requests that ask for no reply.
    pub(crate) one_way: u64,
    /// Replies that are a success.
    pub(crate) successes: u64,
    /// Successes whose reply arrived in the measured time, with the messages and bytes they stand for.
    pub(crate) measured_replies: u64,
    pub(crate) measured_messages: u64,
    pub(crate) measured_bytes: u64,
    pub(crate) refusals: BTreeMap<i32, Refusals>,
    /// Timed messages that were acknowledged only when they were due already.
    pub(crate) overdue: u64,
    /// Replies that match no request, or contradict it.
    pub(crate) stray_replies: u64,
    /// Messages of a key with an offset below that of the key's last one.
    pub(crate) disordered: u64,
    /// Requests without a reply when the run was over or their connection broke.
    pub(crate) unanswered: u64,
    /// Requests that an open loop owed and had no room for until the end.
    pub(crate) unsent: u64,
    pub(crate) lost_connections: u64,
    pub(crate) first_loss: Option<String>,
    /// The time that the counts are of, nanoseconds; shorter than planned when the run broke off.
    pub(crate) measured_ns: u64,
    /// Of the measured time, nanoseconds summed over the threads, and how many of them were spent waiting.
    pub(crate) thread_ns: u64,
    pub(crate) waited_ns: u64,
    /// CPU time of the load threads over the whole run, nanoseconds.
    pub(crate) cpu_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Tally> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3);
        Ok(Tally {
            latency: histogram()?,
            series: None,
            lateness: histogram()?,
            steps: None,
            requests: 0,
            sent_messages: 0,
            one_way: 0,
            successes: 0,
            measured_replies: 0,
            measured_messages: 0,
            measured_bytes: 0,
            refusals: BTreeMap::new(),
            overdue: 0,
            stray_replies: 0,
            disordered: 0,
            unanswered: 0,
            unsent: 0,
            lost_connections: 0,
            first_loss: None,
            measured_ns: 0,
            thread_ns: 0,
            waited_ns: 0,
            cpu_ns: 0,
        })
    }

    /// One that also keeps how the figures move.
    pub(crate) fn cut(cut: Cut) -> anyhow::Result<Tally> {
        Ok(Tally { series: Some(Series::new(cut)?), ..Tally::new()? })
    }

    /// A request of the measured time had its reply.
    pub(crate) fn latency(&mut self, due_ns: u64, latency_ns: u64) {
        self.latency.saturating_record(latency_ns);
        if let Some(series) = &mut self.series {
            series.latency(due_ns, latency_ns);
        }
    }

    /// A reply arrived in the measured time.
    pub(crate) fn acknowledged(&mut self, at_ns: u64, messages: u64) {
        self.measured_replies += 1;
        self.measured_messages += messages;
        if let Some(series) = &mut self.series {
            series.acknowledged(at_ns, messages);
        }
    }

    /// One that also keeps how long each step of a transaction took.
    pub(crate) fn with_steps(self) -> anyhow::Result<Tally> {
        let empty = Tally::new()?;
        Ok(Tally { steps: Some(Box::new(Steps { half: empty.latency, end: empty.lateness })), ..self })
    }

    pub(crate) fn refused(&mut self, code: i32, cause: &[u8], remark: impl FnOnce() -> String) {
        let refusals =
            self.refusals.entry(code).or_insert_with(|| Refusals { first_remark: remark(), ..Refusals::default() });
        refusals.count += 1;
        let cause = String::from_utf8_lossy(cause);
        match refusals.causes.get_mut(&*cause) {
            Some(count) => *count += 1,
            None => drop(refusals.causes.insert(cause.into_owned(), 1)),
        }
    }

    pub(crate) fn connection_lost(&mut self, error: &std::io::Error) {
        self.lost_connections += 1;
        self.first_loss.get_or_insert_with(|| error.to_string());
    }

    /// Share of the measured time in which the load threads had something to do.
    pub(crate) fn busy_share(&self) -> f64 {
        1.0 - self.waited_ns as f64 / (self.thread_ns as f64).max(1.0)
    }

    pub(crate) fn merge(&mut self, other: &Tally) -> anyhow::Result<()> {
        self.latency.add(&other.latency)?;
        if let (Some(ours), Some(theirs)) = (&mut self.series, &other.series) {
            ours.merge(theirs)?;
        }
        self.lateness.add(&other.lateness)?;
        if let (Some(ours), Some(theirs)) = (&mut self.steps, &other.steps) {
            ours.half.add(&theirs.half)?;
            ours.end.add(&theirs.end)?;
        }
        self.requests += other.requests;
        self.sent_messages += other.sent_messages;
        self.one_way += other.one_way;
        self.successes += other.successes;
        self.measured_replies += other.measured_replies;
        self.measured_messages += other.measured_messages;
        self.measured_bytes += other.measured_bytes;
        self.overdue += other.overdue;
        self.stray_replies += other.stray_replies;
        self.disordered += other.disordered;
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.lost_connections += other.lost_connections;
        self.measured_ns = self.measured_ns.max(other.measured_ns);
        self.thread_ns += other.thread_ns;
        self.waited_ns += other.waited_ns;
        self.cpu_ns += other.cpu_ns;
        if self.first_loss.is_none() {
            self.first_loss.clone_from(&other.first_loss);
        }
        for (code, theirs) in &other.refusals {
            let ours = self
                .refusals
                .entry(*code)
                .or_insert_with(|| Refusals { first_remark: theirs.first_remark.clone(), ..Refusals::default() });
            ours.count += theirs.count;
            for (cause, count) in &theirs.causes {
                *ours.causes.entry(cause.clone()).or_default() += count;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_and_keeps_the_first_remark() {
        let cut = Cut::new(0, 1_000_000_000);
        let (mut one, mut two) = (Tally::cut(cut).unwrap(), Tally::cut(cut).unwrap());
        one.refused(2, b"PCBUSY", || "busy".to_owned());
        two.refused(2, b"PCBUSY", || "later".to_owned());
        two.refused(2, b"", || "later".to_owned());
        two.refused(13, b"", || "too large".to_owned());
        two.latency(200_000_000, 5_000);
        two.acknowledged(200_005_000, 1);
        two.connection_lost(&std::io::ErrorKind::ConnectionReset.into());
        one.merge(&two).unwrap();
        let causes = BTreeMap::from([("PCBUSY".to_owned(), 2), (String::new(), 1)]);
        assert_eq!(one.refusals[&2], Refusals { count: 3, first_remark: "busy".to_owned(), causes });
        assert_eq!(
            one.refusals[&13],
            Refusals { count: 1, first_remark: "too large".to_owned(), causes: BTreeMap::from([(String::new(), 1)]) }
        );
        assert_eq!((one.latency.len(), one.measured_messages, one.lost_connections), (1, 1, 1));
        let third = &one.series.as_ref().unwrap().intervals()[2];
        assert_eq!((third.latency.len(), third.messages), (1, 1));
        assert!(one.first_loss.is_some());
    }
}
