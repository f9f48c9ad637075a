//! What a figure depends on and nobody remembers: kernel, processor, the disk under a folder and how it is mounted.
//! Read from `/proc` and `/sys`; what a host does not tell is left out. Names no host and no user.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Host {
    pub(crate) ringmq: &'static str,
    /// Built without optimization: its figures mean nothing.
    pub(crate) debug_build: bool,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    /// The frequency governors in use, `None` where the host has no say in it.
    pub(crate) governor: Option<String>,
    /// Whether another system runs this one.
    pub(crate) virtual_machine: bool,
    pub(crate) memory_bytes: u64,
}

/// Where a folder's data ends up.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Storage {
    pub(crate) folder: PathBuf,
    pub(crate) file_system: String,
    pub(crate) mount_point: String,
    pub(crate) mount_options: String,
    pub(crate) source: String,
    /// `None` for a file system that is on no block device of its own.
    pub(crate) device: Option<Device>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) model: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) rotational: bool,
    pub(crate) scheduler: Option<String>,
    /// `write back`: data that was written is in the device's cache until a flush.
    pub(crate) write_cache: Option<String>,
    /// Whether a single write can be told to bypass that cache.
    pub(crate) fua: Option<bool>,
}

impl Host {
    pub(crate) fn look() -> anyhow::Result<Host> {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo cannot be read")?;
        let meminfo = fs::read_to_string("/proc/meminfo").context("/proc/meminfo cannot be read")?;
        let field = |name: &str| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(": "));
        let kib: u64 = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Ok(Host {
            ringmq: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            architecture: text(uname.machine()),
            cpu: field("model name").map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            governor: governors(),
            virtual_machine: field("flags").is_some_and(|(_, flags)| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_bytes: kib * 1024,
        })
    }
}

fn governors() -> Option<String> {
    let policies = fs::read_dir("/sys/devices/system/cpu/cpufreq").ok()?;
    let mut found: Vec<String> =
        policies.flatten().filter_map(|policy| line(&policy.path().join("scaling_governor"))).collect();
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then(|| found.join(", "))
}

/// The first line of a small file.
fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

impl Storage {
    /// What lies under a folder that exists.
    pub(crate) fn under(folder: &Path) -> anyhow::Result<Storage> {
        let folder = folder.canonicalize().with_context(|| format!("{} cannot be found", folder.display()))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo cannot be read")?;
        let mount = Mount::of(&mounts, &folder)
            .ok_or_else(|| anyhow!("no file system is mounted at or above {}", folder.display()))?;
        let device = Device::find(&mount);
        Ok(Storage {
            folder,
            file_system: mount.file_system,
            mount_point: mount.point.to_string_lossy().into_owned(),
            mount_options: mount.options,
            source: mount.source,
            device,
        })
    }

    /// Whether the data is in memory only, and "durable" means nothing.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs" | "rootfs")
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    number: String,
    point: PathBuf,
    options: String,
    file_system: String,
    source: String,
}

impl Mount {
    /// The mount that holds a path: the deepest one, and of several at one place the last.
    fn of(mountinfo: &str, path: &Path) -> Option<Mount> {
        let mounts = mountinfo.lines().filter_map(Mount::parse).filter(|mount| path.starts_with(&mount.point));
        mounts.max_by_key(|mount| mount.point.components().count())
    }

    /// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/sda1 rw,errors=continue`
    fn parse(line: &str) -> Option<Mount> {
        let (before, behind) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (number, point, options) = (before.next()?, before.nth(1)?, before.next()?);
        let mut behind = behind.split(' ');
        let (file_system, source) = (behind.next()?, behind.next()?);
        let of_all = behind.next().unwrap_or_default();
        // Both lists begin with rw or ro.
        let more = of_all.split(',').filter(|option| !options.split(',').any(|known| known == *option));
        let options: Vec<&str> = options.split(',').chain(more).filter(|option| !option.is_empty()).collect();
        Some(Mount {
            number: number.to_owned(),
            point: PathBuf::from(unescaped(point)),
            options: options.join(","),
            file_system: file_system.to_owned(),
            source: unescaped(source),
        })
    }
}

/// Mount tables write blanks as three octal digits.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

impl Device {
    fn find(mount: &Mount) -> Option<Device> {
        // Some file systems have a number that is not their device's.
        let special = fs::metadata(&mount.source).ok().filter(|_| mount.source.starts_with("/dev/"));
        let number = special.map_or_else(
            || mount.number.clone(),
            |found| {
                let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
                format!("{major}:{minor}")
            },
        );
        let mut folder = fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
        if folder.join("partition").exists() {
            folder.pop();
        }
        let queue = |name: &str| line(&folder.join("queue").join(name));
        // `none [mq-deadline] kyber`
        let chosen = |text: String| {
            let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            inside.map_or(text.clone(), |(name, _)| name.to_owned())
        };
        Some(Device {
            name: folder.file_name()?.to_string_lossy().into_owned(),
            model: line(&folder.join("device/model")),
            size_bytes: line(&folder.join("size"))?.parse::<u64>().ok()? * 512,
            rotational: queue("rotational").as_deref() == Some("1"),
            scheduler: queue("scheduler").map(chosen),
            write_cache: queue("write_cache"),
            fua: queue("fua").map(|fua| fua == "1"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
23 22 0:21 / /proc rw - proc proc rw
30 22 0:30 / /data rw,noatime shared:5 - xfs /dev/nvme0n1p1 rw,attr2
31 30 0:31 / /data/a\\040b rw - tmpfs none rw,size=1k
32 31 8:1 / /data/a\\040b ro - ext4 /dev/sda1 ro
";

    #[test]
    fn the_deepest_and_last_mount_holds_a_path() {
        let at = |path: &str| {
            let mount = Mount::of(MOUNTS, Path::new(path)).unwrap();
            (mount.file_system, mount.source, mount.options)
        };
        let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(at("/var/x"), of("ext4", "/dev/vda", "rw,relatime,discard"));
        assert_eq!(at("/database"), of("ext4", "/dev/vda", "rw,relatime,discard"));
        assert_eq!(at("/data/x"), of("xfs", "/dev/nvme0n1p1", "rw,noatime,attr2"));
        assert_eq!(at("/data/a b/c"), of("ext4", "/dev/sda1", "ro"));
    }

    #[test]
    fn this_host_says_what_it_is() {
        let host = Host::look().unwrap();
        assert!(host.kernel.starts_with("Linux ") && host.cpus > 0 && host.memory_bytes > 0, "{host:?}");
        assert!(!Storage::under(Path::new("/")).unwrap().file_system.is_empty());
        assert_eq!(Storage::under(Path::new("/proc")).unwrap().file_system, "proc");
        assert!(Storage::under(Path::new("/no/such/folder")).is_err());
    }
}
