//! Whether the host left this machine its cores while a test ran.
//!
//! The host of a virtual machine may take its cores away, for a second and more at a time. RocketMQ's clients wait three for
//! an answer, and one that gave up meanwhile says nothing about the server. The kernel counts what was taken (`steal` in
//! `/proc/stat`), so such a failure can be told from all others, which count at once.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long RocketMQ's clients wait for an answer unless told otherwise.
const WINDOW: Duration = Duration::from_secs(3);
/// A failure does not count if one core was gone for as much of a window.
const TAKEN: Duration = Duration::from_secs(1);
/// How often a scenario is played at most. The last time always counts.
const PLAYS: usize = 3;
const SAMPLE: Duration = Duration::from_millis(100);
/// The unit of `/proc/stat`, `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// Plays a scenario, again if it fails while the host had a core of this machine. It says so past the test's captured
/// output.
pub(crate) fn played(scenario: impl Fn()) {
    for _ in 1..PLAYS {
        let (ended, taken) = watched(|| panic::catch_unwind(AssertUnwindSafe(&scenario)));
        let Err(failure) = ended else { return };
        if taken < TAKEN {
            panic::resume_unwind(failure);
        }
        let test = thread::current();
        let (name, taken) = (test.name().unwrap_or("a case"), taken.min(WINDOW));
        let _unseen =
            writeln!(io::stderr(), "{name}: failed while the host had a core for {taken:?} of {WINDOW:?}; again");
    }
    scenario();
}

/// Also tells the most that was taken from one core in any window meanwhile.
fn watched<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut samples, mut most) = (VecDeque::new(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let (now, cores) = (Instant::now(), stolen());
                // One that is older is kept, so that a pause of this thread itself is not missed.
                while samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
                    samples.pop_front();
                }
                samples.push_back((now, cores));
                most = most.max(taken(&samples));
                thread::sleep(SAMPLE);
            }
            most
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let most = watch.join().unwrap();
        (done, TICK * most)
    })
}

/// The most ticks that one core lost from the first sample to the last.
fn taken(samples: &VecDeque<(Instant, Vec<u32>)>) -> u32 {
    let (Some((_, first)), Some((_, last))) = (samples.front(), samples.back()) else { return 0 };
    first.iter().zip(last).map(|(before, now)| now.saturating_sub(*before)).max().unwrap_or(0)
}

/// What was taken from each core since the machine was started, in ticks.
fn stolen() -> Vec<u32> {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    cores.map(|line| line.split_whitespace().nth(8).unwrap().parse().unwrap()).collect()
}
