//! Checks of what cannot be tuned: the kernel, the limits that a process or its container has, the store's file system,
//! the clock. Pure, over facts and the answers of probes.

use std::io;
use std::time::Duration;

use crate::OPEN_FILES;
use crate::check::Check;
use crate::facts::{Facts, Limits, Mount, Store, list_cpus};
use crate::probe::Space;

/// The kernel, against the least that the broker runs on.
pub fn kernel(facts: &Facts) -> Check {
    /// `IORING_SETUP_DEFER_TASKRUN`
    const LEAST: (u32, u32) = (6, 1);
    match facts.kernel_version() {
        (0, 0) => Check::unknown("kernel", "/proc/sys/kernel/osrelease does not say"),
        found if found >= LEAST => Check::fine("kernel", &facts.kernel),
        _ => Check::wrong(
            "kernel",
            &facts.kernel,
            "6.1 or newer",
            "the rings run their completions on their own thread, which older kernels cannot",
            "boot a newer kernel; in a container it is the host's",
        ),
    }
}

/// Whether a ring can be opened. The probe's words already name the remedy.
pub fn ring(probe: Result<(), String>) -> Check {
    match probe {
        Ok(()) => Check::fine("io_uring", "a ring can be opened"),
        Err(why) => {
            let (now, mend) = why.split_once(": ").unwrap_or((why.as_str(), "see the kernel's log"));
            Check::wrong("io_uring", now, "usable", "every socket and every write of the log needs it", mend)
        }
    }
}

/// Limits of a process: the broker's if one runs, else those that it would have if it were started from here.
pub fn limits(limits: &Limits, whose: &str, is_root: bool, user: &str) -> Vec<Check> {
    let mend = format!(
        "in the unit LimitNOFILE={OPEN_FILES} and LimitMEMLOCK=infinity, for logins `ringmq tune --apply --user {user}`; a container takes --ulimit nofile={OPEN_FILES} --ulimit memlock=-1"
    );
    let files = format!("open files {whose}");
    let files = if limits.files == 0 {
        Check::unknown(files, "/proc does not say")
    } else if limits.files >= OPEN_FILES {
        Check::fine(files, amount(limits.files))
    } else {
        Check::wrong(
            files,
            amount(limits.files),
            OPEN_FILES.to_string(),
            "a connection is a file, and so is a segment",
            &mend,
        )
    };
    let locked = format!("locked memory {whose}");
    let locked = if limits.locked == u64::MAX {
        Check::fine(locked, "unlimited")
    } else if is_root {
        Check::note(
            locked,
            size(limits.locked),
            "root's registered buffers do not count; another user needs `unlimited`",
        )
    } else {
        Check::wrong(
            locked,
            size(limits.locked),
            "unlimited",
            "buffers that are registered with a ring are locked",
            mend,
        )
    };
    vec![files, locked]
}

fn amount(number: u64) -> String {
    if number == u64::MAX { "unlimited".to_owned() } else { number.to_string() }
}

/// What the container or the service leaves to the broker. `need` is what the broker's buffers take, in bytes, and
/// `shards` how many cores it means to use.
pub fn cgroup(facts: &Facts, need: u64, shards: usize) -> Vec<Check> {
    let group = &facts.cgroup;
    let inside = facts.container.unwrap_or("no container");
    let version = match group.version {
        0 => "no control group".to_owned(),
        version => format!("control group v{version}"),
    };
    let mut checks = vec![Check::fine("container", format!("{inside}, {version}"))];
    checks.push(memory(facts, need));
    if let Some(swap) = group.swap.filter(|swap| *swap > 0) {
        checks.push(Check::note(
            "swap of the group",
            size(swap),
            "memory.swap.max = 0 keeps a shard from being swapped out",
        ));
    }
    checks.push(match group.quota {
        None => Check::fine("CPU quota", "none"),
        Some(quota) => Check::wrong(
            "CPU quota",
            format!("{quota:.1} cores' time"),
            "none, whole cores instead",
            "a group that has used its time is frozen until the next period, and each of its shards with it",
            "cpu.max = max and a cpuset; in Kubernetes whole CPUs, requests = limits and cpu-manager-policy=static",
        ),
    });
    checks.push(match &group.cpus {
        Some(cpus) if shards > cpus.len() => Check::wrong(
            "cpuset",
            format!("cores {}", list_cpus(cpus)),
            format!("{shards} cores"),
            "each shard wants a core of its own",
            format!("ringmq broker --cpus {}", list_cpus(cpus)),
        ),
        Some(cpus) => Check::fine("cpuset", format!("cores {}", list_cpus(cpus))),
        None => Check::fine("cpuset", format!("all cores ({})", list_cpus(&facts.cpus.online))),
    });
    checks.push(threads(group.pids, shards));
    checks
}

fn memory(facts: &Facts, need: u64) -> Check {
    let (name, there) = match facts.cgroup.memory {
        Some(limit) if limit < facts.memory => ("memory limit of the group", limit),
        _ => ("memory", facts.memory),
    };
    // The broker's tables, connections and code beside its buffers.
    let wanted = need.saturating_add(need / 4).saturating_add(64 << 20);
    match there {
        0 => Check::unknown(name, "/proc/meminfo does not say"),
        there if there >= wanted => Check::fine(name, format!("{}, buffers take {}", size(there), size(need))),
        there => Check::wrong(
            name,
            size(there),
            size(wanted),
            "a broker that is over its limit is killed",
            format!("a larger limit, or bufferMemory = {}", (there / 2) >> 20 << 20),
        ),
    }
}

fn threads(pids: Option<u64>, shards: usize) -> Check {
    /// A shard's thread and its committer, the kernel's workers of its ring, and the program's own few.
    const EACH: u64 = 8;
    const OWN: u64 = 32;
    let wanted = OWN + EACH * shards as u64;
    match pids {
        None => Check::fine("threads of the group", "no limit"),
        Some(pids) if pids >= wanted => Check::fine("threads of the group", pids.to_string()),
        Some(pids) => Check::wrong(
            "threads of the group",
            pids.to_string(),
            wanted.to_string(),
            "a shard, its committer and its ring's workers are threads",
            "a larger pids.max (--pids-limit, TasksMax=)",
        ),
    }
}

/// The file system below the store. `direct` is what opening a file for direct I/O there said.
pub fn store(store: &Store, direct: Result<(), io::Error>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mend = "another folder: --store DIR, or storePathRootDir";
    let place = store.found.display();
    match store.mount.as_ref() {
        None => checks.push(Check::unknown("store file system", "the mount table does not say")),
        Some(mount) => {
            let now = format!("{} on {place}", mount.kind);
            let name = "store file system";
            let wanted = "ext4 or XFS on a local disk";
            checks.push(match mount.kind.as_str() {
                "ext4" | "xfs" => Check::fine(name, now),
                "tmpfs" | "ramfs" | "devtmpfs" => {
                    Check::wrong(name, now, wanted, "it is memory: everything is gone with the power", mend)
                }
                "overlay" | "overlayfs" | "aufs" => Check::wrong(
                    name,
                    now,
                    wanted,
                    "a container's own layer ends with the container, and copies files as they change",
                    "a volume: docker run -v /data/ringmq:/var/lib/ringmq",
                ),
                kind if is_remote(kind) => Check::wrong(
                    name,
                    now,
                    wanted,
                    "what is flushed is up to another machine, and a network that hangs stops each shard",
                    mend,
                ),
                _ => Check::note(name, now, "not tried; ext4 and XFS are"),
            });
            checks.push(options(mount));
        }
    }
    checks.push(match direct {
        Ok(()) => Check::fine("direct I/O", "possible"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::unknown("direct I/O", format!("{place} is not this user's to write to: run it as the broker's user"))
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            Check::unknown("direct I/O", "the file system has no unnamed files to try it with")
        }
        Err(error) => {
            Check::wrong("direct I/O", error.to_string(), "possible", "the log is written past the page cache", mend)
        }
    });
    checks.extend(disks(store));
    checks
}

fn is_remote(kind: &str) -> bool {
    ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre"].contains(&kind)
        || kind.starts_with("fuse")
}

fn options(mount: &Mount) -> Check {
    let has = |option: &str| mount.has(option);
    let all = mount.options.join(",");
    let name = "mount options";
    if has("ro") {
        return Check::wrong(
            name,
            all,
            "rw",
            "a broker writes",
            "mount -o remount,rw; a file system that was remounted read-only had an error: look at `dmesg`",
        );
    }
    if has("nobarrier") || has("barrier=0") {
        return Check::wrong(
            name,
            all,
            "barriers",
            "without them SYNC_FLUSH does not survive a power cut",
            "mount -o remount,barrier=1",
        );
    }
    if has("discard") {
        return Check::wrong(
            name,
            all,
            "nodiscard",
            "each segment that is deleted is trimmed at once, in the way of writes",
            "mount -o remount,nodiscard, the same in /etc/fstab, and systemctl enable --now fstrim.timer",
        );
    }
    Check::fine(name, all)
}

/// What the disks are: nothing to mend, but it says which figures to expect.
fn disks(store: &Store) -> Vec<Check> {
    if store.disks.is_empty() {
        return vec![Check::unknown("disk", "no disk is seen below the store: its settings are not looked at")];
    }
    let describe = |disk: &crate::facts::Disk| {
        let kind = match disk {
            disk if disk.is_pretended() => "no disk of its own: look at what is below it",
            disk if disk.is_nvme() => "NVMe",
            disk if disk.is_virtual() => "virtual",
            disk if disk.spins() => "spinning",
            _ => "solid state",
        };
        let cache = disk.write_cache.as_deref().unwrap_or("cache unknown");
        let durable = match (disk.write_cache.as_deref(), disk.fua) {
            (Some("write through"), _) => "a write is durable by itself",
            (_, true) => "a durable write needs no flush (FUA)",
            _ => "a durable write is a write and a flush",
        };
        let node = disk.node.map(|node| format!(", node {node}")).unwrap_or_default();
        let mut cores: Vec<&str> = disk.irqs.iter().map(|irq| irq.effective.as_str()).collect();
        cores.dedup();
        let interrupts = match disk.irqs.len() {
            0 => String::new(),
            many => format!(", {many} interrupt{} on core {}", if many == 1 { "" } else { "s" }, cores.join(" ")),
        };
        Check::note(format!("disk {}", disk.name), format!("{kind}, {cache}{node}{interrupts}"), durable)
    };
    store.disks.iter().map(describe).collect()
}

/// Room of the store, and how long it lasts at the rate of `growth`, bytes a second. `full` is the used share from which
/// sends are refused.
pub fn space(space: Space, full: f64, growth: Option<f64>) -> Check {
    const DAY: u64 = 86_400;
    let used = space.total.saturating_sub(space.free);
    // A share of bytes; what is lost beyond 2^53 does not matter here.
    let until = ((space.total as f64 * full) as u64).saturating_sub(used);
    let left = growth.filter(|growth| *growth >= 1.0).map(|growth| Duration::from_secs_f64(until as f64 / growth));
    let now = match (left, growth) {
        (Some(left), Some(growth)) => {
            format!("{} free, full in {} at {}/s", size(space.free), long(left), size(growth as u64))
        }
        _ => format!("{} of {} free", size(space.free), size(space.total)),
    };
    let percent = full * 100.0;
    let why = format!("sends are refused when {percent:.0}% are used");
    let mend = "a larger disk: retention is not built yet, so that nothing is deleted by itself";
    if until == 0 {
        return Check::wrong("free space", now, format!("below {percent:.0}% used"), why, mend);
    }
    if left.is_some_and(|left| left.as_secs() < DAY) {
        return Check::wrong("free space", now, "more than a day's", why, mend);
    }
    Check::fine("free space", now)
}

fn long(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 2 * 3600 => format!("{} minutes", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Whether the wall clock is held to others', as adjtimex(2) says, and what time is read from.
pub fn clock(synchronised: Result<bool, io::Error>, facts: &Facts) -> Vec<Check> {
    let held = match synchronised {
        Ok(true) => Check::fine("clock", "synchronised"),
        Ok(false) => Check::wrong(
            "clock",
            "not synchronised",
            "synchronised",
            "delays, retention and the times in messages are of the wall clock",
            "systemctl enable --now chronyd (or systemd-timesyncd); in a container it is the host's",
        ),
        Err(error) => Check::unknown("clock", error.to_string()),
    };
    /// Read without a system call.
    const FAST: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    let source = match &facts.clock_source {
        None => Check::unknown("clock source", "the kernel does not say"),
        Some((now, _)) if FAST.contains(&now.as_str()) => Check::fine("clock source", now),
        Some((now, offered)) => {
            let better = FAST.iter().find(|fast| offered.split_whitespace().any(|one| one == **fast));
            let why = "each look at the time is a system call or a slow register";
            match better {
                Some(better) => Check::wrong(
                    "clock source",
                    now,
                    *better,
                    why,
                    format!("echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
                ),
                None => Check::note("clock source", now, why),
            }
        }
    };
    vec![held, source]
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut shown = bytes as f64;
    let mut unit = 0;
    while shown >= 1024.0 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{shown:.1} {}", UNITS[unit]) }
}
