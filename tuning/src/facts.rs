//! What the host is: everything that advice is made from, read once below a [`Root`].
//!
//! A file that is not there is a fact as well, so nothing here fails but for a store that cannot be found. Nothing is
//! judged here.

mod cgroup;
mod cpu;
mod disk;
mod limit;
mod mount;
mod socket;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::cgroup::Cgroup;
pub use self::cpu::{Cpus, Governor, list_cpus, parse_cpus};
pub use self::disk::{Disk, Irq, chosen};
pub use self::limit::Limits;
pub use self::mount::Mount;
pub use self::socket::{Owner, listener};
use crate::error::Error;
use crate::root::Root;

/// The host, as far as RingMQ cares.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Whether this process may change the host.
    pub is_root: bool,
    /// What kind of container this process is in.
    pub container: Option<&'static str>,
    /// Whether systemd runs this host.
    pub has_systemd: bool,
    /// Whether `/sys` is mounted.
    pub has_sys: bool,
    /// Whether `/proc/sys` is mounted read-only, as container runtimes do.
    pub sysctl_read_only: bool,
    /// Whether `/sys` is mounted read-only.
    pub sys_read_only: bool,
    /// Bytes of memory.
    pub memory: u64,
    /// Settings of `/proc/sys` by their name; what is missing the kernel does not have.
    pub sysctls: BTreeMap<String, String>,
    /// Files of `sysctl.d` in the order in which they are read at boot, with what they set.
    pub sysctl_files: Vec<(String, BTreeMap<String, String>)>,
    pub cpus: Cpus,
    /// `/sys/kernel/mm/transparent_hugepage/{enabled,defrag}`.
    pub huge_pages: (Option<String>, Option<String>),
    /// Cores that unbound kernel workers run on.
    pub workers: Option<String>,
    /// Whether irqbalance runs, which moves interrupts by itself.
    pub irqbalance: bool,
    /// The clock source in use and those that there are.
    pub clock_source: Option<(String, String)>,
    pub limits: Limits,
    pub cgroup: Cgroup,
    /// What the store is on.
    pub store: Option<Store>,
    /// Names of `/etc/passwd`.
    pub users: Vec<String>,
}

/// The store's place.
#[derive(Debug, Clone)]
pub struct Store {
    /// As it was given.
    pub path: PathBuf,
    /// The same without links.
    pub found: PathBuf,
    /// The mount that it is on.
    pub mount: Option<Mount>,
    /// The disks below it.
    pub disks: Vec<Disk>,
}

impl Facts {
    /// Reads the host below `root`. `settings` are the names of the sysctls to look at.
    ///
    /// # Errors
    /// When the store is no folder that is there.
    pub fn read<'a>(
        root: &Root,
        settings: impl Iterator<Item = &'a str>,
        store: Option<&Path>,
    ) -> Result<Facts, Error> {
        let mounts = mount::read(root);
        let read_only = |path: &str| mount::of(&mounts, Path::new(path)).is_some_and(Mount::is_read_only);
        let sysctl = |name: &str| root.text(sysctl_path(name)).map(|value| (name.to_owned(), plain(&value)));
        Ok(Facts {
            kernel: root.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            is_root: is_root(root, "self"),
            container: container(root),
            has_systemd: root.has("/run/systemd/system"),
            has_sys: root.has("/sys/block"),
            sysctl_read_only: read_only("/proc/sys"),
            sys_read_only: read_only("/sys"),
            memory: host_memory(root),
            sysctls: settings.filter_map(sysctl).collect(),
            sysctl_files: sysctl_files(root),
            cpus: Cpus::read(root),
            huge_pages: (root.text(HUGE_PAGES), root.text(HUGE_PAGES_DEFRAG)),
            workers: root.text(WORKERS),
            irqbalance: runs(root, "irqbalance"),
            clock_source: clock_source(root),
            limits: Limits::read(root),
            cgroup: Cgroup::read(root, &mounts),
            store: store.map(|path| Store::read(root, &mounts, path)).transpose()?,
            users: users(root),
        })
    }

    /// Cores that are online and not in `taken`.
    pub fn spare_cpus(&self, taken: &[usize]) -> Vec<usize> {
        self.cpus.online.iter().copied().filter(|cpu| !taken.contains(cpu)).collect()
    }

    /// The kernel's version, to compare; zero where it cannot be read.
    pub fn kernel_version(&self) -> (u32, u32) {
        let mut parts = self.kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// The switch for transparent huge pages.
pub const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// When the kernel compacts memory for one.
pub const HUGE_PAGES_DEFRAG: &str = "/sys/kernel/mm/transparent_hugepage/defrag";
/// The mask of cores for unbound kernel workers.
pub const WORKERS: &str = "/sys/devices/virtual/workqueue/cpumask";

/// The file of a sysctl: `vm.swappiness` is `/proc/sys/vm/swappiness`.
pub fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

/// Values with several numbers, their white space made one blank.
pub fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Store {
    fn read(root: &Root, mounts: &[Mount], path: &Path) -> Result<Store, Error> {
        let fault = |source| Error::Store { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(fault)?;
        // Not the nearest folder above it: a typing error would mean the root's disk.
        let found = root.real(&absolute).ok_or_else(|| fault(std::io::ErrorKind::NotFound.into()))?;
        if !root.at(&found).is_dir() {
            return Err(fault(std::io::ErrorKind::NotADirectory.into()));
        }
        let mount = mount::of(mounts, &found).cloned();
        let disks = mount.as_ref().map(|mount| disk::below(root, mount)).unwrap_or_default();
        Ok(Store { path: path.to_owned(), found, mount, disks })
    }
}

/// Whether a process acts as root.
pub fn is_root(root: &Root, pid: &str) -> bool {
    let status = root.text(format!("/proc/{pid}/status")).unwrap_or_default();
    // Real, effective, saved, file system.
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

/// Bytes of memory that this process may use: the host's, or what its control group leaves it; 0 where the kernel does
/// not say.
pub fn memory(root: &Root) -> u64 {
    let (host, group) = (host_memory(root), Cgroup::read(root, &mount::read(root)).memory);
    group.map_or(host, |group| if host == 0 { group } else { group.min(host) })
}

fn host_memory(root: &Root) -> u64 {
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn container(root: &Root) -> Option<&'static str> {
    if root.has("/.dockerenv") {
        return Some("docker");
    }
    if root.has("/run/.containerenv") {
        return Some("podman");
    }
    if root.has("/var/run/secrets/kubernetes.io") {
        return Some("kubernetes");
    }
    let environment = root.text("/proc/1/environ")?;
    environment.split('\0').any(|entry| entry.starts_with("container=")).then_some("container")
}

fn runs(root: &Root, program: &str) -> bool {
    let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = root.names("/proc").into_iter().filter(is_process);
    processes.into_iter().any(|pid| root.text(format!("/proc/{pid}/comm")).as_deref() == Some(program))
}

fn clock_source(root: &Root) -> Option<(String, String)> {
    const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
    let read = |name| root.text(format!("{FOLDER}/{name}"));
    Some((read("current_clocksource")?, read("available_clocksource").unwrap_or_default()))
}

fn users(root: &Root) -> Vec<String> {
    let text = root.text("/etc/passwd").unwrap_or_default();
    text.lines().filter_map(|line| line.split(':').next()).map(str::to_owned).collect()
}

/// A file of the same name in a folder named earlier hides the later one; `/etc/sysctl.conf` comes last of all.
fn sysctl_files(root: &Root) -> Vec<(String, BTreeMap<String, String>)> {
    const FOLDERS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        for name in root.names(folder).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{folder}/{name}");
            found.entry(name).or_insert(path);
        }
    }
    let paths = found.into_values().chain(["/etc/sysctl.conf".to_owned()]);
    paths.filter_map(|path| Some((path.clone(), sysctl_lines(&root.text(&path)?)))).collect()
}

/// `key = value` lines; a `-` before the key says that a failure does not matter, and `/` may stand for the dots.
fn sysctl_lines(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let line = line.trim().trim_start_matches('-');
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some((key.trim().replace('/', "."), plain(value)))
    };
    text.lines().filter_map(line).collect()
}
