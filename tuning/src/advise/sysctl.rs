//! The kernel's settings by name: what is advised, and what RocketMQ's `os.sh` sets and we do not.

use super::{Finding, Place, Rule, Verdict};
use crate::OPEN_FILES;
use crate::facts::Facts;

/// A setting below `/proc/sys`.
#[derive(Debug)]
pub struct Sysctl {
    pub name: &'static str,
    pub rule: Rule,
    /// What the shipped file sets.
    pub value: &'static str,
    pub why: &'static str,
    /// Whether it matters only where memory has several nodes.
    pub several_nodes: bool,
}

/// A setting of `os.sh` that is not made.
#[derive(Debug)]
pub struct Left {
    pub name: &'static str,
    /// What `os.sh` sets.
    pub theirs: &'static str,
    pub why: &'static str,
}

const fn set(name: &'static str, rule: Rule, value: &'static str, why: &'static str) -> Sysctl {
    Sysctl { name, rule, value, why, several_nodes: false }
}

/// The largest receive and send buffer that the kernel may grow a TCP socket to: a window of 16 MiB fills a link of
/// 10 Gbit/s at a round trip of 13 ms.
const TCP_BUFFER: u64 = 16 << 20;

/// Bytes of file data that may wait for their write in the page cache, and from where on the kernel begins to write.
const DIRTY: u64 = 1 << 30;
const DIRTY_BACKGROUND: u64 = 256 << 20;

/// What is advised on every host.
pub const SETTINGS: &[Sysctl] = &[
    set(
        "kernel.io_uring_disabled",
        Rule::Exactly("0"),
        "0",
        "every socket and every write of the log goes through io_uring",
    ),
    set("vm.swappiness", Rule::AtMost(1), "1", "a shard whose memory is swapped out stalls all of its queues"),
    set(
        "vm.zone_reclaim_mode",
        Rule::Exactly("0"),
        "0",
        "a full node must take memory from its neighbour, not reclaim",
    ),
    set(
        "vm.watermark_scale_factor",
        Rule::AtLeast(100),
        "100",
        "1% of memory kept free, so that a burst from the network need not wait for reclaim",
    ),
    set(
        "vm.dirty_background_bytes",
        Rule::AtMost(DIRTY_BACKGROUND),
        "268435456",
        "other programs' buffered writes must not gather until they flood the disk that the log is on",
    ),
    set(
        "vm.dirty_bytes",
        Rule::AtMost(DIRTY),
        "1073741824",
        "other programs' buffered writes must not gather until they flood the disk that the log is on",
    ),
    set(
        "vm.dirty_writeback_centisecs",
        Rule::Within(500),
        "500",
        "without periodic write-back, buffered files are lost with the power, however old",
    ),
    Sysctl {
        name: "kernel.numa_balancing",
        rule: Rule::Exactly("0"),
        value: "0",
        why: "shards are pinned and their memory is near: moving pages under them only stalls",
        several_nodes: true,
    },
    set("fs.nr_open", Rule::AtLeast(OPEN_FILES), "1048576", "no limit of open files can be set above it"),
    set("fs.file-max", Rule::AtLeast(OPEN_FILES), "1048576", "open files of the whole host: one a connection"),
    set(
        "net.core.somaxconn",
        Rule::AtLeast(4096),
        "4096",
        "the kernel's own since 5.4; all clients connect at once when a broker comes back",
    ),
    set(
        "net.ipv4.tcp_max_syn_backlog",
        Rule::AtLeast(4096),
        "4096",
        "all clients connect at once when a broker comes back",
    ),
    set(
        "net.core.netdev_max_backlog",
        Rule::AtLeast(4096),
        "4096",
        "packets of loopback and of containers that wait for a core are dropped beyond it",
    ),
    set(
        "net.ipv4.tcp_rmem",
        Rule::LastAtLeast(TCP_BUFFER),
        "4096 131072 16777216",
        "a long link needs a window as large as what is on its way",
    ),
    set(
        "net.ipv4.tcp_wmem",
        Rule::LastAtLeast(TCP_BUFFER),
        "4096 16384 16777216",
        "a long link needs a window as large as what is on its way",
    ),
    set(
        "net.ipv4.tcp_slow_start_after_idle",
        Rule::Exactly("0"),
        "0",
        "a connection that was idle must not begin a burst with the window of a new one",
    ),
];

/// What `os.sh` sets, or speaks of, and is left as it is found.
pub const LEFT: &[Left] = &[
    Left {
        name: "vm.overcommit_memory",
        theirs: "1",
        why: "for a JVM's heap and its maps; the broker's memory is bounded, and 1 hides a leak until the kernel kills",
    },
    Left { name: "vm.max_map_count", theirs: "655360", why: "for one map a file; segments are not mapped here" },
    Left { name: "vm.page-cluster", theirs: "3", why: "the kernel's default, and of swap only" },
    Left {
        name: "vm.min_free_kbytes",
        theirs: "1000000 (commented out)",
        why: "the kernel computes it; vm.watermark_scale_factor is the knob",
    },
    Left { name: "vm.drop_caches", theirs: "1", why: "throws away the caches of every program once; a tool for tests" },
    Left {
        name: "vm.extra_free_kbytes",
        theirs: "2000000 (commented out)",
        why: "never was in the Linux kernel; vm.watermark_scale_factor does what it was for",
    },
];

/// The settings that a look at the host has to read.
pub fn names() -> impl Iterator<Item = &'static str> {
    let settings = SETTINGS.iter().map(|setting| setting.name);
    let others = ["vm.dirty_ratio", "vm.dirty_background_ratio", "kernel.io_uring_group"];
    settings.chain(LEFT.iter().map(|left| left.name)).chain(others)
}

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let settings = SETTINGS.iter().map(|setting| match setting.name {
        "vm.dirty_bytes" => dirty(facts, setting, "vm.dirty_ratio"),
        "vm.dirty_background_bytes" => dirty(facts, setting, "vm.dirty_background_ratio"),
        _ => plain(facts, setting),
    });
    settings.chain(LEFT.iter().map(|left| left_alone(facts, left))).collect()
}

fn plain(facts: &Facts, setting: &Sysctl) -> Finding {
    let place = Place::Sysctl(setting.name.to_owned());
    let now = facts.sysctls.get(setting.name).map(String::as_str);
    let finding = Finding::new(setting.name, place, setting.value, setting.why).judged(now, &setting.rule);
    if setting.several_nodes && facts.cpus.nodes.len() < 2 {
        return finding.absent("this host has one memory node");
    }
    finding
}

/// Zero bytes mean that the share of memory is in force. Setting bytes makes the kernel forget the share, and it takes
/// no zero back: the way back is the share.
fn dirty(facts: &Facts, setting: &Sysctl, share: &str) -> Finding {
    let finding = plain(facts, setting);
    let percent = facts.sysctls.get(share).and_then(|share| share.parse::<u64>().ok());
    let (Some("0"), Some(percent)) = (finding.now.as_deref(), percent) else { return finding };
    let bytes = facts.memory / 100 * percent;
    let mut finding = finding;
    finding.verdict = if setting.rule.holds(&bytes.to_string()) { Verdict::Right } else { Verdict::Off };
    finding.now = Some(format!("0, so {share} = {percent}: {} MiB", bytes >> 20));
    finding.back = Some((Place::Sysctl(share.to_owned()), percent.to_string()));
    finding
}

fn left_alone(facts: &Facts, left: &Left) -> Finding {
    let place = Place::Sysctl(left.name.to_owned());
    let why = format!("RocketMQ's os.sh has {}: {}", left.theirs, left.why);
    let mut finding = Finding::new(left.name, place, "", why);
    finding.now = facts.sysctls.get(left.name).filter(|now| !now.is_empty()).cloned();
    finding.verdict = Verdict::Left;
    finding
}
