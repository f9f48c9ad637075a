//! `kill -9` at each exact step of a retry, a delay, a timer, a transaction, an offset commit and the making of a group.
//!
//! The broker that tests run ends itself by SIGKILL when it passes a step for the n-th time (`engine/rt/src/hooks.rs`); the
//! list of steps is in `docs/CONTRIBUTING.md`. Under SYNC_FLUSH everything acknowledged before is there afterwards, nothing
//! that was taken back, and what comes a second time is exactly what lies behind the progress that was saved: the audits
//! read that progress from the store's files, as the broker does.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "steps/clock.rs"]
mod clock;
#[path = "steps/creations.rs"]
mod creations;
#[path = "steps/deleted.rs"]
mod deleted;
#[path = "steps/flood.rs"]
mod flood;
#[path = "steps/forced.rs"]
mod forced;
#[path = "steps/halves.rs"]
mod halves;
#[path = "steps/levels.rs"]
mod levels;
#[path = "steps/offsets.rs"]
mod offsets;
#[path = "steps/own_progress.rs"]
mod own_progress;
#[path = "steps/parked.rs"]
mod parked;
#[path = "steps/rolled.rs"]
mod rolled;
#[path = "steps/sent_back.rs"]
mod sent_back;
#[path = "steps/stuck.rs"]
mod stuck;
#[path = "steps/timers.rs"]
mod timers;
#[path = "steps/unfit.rs"]
mod unfit;
#[path = "steps/unread.rs"]
mod unread;
#[path = "steps/victim.rs"]
mod victim;
