//! Whose turn it is: how many tests of one program run at a time.
//!
//! What has servers and JVMs waits more than it works, so more of it runs together than there are cores. What has a short
//! bound in seconds, or is a load itself, has the machine to itself.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::server::Make;

/// Tests at a time. Each has a broker and one or two JVMs of 256 MiB; `.cargo/config.toml` gives the tests as many threads.
const TOGETHER: usize = 4;

#[derive(Debug, Default)]
struct Turns {
    running: usize,
    /// Somebody has the machine alone.
    one: bool,
    /// How many would like to. Nobody else begins meanwhile.
    wanted: usize,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns { running: 0, one: false, wanted: 0 });
static CHANGED: Condvar = Condvar::new();

fn turns() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while(turns: MutexGuard<'static, Turns>, wait: impl FnMut(&mut Turns) -> bool) -> MutexGuard<'static, Turns> {
    CHANGED.wait_while(turns, wait).unwrap_or_else(PoisonError::into_inner)
}

/// A test's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    alone: bool,
}

/// With some others. Apache's servers need the machine to themselves.
pub(crate) fn together() -> Turn {
    among(TOGETHER)
}

/// With fewer others: for what minds how long a client takes from one message to the next.
pub(crate) fn among(most: usize) -> Turn {
    if Make::under_test() != Make::Ours {
        return alone();
    }
    let mut turns = wait_while(turns(), |turns| turns.one || turns.wanted > 0 || turns.running >= most);
    turns.running += 1;
    Turn { alone: false }
}

/// With the machine to itself.
pub(crate) fn alone() -> Turn {
    let mut turns = turns();
    turns.wanted += 1;
    let mut turns = wait_while(turns, |turns| turns.one || turns.running > 0);
    turns.wanted -= 1;
    turns.one = true;
    Turn { alone: true }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = turns();
        if self.alone {
            turns.one = false;
        } else {
            turns.running -= 1;
        }
        drop(turns);
        CHANGED.notify_all();
    }
}
