//! The disk itself, below the same folder as the stores: how long one durable write takes, and how much it takes in
//! when writes queue up. Direct I/O on a file of real zeros, as the engine writes its log; without that, the first write
//! to each place would also change the file system's tables.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use rustix::io::ReadWriteFlags;
use serde::Serialize;

use crate::encoded;
use crate::report::Percentiles;

/// The smallest write that every disk takes without reading first.
const BLOCK: usize = 4096;
/// What one sequential write carries.
const CHUNK: usize = 128 << 10;
/// Sequential writes under way at once.
const DEPTH: usize = 16;
/// Written over again and again.
const FILE_SIZE: u64 = 256 << 20;

/// A file to write into, removed with the folder that holds it.
#[derive(Debug)]
pub(crate) struct Probe {
    path: PathBuf,
    durable: Histogram<u64>,
    written: u64,
    writing: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeviceReport {
    /// One write of 4 KiB with RWF_DSYNC at a time, microseconds.
    pub(crate) durable_write_us: Percentiles,
    pub(crate) durable_write_histogram: String,
    pub(crate) durable_write_curve: Vec<(f64, f64)>,
    /// Writes of 128 KiB, 16 under way.
    pub(crate) sequential_bytes_per_second: f64,
    pub(crate) sequential_block_bytes: usize,
    pub(crate) sequential_depth: usize,
}

impl Probe {
    /// Makes the file.
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Probe> {
        let path = folder.join("device");
        let file = File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..FILE_SIZE / zeros.len() as u64 {
            (&file).write_all(&zeros).with_context(|| format!("cannot write {}", path.display()))?;
        }
        file.sync_all().with_context(|| format!("cannot flush {}", path.display()))?;
        Ok(Probe { path, durable: Histogram::new(3)?, written: 0, writing: Duration::ZERO })
    }

    /// Adds to the figures for about so long, half of it each.
    pub(crate) fn measure(&mut self, time: Duration) -> anyhow::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed())
            .open(&self.path)
            .with_context(|| format!("{}: this file system takes no direct I/O", self.path.display()))?;
        self.durable(&file, time / 2)?;
        self.sequential(&file, time / 2)
    }

    fn durable(&mut self, file: &File, time: Duration) -> anyhow::Result<()> {
        let buffer = Aligned::new(BLOCK);
        let begun = Instant::now();
        let mut at = 0;
        while begun.elapsed() < time {
            let before = Instant::now();
            write(file, buffer.bytes(), at, ReadWriteFlags::DSYNC)?;
            self.durable.record(before.elapsed().as_nanos() as u64)?;
            at = (at + BLOCK as u64) % FILE_SIZE;
        }
        Ok(())
    }

    fn sequential(&mut self, file: &File, time: Duration) -> anyhow::Result<()> {
        let next = AtomicU64::new(0);
        let begun = Instant::now();
        thread::scope(|scope| {
            let write_on = || -> anyhow::Result<()> {
                let buffer = Aligned::new(CHUNK);
                while begun.elapsed() < time {
                    let at = next.fetch_add(CHUNK as u64, Ordering::Relaxed) % FILE_SIZE;
                    write(file, buffer.bytes(), at, ReadWriteFlags::empty())?;
                }
                Ok(())
            };
            let writers: Vec<_> = (0..DEPTH).map(|_| scope.spawn(write_on)).collect();
            writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| anyhow!("a writer panicked"))?)
        })?;
        self.written += next.into_inner();
        self.writing += begun.elapsed();
        Ok(())
    }

    /// `None` before the first measurement.
    pub(crate) fn report(&self) -> anyhow::Result<Option<DeviceReport>> {
        if self.durable.is_empty() {
            return Ok(None);
        }
        Ok(Some(DeviceReport {
            durable_write_us: Percentiles::of(&self.durable),
            durable_write_histogram: encoded::encode(&self.durable)?,
            durable_write_curve: encoded::curve(&self.durable),
            sequential_bytes_per_second: self.written as f64 / self.writing.as_secs_f64(),
            sequential_block_bytes: CHUNK,
            sequential_depth: DEPTH,
        }))
    }
}

fn write(file: &File, bytes: &[u8], at: u64, flags: ReadWriteFlags) -> anyhow::Result<()> {
    let written = rustix::io::pwritev2(file, &[IoSlice::new(bytes)], at, flags).context("the disk refused a write")?;
    anyhow::ensure!(written == bytes.len(), "the disk took {written} of {} bytes", bytes.len());
    Ok(())
}

/// Bytes that begin on a block, as direct I/O wants them; of a kind that no disk can shorten.
#[derive(Debug)]
struct Aligned {
    room: Vec<u8>,
    from: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let mut state: u32 = 0x9E37_79B9;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let room: Vec<u8> = (0..len + BLOCK).map(|_| next()).collect();
        let from = room.as_ptr().align_offset(BLOCK);
        Aligned { room, from, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.room[self.from..self.from + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_on_a_block() {
        let buffer = Aligned::new(CHUNK);
        assert_eq!(buffer.bytes().as_ptr().addr() % BLOCK, 0);
        assert_eq!(buffer.bytes().len(), CHUNK);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Probe::new(Path::new("/no/such/folder")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/device"), "{error}");
    }
}
