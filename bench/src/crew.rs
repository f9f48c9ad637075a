//! All load threads of a run together: started at once, told what they must know of each other, and what they counted
//! made one. This thread only waits while they work.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};

use crate::audit::{Audit, Ledger};
use crate::consume::Faults;
use crate::lane::{Ended, Lane, Signals, Span, Work};
use crate::options::LoadArgs;
use crate::pace::Clock;
use crate::tally::Tally;
use crate::target::ByQueue;
use crate::watch::{Sample, Usage};

/// Nothing is due: what is waited for ends the wait.
const LONG: Duration = Duration::from_secs(3600);

/// Between two looks at the watched process.
const MOMENT_NS: u64 = 1_000_000_000;

/// What becomes of the readers when the last sender is done, from the offsets that were acknowledged.
pub(crate) type Goals<'g> = dyn Fn(&Audit) -> anyhow::Result<ByQueue<u64>> + 'g;

pub(crate) struct Crew<'c> {
    pub(crate) load: &'c LoadArgs,
    pub(crate) spins: bool,
    pub(crate) clock: Clock,
    pub(crate) span: Span,
    /// For readers that follow the senders: up to where they must come.
    pub(crate) goals: Option<&'c Goals<'c>>,
    /// The senders stop when everything has been read.
    pub(crate) stop_after_reading: bool,
}

/// What a run has counted.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Option<(Tally, Ledger)>,
    pub(crate) read: Option<(Tally, Faults, Audit)>,
    pub(crate) watched: Option<Usage>,
}

/// How many load threads there are.
pub(crate) fn lanes(load: &LoadArgs) -> anyhow::Result<usize> {
    Ok(load.cpus()?.map_or(1, |cpus| cpus.len()))
}

impl Crew<'_> {
    /// One thread for each piece of work; returns when the last of them has ended.
    pub(crate) fn run(&self, work: Vec<Work<'_>>) -> anyhow::Result<Outcome> {
        let cpus = self.load.cpus()?;
        let (spins, clock) = (self.spins, self.clock);
        let signals = Signals::new();
        let senders = work.iter().filter(|one| one.sending.is_some()).count();
        let readers = work.iter().filter(|one| one.reading.is_some()).count();
        thread::scope(|scope| {
            let (ended, endings) = mpsc::channel();
            let mut running = Vec::new();
            for (i, work) in work.into_iter().enumerate() {
                let (ended, signals) = (ended.clone(), &signals);
                let cpu = cpus.as_ref().and_then(|cpus| cpus.get(i).copied());
                running.push(scope.spawn(move || {
                    let done = pin(cpu)
                        .and_then(|()| Lane::new(work, spins, clock, signals))
                        .and_then(|lane| lane.run(signals, &ended));
                    if done.is_err() {
                        // Nobody is to wait for this lane.
                        let _ = ended.send(Ended::Failed);
                    }
                    done
                }));
            }
            drop(ended);
            let outcome = self.attend(&endings, &signals, senders, readers);
            for lane in running {
                lane.join().map_err(|_| anyhow!("a load thread panicked"))??;
            }
            outcome
        })
    }

    /// Collects what the lanes hand over, tells them what follows from it, and samples the watched process at both
    /// ends of the measured time. The channel ends with the last lane.
    fn attend(
        &self,
        endings: &mpsc::Receiver<Ended>,
        signals: &Signals,
        mut senders: usize,
        mut readers: usize,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let (mut first, mut last) = (None, None);
        let mut moments = Vec::new();
        loop {
            let now = self.clock.now_ns();
            let mut timeout = LONG;
            if let Some(pid) = self.load.watch_pid {
                for (sample, at) in [(&mut first, self.span.measure_from), (&mut last, self.span.send_until)] {
                    if sample.is_none() && now >= at {
                        *sample = Some(Sample::take(pid)?);
                    } else if sample.is_none() {
                        timeout = timeout.min(self.clock.until(at));
                    }
                }
                if let (Some(first), None) = (&first, &last) {
                    let at = self.span.measure_from + (moments.len() as u64 + 1) * MOMENT_NS;
                    if now >= at {
                        moments.push(Sample::moment(first, &Sample::take(pid)?));
                    }
                    timeout = timeout.min(self.clock.until(at));
                }
            }
            match endings.recv_timeout(timeout) {
                Ok(Ended::Sent(sent)) => {
                    merge_sent(&mut outcome.sent, *sent)?;
                    senders -= 1;
                    if let (0, Some(goals), Some((_, ledger))) = (senders, self.goals, &outcome.sent) {
                        // Without goals the readers give up after their patience.
                        signals.read_to(goals(&ledger.kept).unwrap_or_default())?;
                    }
                }
                Ok(Ended::Read(read)) => {
                    merge_read(&mut outcome.read, *read)?;
                    readers -= 1;
                    if readers == 0 && self.stop_after_reading {
                        signals.stop_sending(self.clock.now_ns())?;
                    }
                }
                Ok(Ended::Failed) => {
                    signals.stop_sending(self.clock.now_ns())?;
                    signals.read_to(Vec::new())?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let (Some(pid), Some(first)) = (self.load.watch_pid, first) {
            let last = last.map_or_else(|| Sample::take(pid), Ok)?;
            outcome.watched = Some(Usage { moments, ..first.until(&last) });
        }
        Ok(outcome)
    }
}

fn merge_sent(all: &mut Option<(Tally, Ledger)>, one: (Tally, Ledger)) -> anyhow::Result<()> {
    match all {
        Some((tally, ledger)) => {
            tally.merge(&one.0)?;
            ledger.merge(&one.1);
        }
        None => *all = Some(one),
    }
    Ok(())
}

fn merge_read(all: &mut Option<(Tally, Faults, Audit)>, one: (Tally, Faults, Audit)) -> anyhow::Result<()> {
    match all {
        Some((tally, faults, seen)) => {
            tally.merge(&one.0)?;
            faults.add(&one.1);
            seen.merge(&one.2);
        }
        None => *all = Some(one),
    }
    Ok(())
}

fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    if let Some(id) = cpu {
        ensure!(
            core_affinity::set_for_current(core_affinity::CoreId { id }),
            "cannot run on CPU {id}: choose others with --cpu"
        );
    }
    Ok(())
}
