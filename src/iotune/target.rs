//! A file with written zeros, as the log has them ahead of its writer, and the disk's work on it through the seam that
//! the broker itself uses.
//!
//! The file loses its name as soon as it is open, so that nothing is left behind however the process ends.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use hdrhistogram::Histogram;
use ringmq_rt::host::Stop;
use ringmq_rt::{AlignedBuf, CommitMethod, File, Slice, Task, fs, now, spawn};

use super::plan::Phase;

/// Bytes written in one go while a file is prepared, and the largest batch.
const CHUNK: u32 = 1 << 20;
/// Operations that are measured even if the time is over.
const LEAST: u64 = 5;

/// An hour: what takes longer counts as that long.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).unwrap_or_else(|error| unreachable!("constants: {error}"))
}

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Write,
    Read,
}

/// What a stream moved.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) latency: Histogram<u64>,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

/// A prepared file.
#[derive(Debug)]
pub(super) struct Target {
    file: Rc<File>,
    len: u64,
    /// What is written: bytes that no disk can make smaller.
    noise: Slice,
    /// Where the next batch goes.
    at: Cell<u64>,
    stop: Stop,
}

impl Target {
    /// Creates `path`, takes its name away, and writes `len` bytes of zeros, a multiple of 1 MiB. Ends early when `stop`
    /// is requested.
    pub(super) async fn prepare(path: &Path, len: u64, stop: &Stop) -> io::Result<Target> {
        // A process of the same number may have been killed between the two steps.
        fs::remove(path).await?;
        let created = File::create(path).await;
        // Also after a failure: without direct I/O the file is made before it is refused.
        fs::remove(path).await?;
        let file = created?;
        file.allocate(len).await?;
        let zeros = AlignedBuf::new(CHUNK as usize).map_err(io::Error::other)?.freeze();
        for at in (0..len).step_by(CHUNK as usize) {
            if stop.is_requested() {
                break;
            }
            file.write_at(std::slice::from_ref(&zeros), at).await?;
        }
        file.sync().await?;
        Ok(Target { file: Rc::new(file), len, noise: noise()?, at: Cell::new(0), stop: stop.clone() })
    }

    /// The place of the next `bytes`, from the beginning again at the end.
    fn next(&self, bytes: u32) -> u64 {
        let at = self.at.get();
        let at = if at + u64::from(bytes) > self.len { 0 } else { at };
        self.at.set(at + u64::from(bytes));
        at
    }

    /// Makes batches durable, one after the other. The first of them warms up.
    pub(super) async fn commits(&self, phase: Phase, method: CommitMethod, bytes: u32) -> io::Result<Histogram<u64>> {
        let batch = [self.noise.cut(0..bytes as usize)];
        let mut latency = histogram();
        self.file.commit(&batch, self.next(bytes), method).await?;
        let end = now().after(phase.time);
        while (now() < end || latency.len() < LEAST) && !self.stop.is_requested() {
            let start = now();
            self.file.commit(&batch, self.next(bytes), method).await?;
            record(&mut latency, start);
        }
        Ok(latency)
    }

    /// Writes or reads in order with `depth` pieces in flight. Writes end with a flush, as ASYNC_FLUSH does now and then,
    /// and its time counts.
    pub(super) async fn stream(self: &Rc<Self>, phase: Phase, way: Way, bytes: u32, depth: u32) -> io::Result<Moved> {
        let shared = Rc::new(RefCell::new(histogram()));
        let start = now();
        let end = start.after(phase.time);
        let mut lanes: Vec<Task<io::Result<()>>> = Vec::new();
        for _ in 0..depth {
            let (target, shared) = (Rc::clone(self), Rc::clone(&shared));
            lanes.push(spawn("iotune-lane", async move {
                let mut buf = match way {
                    Way::Read => Some(AlignedBuf::new(bytes as usize).map_err(io::Error::other)?),
                    Way::Write => None,
                };
                let piece = [target.noise.cut(0..bytes as usize)];
                loop {
                    let (start, at) = (now(), target.next(bytes));
                    buf = match buf {
                        Some(buf) => Some(target.file.read_at(buf, at).await?.0),
                        None => target.file.write_at(&piece, at).await.map(|()| None)?,
                    };
                    record(&mut shared.borrow_mut(), start);
                    if now() >= end || target.stop.is_requested() {
                        return Ok(());
                    }
                }
            }));
        }
        let mut done = Ok(());
        for lane in lanes {
            // Every lane has to come to its end, whatever another met.
            done = done.and(lane.await);
        }
        done?;
        if way == Way::Write {
            self.file.sync().await?;
        }
        let seconds = now().since(start).as_secs_f64();
        let latency = shared.replace(histogram());
        Ok(Moved { bytes: latency.len() * u64::from(bytes), latency, seconds })
    }
}

fn record(latency: &mut Histogram<u64>, start: ringmq_rt::Instant) {
    let ns = u64::try_from(now().since(start).as_nanos()).unwrap_or(u64::MAX);
    latency.saturating_record(ns.max(1));
}

/// 1 MiB from a xorshift generator.
fn noise() -> io::Result<Slice> {
    let mut buf = AlignedBuf::new(CHUNK as usize).map_err(io::Error::other)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for word in buf.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    Ok(buf.freeze())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringmq_rt::host::block_on;

    use super::super::figures::{Cores, Latency};
    use super::super::plan::Cell as PlanCell;
    use super::*;

    #[test]
    fn values_keep_three_digits() {
        let mut latency = histogram();
        for us in 1..=1000 {
            latency.saturating_record(us * 1000);
        }
        let found = Latency::of(&latency);
        assert_eq!(found.count, 1000);
        for (value, expected) in [(found.p50_us, 500.0), (found.p99_us, 990.0), (found.max_us, 1000.0)] {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} for {expected}");
        }
    }

    #[test]
    fn work_leaves_no_name_and_counts_what_it_did() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "left by a process that was killed").unwrap();
        let of = path.clone();
        let (commits, moved, wrapped) = block_on(move || async move {
            let stop = Stop::new();
            let target = Rc::new(Target::prepare(&of, 2 << 20, &stop).await.unwrap());
            assert!(!of.exists(), "the name is gone as soon as the file is open");
            let cell = PlanCell::Commit { method: CommitMethod::Thread, bytes: 65536, cores: Cores::Idle };
            let phase = Phase { cell, time: Duration::ZERO };
            let commits = target.commits(phase, CommitMethod::Thread, 65536).await.unwrap().len();
            let moved = target.stream(phase, Way::Read, 1 << 20, 3).await.unwrap();
            assert!(moved.seconds > 0.0);
            stop.request();
            assert_eq!(target.commits(phase, CommitMethod::Thread, 65536).await.unwrap().len(), 0);
            (commits, moved.bytes, target.next(1 << 20))
        })
        .unwrap();
        assert_eq!((commits, moved), (LEAST, 3 << 20), "the least, and one piece a lane");
        assert!(wrapped <= 1 << 20, "it begins anew at the end: {wrapped}");
    }
}
