//! A load thread's clock and its way of waiting: blocked in `epoll` with a timer finer than epoll's millisecond, or
//! polling without sleep. Owned by one thread.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

const TIMER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Nearer than this a sleep would come back late; the thread polls instead.
const SPIN_BELOW_NS: u64 = 20_000;

/// The beginning of a run, the same for all its threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begun: Instant,
    begun_wall_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { begun: Instant::now(), begun_wall_ms: wall.as_millis() as u64 }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    pub(crate) fn wall_ms(&self, now_ns: u64) -> u64 {
        self.begun_wall_ms + now_ns / 1_000_000
    }

    /// Nanoseconds since 1970 by the system's clock, which is what a message's time means. The run's own clock would
    /// drift away from it.
    pub(crate) fn system_ns() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
    }

    /// Time left until `at_ns`.
    pub(crate) fn until(&self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.now_ns()))
    }
}

/// CPU time that this thread has used.
pub(crate) fn thread_cpu_ns() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) poll: Poll,
    events: Events,
    timer: OwnedFd,
    /// When the timer goes off, on the run's clock.
    armed_ns: u64,
    spins: bool,
}

impl Pace {
    pub(crate) fn new(spins: bool) -> io::Result<Pace> {
        let poll = Poll::new()?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Pace { poll, events: Events::with_capacity(1024), timer, armed_ns: 0, spins })
    }

    /// Ends a wait from another thread.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Waits for an event, at most until `until_ns`, and fills `ready` with the tokens. Returns when it began to wait
    /// and when it ended; polling without sleep counts as waiting if it found nothing.
    pub(crate) fn wait(&mut self, clock: &Clock, until_ns: u64, ready: &mut Vec<usize>) -> io::Result<(u64, u64)> {
        let before = clock.now_ns();
        let left = until_ns.saturating_sub(before);
        let timeout = if self.spins || left < SPIN_BELOW_NS {
            Some(Duration::ZERO)
        } else if until_ns == u64::MAX {
            None
        } else {
            if self.armed_ns != until_ns {
                self.arm(left)?;
                self.armed_ns = until_ns;
            }
            None
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        ready.clear();
        ready.extend(
            self.events.iter().map(mio::event::Event::token).filter(|t| *t != TIMER && *t != WAKER).map(|t| t.0),
        );
        let found_at_once = timeout.is_some() && !ready.is_empty();
        Ok((before, if found_at_once { before } else { clock.now_ns() }))
    }

    fn arm(&self, after_ns: u64) -> io::Result<()> {
        let at = Timespec { tv_sec: (after_ns / 1_000_000_000) as i64, tv_nsec: (after_ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_without_events_ends_at_its_time() {
        let clock = Clock::start();
        let mut pace = Pace::new(false).unwrap();
        let mut ready = vec![1];
        for _ in 0..3 {
            let until = clock.now_ns() + 300_000;
            let (began, ended) = pace.wait(&clock, until, &mut ready).unwrap();
            assert!(ready.is_empty());
            assert!(began < until && until <= ended, "waited from {began} to {ended}, not to {until}");
        }
    }
}
