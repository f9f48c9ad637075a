//! One load thread: its loop, and the two things that it may do in it, sending and reading. The loop knows when to wake
//! and which connection has something; what that means is the role's. A lane shares nothing while it runs but three
//! words that the lanes read: when to stop sending, up to where to read, and whom to wake for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use mio::Waker;

use crate::audit::{Audit, Ledger};
use crate::consume::{Faults, Reading};
use crate::pace::{Clock, Pace, thread_cpu_ns};
use crate::send::Sending;
use crate::series::Cut;
use crate::tally::Tally;
use crate::target::ByQueue;

/// No end was told yet.
const OPEN: u64 = u64::MAX;

/// When a load sends, measures and gives up, in nanoseconds of the run's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) measure_from: u64,
    pub(crate) send_until: u64,
    pub(crate) patience: u64,
}

impl Span {
    pub(crate) fn new(warmup: f64, seconds: f64, patience: Duration) -> Span {
        let measure_from = (warmup * 1e9) as u64;
        let send_until = measure_from + (seconds * 1e9) as u64;
        Span { measure_from, send_until, patience: patience.as_nanos() as u64 }
    }

    /// A load that goes on until it is told to stop.
    pub(crate) fn open(patience: Duration) -> Span {
        Span { measure_from: 0, send_until: OPEN, patience: patience.as_nanos() as u64 }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.send_until == OPEN
    }

    /// An open loop may send until then what was due before `send_until`.
    pub(crate) fn overtime_until(&self) -> u64 {
        self.send_until.saturating_add(self.patience / 2)
    }

    pub(crate) fn give_up(&self) -> u64 {
        self.send_until.saturating_add(self.patience)
    }

    /// The measured time, cut into intervals.
    pub(crate) fn cut(&self) -> Cut {
        Cut::new(self.measure_from, self.send_until)
    }

    pub(crate) fn measures(&self, at_ns: u64) -> bool {
        (self.measure_from..self.send_until).contains(&at_ns)
    }

    /// How much of a stretch of time lies in the measured time.
    fn measured_part(&self, (from, to): (u64, u64)) -> u64 {
        to.min(self.send_until).saturating_sub(from.max(self.measure_from))
    }

    /// A tally for this time; how its figures move is kept where its length is known.
    pub(crate) fn tally(&self) -> anyhow::Result<Tally> {
        if self.is_open() { Tally::new() } else { Tally::cut(self.cut()) }
    }
}

/// What lanes are told while they run.
#[derive(Debug)]
pub(crate) struct Signals {
    stop_at: AtomicU64,
    goals: OnceLock<ByQueue<u64>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Signals {
    pub(crate) fn new() -> Signals {
        Signals { stop_at: AtomicU64::new(OPEN), goals: OnceLock::new(), wakers: Mutex::new(Vec::new()) }
    }

    pub(crate) fn stop_sending(&self, at_ns: u64) -> anyhow::Result<()> {
        self.stop_at.store(at_ns, Ordering::Relaxed);
        self.wake()
    }

    pub(crate) fn stop_at(&self) -> u64 {
        self.stop_at.load(Ordering::Relaxed)
    }

    /// Tells up to where each queue is to be read.
    pub(crate) fn read_to(&self, goals: ByQueue<u64>) -> anyhow::Result<()> {
        // Told once; a second time changes nothing.
        let _ = self.goals.set(goals);
        self.wake()
    }

    pub(crate) fn goals(&self) -> Option<&ByQueue<u64>> {
        self.goals.get()
    }

    fn wake(&self) -> anyhow::Result<()> {
        for waker in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waker.wake()?;
        }
        Ok(())
    }
}

/// What a lane hands over when one of its roles is done.
#[derive(Debug)]
pub(crate) enum Ended {
    Sent(Box<(Tally, Ledger)>),
    /// The last is what was recognized by its number.
    Read(Box<(Tally, Faults, Audit)>),
    /// The lane cannot go on; its error follows when it is joined.
    Failed,
}

/// What one thread has to do.
#[derive(Debug, Default)]
pub(crate) struct Work<'a> {
    pub(crate) sending: Option<Sending<'a>>,
    pub(crate) reading: Option<Reading<'a>>,
}

#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pace: Pace,
    clock: Clock,
    work: Work<'a>,
    /// Tokens below this are the senders'.
    senders: usize,
    /// Time that was waited, of the sender's measured time and of all of it.
    waited_measured: u64,
    waited: u64,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(mut work: Work<'a>, spins: bool, clock: Clock, signals: &Signals) -> anyhow::Result<Lane<'a>> {
        let pace = Pace::new(spins)?;
        let registry = pace.poll.registry();
        let senders = work.sending.as_ref().map_or(0, Sending::links);
        if let Some(sending) = &mut work.sending {
            sending.register(registry, 0)?;
        }
        if let Some(reading) = &mut work.reading {
            reading.register(registry, senders)?;
        }
        signals.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(pace.waker()?);
        Ok(Lane { pace, clock, work, senders, waited_measured: 0, waited: 0 })
    }

    /// Runs until both roles are done, and hands over what each has counted as soon as it is.
    pub(crate) fn run(mut self, signals: &Signals, ended: &mpsc::Sender<Ended>) -> anyhow::Result<()> {
        let mut ready = Vec::with_capacity(1024);
        let begun = self.clock.now_ns();
        loop {
            let now = self.clock.now_ns();
            let mut wake_at = u64::MAX;
            let mut measured = None;
            if let Some(sending) = &mut self.work.sending {
                sending.turn(now, signals);
                measured = Some(*sending.span());
                wake_at = sending.wake_at(now);
            }
            if let Some(sending) = self.work.sending.take_if(|sending| sending.is_over(now)) {
                let (mut tally, ledger) = sending.finish(now);
                tally.waited_ns = self.waited_measured;
                tally.cpu_ns = thread_cpu_ns();
                wake_at = u64::MAX;
                // The receiver is gone only when the run has been given up.
                let _ = ended.send(Ended::Sent(Box::new((tally, ledger))));
            }
            if let Some(reading) = &mut self.work.reading {
                reading.turn(now, signals);
                wake_at = wake_at.min(reading.wake_at());
            }
            if let Some(reading) = self.work.reading.take_if(|reading| reading.is_over(now)) {
                let (mut tally, faults, seen) = reading.finish(now, begun);
                tally.thread_ns = now - begun;
                tally.waited_ns = self.waited;
                tally.cpu_ns = thread_cpu_ns();
                let _ = ended.send(Ended::Read(Box::new((tally, faults, seen))));
            }
            let Work { sending, reading } = &mut self.work;
            if sending.is_none() && reading.is_none() {
                return Ok(());
            }
            let waited = self.pace.wait(&self.clock, wake_at, &mut ready)?;
            self.waited += waited.1 - waited.0;
            self.waited_measured += measured.map_or(0, |span| span.measured_part(waited));
            for token in &ready {
                match token.checked_sub(self.senders) {
                    None => {
                        if let Some(sending) = sending {
                            sending.serve(*token, &self.clock);
                        }
                    }
                    Some(token) => {
                        if let Some(reading) = reading {
                            reading.serve(token, &self.clock);
                        }
                        // Long replies must not make the sends late that became due meanwhile.
                        if let Some(sending) = sending {
                            sending.turn(self.clock.now_ns(), signals);
                        }
                    }
                }
            }
        }
    }
}
