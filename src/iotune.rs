//! `ringmq iotune DIR`: measures the disk below DIR as the broker uses it and leaves the best way of doing so in
//! `DIR/iotune.json`, which the broker reads at its next start.
//!
//! The map: `plan` says what is measured and for how long, `measure` does it on pinned executors, with the seam's own
//! files in `target`. `choose` is the rule that picks the winners from the `figures`. `device` knows which disk it is,
//! `file` is what is written down, `report` the page for people.

mod choose;
pub(crate) mod device;
mod figures;
pub(crate) mod file;
mod measure;
mod plan;
mod report;
mod target;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use ringmq_rt::host::{self, Stop};

use self::device::Device;
use self::file::{Chosen, Document, Measured};
use self::measure::{Figures, Job, Trouble};
use crate::cli::Exit;
use crate::config::value;
use crate::failure::Failure;
use crate::run::place;
use crate::{log, out};

/// A core that is kept busy is what this does on purpose: the stall watch of the runtime has nothing to say about it.
const LOG: &str = "warn,ringmq_rt=error";

#[derive(Debug, Args)]
pub(crate) struct IotuneArgs {
    /// Folder of the store (storePathRootDir) whose disk is measured; no broker may be running on it.
    dir: PathBuf,
    /// How long to measure, in seconds; preparing the files comes on top.
    #[arg(long, value_name = "SECONDS", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Cores that the broker is to run on (cpus), like 0,2-3; the others are kept busy as well.
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Print what is written to the file, instead of tables.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &IotuneArgs) -> Result<(), Failure> {
    log::init(LOG)?;
    let dir = folder(&args.dir)?;
    let device = Device::below(&dir).map_err(|error| failed(&dir, error))?;
    if device.is_memory() {
        return Err(Failure::refused(format!(
            "{}: {} is memory, not a disk, and nothing on it is durable; name a folder on a disk",
            dir.display(),
            device.file_system
        )));
    }
    let job = job(args, dir)?;
    let _alone = alone(&job.dir)?;
    let kernel = file::kernel().map_err(|error| Failure::refused(format!("the kernel's release: {error}")))?;
    let interrupt = Interrupt::new()?;
    let figures = measure::measure(&job, &interrupt.stop);
    if interrupt.was_asked.load(Ordering::SeqCst) {
        return Err(Failure::refused("interrupted: nothing was written down"));
    }
    let Figures { commit, write, read } = figures.map_err(|trouble| explain(&job, &device, &trouble))?;
    let none = || Failure::new(Exit::Bug, "the measurement has no figures to choose from");
    let (writes, reads) = (choose::stream(&write).ok_or_else(none)?, choose::stream(&read).ok_or_else(none)?);
    let chosen = Chosen {
        commit_method: choose::commit_method(&commit).ok_or_else(none)?,
        write_bytes: writes.bytes,
        write_depth: writes.depth,
        read_bytes: reads.bytes,
        read_depth: reads.depth,
    };
    let measured = Measured { kernel, device, cores: job.cores, seconds: args.seconds, commit, write, read };
    let document = Document::new(measured, chosen);
    if args.json {
        out::print(&document.text().map_err(|error| Failure::new(Exit::Bug, error))?);
    } else {
        out::print(&report::page(&document));
    }
    let path =
        document.save(&job.dir).map_err(|error| Failure::refused(format!("nothing was written down: {error}")))?;
    if !args.json {
        out::line(format_args!(
            "\nwritten to {}; a broker with its store there uses it from its next start",
            path.display()
        ));
    }
    Ok(())
}

/// The folder, if it is one.
fn folder(dir: &Path) -> Result<PathBuf, Failure> {
    let dir = std::fs::canonicalize(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::refused(format!("{0}: there is no such folder; make it first: mkdir -p {0}", dir.display()))
        }
        _ => failed(dir, error),
    })?;
    if dir.is_dir() {
        return Ok(dir);
    }
    Err(Failure::refused(format!("{}: it is not a folder; name the store's folder", dir.display())))
}

fn failed(dir: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("{}: {error}", dir.display()))
}

fn job(args: &IotuneArgs, dir: PathBuf) -> Result<Job, Failure> {
    let chosen = args.cpus.as_deref().map(value::parse_cpus).transpose();
    let chosen = chosen.map_err(|fault| Failure::usage(format!("--cpus: {fault}")))?;
    let usable = place::usable_cores()?;
    let cores = place::choose_cores(chosen.as_deref(), &usable)?.broker;
    let others = usable.into_iter().filter(|core| !cores.contains(core)).collect();
    Ok(Job { dir, cores, others, time: Duration::from_secs(u64::from(args.seconds)) })
}

/// Keeps a broker away from the store, if there is a store, as a broker keeps other brokers away.
fn alone(dir: &Path) -> Result<Option<File>, Failure> {
    let path = dir.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(Failure::refused(format!(
            "{}: a broker is using this store, and each would disturb the other; stop the broker first",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(&path, error)),
    }
}

/// A signal ends the measurement in order; a second one ends the process, whatever the disk is doing.
struct Interrupt {
    stop: Stop,
    was_asked: Arc<AtomicBool>,
}

impl Interrupt {
    fn new() -> Result<Interrupt, Failure> {
        let cannot = |error| Failure::refused(format!("signals cannot be waited for: {error}"));
        host::block_termination().map_err(cannot)?;
        let interrupt = Interrupt { stop: Stop::new(), was_asked: Arc::default() };
        let (stop, was_asked) = (interrupt.stop.clone(), Arc::clone(&interrupt.was_asked));
        let watch = move || {
            if host::wait_termination().is_ok() {
                was_asked.store(true, Ordering::SeqCst);
                stop.request();
            }
            if host::wait_termination().is_ok() {
                std::process::exit(i32::from(Exit::Refused as u8));
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(cannot)?;
        Ok(interrupt)
    }
}

/// What went wrong, with what to do about it.
fn explain(job: &Job, device: &Device, trouble: &Trouble) -> Failure {
    let dir = job.dir.display();
    let Trouble::Disk(error) = trouble else { return Failure::refused(trouble) };
    let room = job.room() >> 20;
    Failure::refused(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("{dir}: the disk is full ({error}); {room} MiB have to be free while it is measured")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => format!(
            "{dir}: its file system, {}, cannot do what the broker needs, direct I/O and allocated files ({error}); \
             name a folder on ext4 or XFS",
            device.file_system
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{dir}: this user may not make files there ({error}); run it as the user of the broker")
        }
        io::ErrorKind::ReadOnlyFilesystem => format!("{dir}: it is mounted read-only; mount it for writing first"),
        _ => format!("{dir}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: io::ErrorKind) -> String {
        let job = Job { dir: "/data".into(), cores: vec![0, 1], others: vec![], time: Duration::from_secs(1) };
        let device = Device { file_system: "odd".to_owned(), ..Device::default() };
        explain(&job, &device, &Trouble::Disk(io::Error::new(kind, "create x: no"))).to_string()
    }

    #[test]
    fn each_trouble_names_its_remedy() {
        for (kind, words) in [
            (io::ErrorKind::StorageFull, "320 MiB have to be free"),
            (io::ErrorKind::InvalidInput, "its file system, odd,"),
            (io::ErrorKind::Unsupported, "ext4 or XFS"),
            (io::ErrorKind::PermissionDenied, "as the user of the broker"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::TimedOut, "create x: no"),
        ] {
            let told = told(kind);
            assert!(told.starts_with("/data: ") && told.contains(words) && !told.contains('\n'), "{told}");
        }
    }
}
