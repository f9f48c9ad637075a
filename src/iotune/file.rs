//! `iotune.json`, what a measurement leaves in a store's folder: written once, at once or not at all, and read by the
//! broker whose `storePathRootDir` is that very folder. It advises and never stops a start.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ringmq_rt::CommitMethod;
use ringmq_rt::fs;
use ringmq_rt::host::{self, StartError};
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::figures::{CommitFigure, StreamFigure, method};
use crate::run::place;

/// The file's name.
pub(crate) const NAME: &str = "iotune.json";
/// The layout of the file that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// Some hundred times as long as it is.
const LENGTH_MAX: u64 = 4 << 20;

/// A measurement and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    version: u32,
    pub(crate) measured_at: Timestamp,
    /// Version of the program that measured.
    pub(crate) program: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    pub(crate) device: Device,
    /// Cores that committed.
    pub(crate) cores: Vec<usize>,
    pub(crate) seconds: u32,
    pub(crate) chosen: Chosen,
    pub(crate) commit: Vec<CommitFigure>,
    pub(crate) write: Vec<StreamFigure>,
    pub(crate) read: Vec<StreamFigure>,
}

/// The winners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chosen {
    /// How a batch is made durable soonest.
    #[serde(with = "method")]
    pub(crate) commit_method: CommitMethod,
    /// Bytes of a write, and how many at once, that keep the disk busy.
    pub(crate) write_bytes: u32,
    pub(crate) write_depth: u32,
    /// The same for reads.
    pub(crate) read_bytes: u32,
    pub(crate) read_depth: u32,
}

impl Chosen {
    /// Bytes to have under way for a reader of old messages.
    pub(crate) fn read_ahead(&self) -> u64 {
        u64::from(self.read_bytes) * u64::from(self.read_depth)
    }
}

/// Why a file that is there is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is longer than {LENGTH_MAX} bytes")]
    Long,
    #[error("it is not what `ringmq iotune` writes: {0}")]
    Form(#[from] serde_json::Error),
    #[error("its version is {0}, and this program reads {VERSION}")]
    Version(u32),
    #[error("it was measured on {0}")]
    Device(String),
    #[error("it was measured on Linux {then}, and this is {now}")]
    Kernel { then: String, now: String },
    #[error("it was measured for a broker on cores {then}, and this one runs on {now}")]
    Cores { then: String, now: String },
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Document {
    pub(crate) fn new(measured: Measured, chosen: Chosen) -> Document {
        let Measured { kernel, device, cores, seconds, commit, write, read } = measured;
        Document {
            version: VERSION,
            measured_at: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            device,
            cores,
            seconds,
            chosen,
            commit,
            write,
            read,
        }
    }

    fn parse(bytes: &[u8]) -> Result<Document, Unusable> {
        let head: Head = serde_json::from_slice(bytes)?;
        if head.version != VERSION {
            return Err(Unusable::Version(head.version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Whether it still holds on this kernel and this device, for a broker on these cores: which method is best depends
    /// on where commits and the disk's interrupts meet.
    fn check(&self, kernel: &str, device: &Device, cores: &[usize]) -> Result<(), Unusable> {
        let major = |release: &str| release.split('.').next().map(str::to_owned);
        if major(&self.kernel) != major(kernel) {
            return Err(Unusable::Kernel { then: self.kernel.clone(), now: kernel.to_owned() });
        }
        if let Some(why) = self.device.difference(device) {
            return Err(Unusable::Device(why));
        }
        let sorted = |cores: &[usize]| {
            let mut cores = cores.to_vec();
            cores.sort_unstable();
            cores
        };
        let (then, now) = (sorted(&self.cores), sorted(cores));
        if then == now { Ok(()) } else { Err(Unusable::Cores { then: place::ranges(&then), now: place::ranges(&now) }) }
    }

    /// The JSON text, as it is written.
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Replaces the file in `dir`, durably. A failure leaves the former one, and nothing beside it.
    pub(crate) fn save(&self, dir: &Path) -> Result<PathBuf, Unsaved> {
        let path = dir.join(NAME);
        let (text, to) = (self.text()?, path.clone());
        host::block_on(move || async move {
            let replaced = fs::replace(&to, text.into_bytes(), false).await;
            if replaced.is_err() {
                // What `replace` had begun; that it cannot be removed either says nothing new.
                let _ = fs::remove(&dir_entry(&to, ".tmp")).await;
            }
            replaced
        })??;
        Ok(path)
    }
}

/// What `Document::new` takes together.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) kernel: String,
    pub(crate) device: Device,
    pub(crate) cores: Vec<usize>,
    pub(crate) seconds: u32,
    pub(crate) commit: Vec<CommitFigure>,
    pub(crate) write: Vec<StreamFigure>,
    pub(crate) read: Vec<StreamFigure>,
}

/// Why a measurement was not written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsaved {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    #[error("{0}")]
    Start(#[from] StartError),
}

fn dir_entry(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The release of the running kernel.
pub(crate) fn kernel() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned())
}

/// What a broker on `cores` with its store in `dir` may use; nothing where there is no file.
pub(crate) fn load(dir: &Path, cores: &[usize]) -> Result<Option<Document>, Unusable> {
    let Some(bytes) = read(&dir.join(NAME))? else { return Ok(None) };
    let document = Document::parse(&bytes)?;
    document.check(&kernel()?, &Device::below(dir)?, cores)?;
    Ok(Some(document))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LENGTH_MAX { Err(Unusable::Long) } else { Ok(Some(bytes)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::figures::{Cores, Latency};
    use super::*;

    /// A measurement of the disk below `dir`, made up.
    pub(crate) fn document(dir: &Path, commit_method: CommitMethod) -> Document {
        let latency = Latency { count: 9, p50_us: 1.0, p90_us: 2.0, p99_us: 3.5, p999_us: 4.0, max_us: 5.0 };
        let commit = CommitFigure { method: commit_method, bytes: 4096, cores: Cores::Busy, latency, cpu_us: None };
        let stream = StreamFigure { bytes: 131_072, depth: 4, mb_per_second: 2000.5, latency };
        let measured = Measured {
            kernel: kernel().unwrap(),
            device: Device::below(dir).unwrap(),
            cores: vec![0, 1],
            seconds: 40,
            commit: vec![commit],
            write: vec![stream.clone()],
            read: vec![stream],
        };
        let chosen = Chosen { commit_method, write_bytes: 262_144, write_depth: 2, read_bytes: 131_072, read_depth: 4 };
        Document::new(measured, chosen)
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path(), &[0, 1]).unwrap().is_none());
        for method in CommitMethod::ALL {
            let written = document(dir.path(), method);
            let path = written.save(dir.path()).unwrap();
            assert_eq!(path, dir.path().join("iotune.json"));
            assert_eq!(load(dir.path(), &[0, 1]).unwrap(), Some(written));
        }
        let text = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert!(text.contains("\"commitMethod\": \"ringWriteThenSync\"") && text.contains("\"p99Us\": 3.5"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside it");
        assert_eq!(load(dir.path(), &[0, 1]).unwrap().unwrap().chosen.read_ahead(), 512 << 10);
    }

    #[test]
    fn a_failed_write_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join(NAME);
        std::fs::create_dir(&taken).unwrap();
        assert!(document(dir.path(), CommitMethod::Thread).save(dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let good = document(dir.path(), CommitMethod::Thread).text().unwrap();
        let says = |text: &str| {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            load(dir.path(), &[0, 1]).unwrap_err().to_string()
        };
        for damaged in ["", "not json", &good[..good.len() / 2], "{}", &good.replace("\"thread\"", "\"magic\"")] {
            assert!(says(damaged).starts_with("it is not what `ringmq iotune` writes: "), "{damaged}");
        }
        assert_eq!(
            says(&good.replace("\"version\": 1", "\"version\": 2")),
            "its version is 2, and this program reads 1"
        );
        assert_eq!(says(r#"{"version":7,"other":[]}"#), "its version is 7, and this program reads 1");
        assert!(says(&" ".repeat(5 << 20)).starts_with("it is longer"));
    }

    #[test]
    fn another_kernel_disk_or_set_of_cores_makes_it_void() {
        let dir = tempfile::tempdir().unwrap();
        let mut document = document(dir.path(), CommitMethod::RingDsync);
        document.kernel = "6.1.0-9-amd64".to_owned();
        let device = document.device.clone();
        assert!(document.check("6.18.44", &device, &[1, 0]).is_ok(), "the same major version");
        let newer = document.check("7.0.1", &device, &[0, 1]).unwrap_err().to_string();
        assert_eq!(newer, "it was measured on Linux 6.1.0-9-amd64, and this is 7.0.1");
        let fewer = document.check("6.1.0", &device, &[1]).unwrap_err().to_string();
        assert_eq!(fewer, "it was measured for a broker on cores 0-1, and this one runs on 1");
        let other = Device { file_system: "zfs".to_owned(), ..device };
        let moved = document.check("6.1.0", &other, &[0, 1]).unwrap_err().to_string();
        assert!(moved.starts_with("it was measured on another disk (kind of file system zfs, not "), "{moved}");
    }
}
