//! Advice and diagnosis for recorded hosts: pure, and without this machine in it.

use std::io;

use ringmq_tuning::advise::{Purpose, Verdict};
use ringmq_tuning::check::{self, Check};
use ringmq_tuning::facts::{self, Facts, Limits};
use ringmq_tuning::probe::Space;
use ringmq_tuning::{OPEN_FILES, diagnose};

use super::support::{Host, named};

fn on(cpus: &[usize]) -> Purpose {
    Purpose { cpus: Some(cpus.to_vec()), ..Purpose::default() }
}

fn check_named<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

fn wrong(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| check.verdict == check::Verdict::Wrong).map(|check| check.name.as_str()).collect()
}

#[test]
fn what_os_sh_left_behind_is_found_and_both_disks_of_a_volume_are_seen() {
    let host = Host::unpack("metal-nvme");
    assert_eq!(
        host.off(&Purpose::default()),
        [
            "vm.watermark_scale_factor: 10 -> 100",
            "vm.dirty_background_bytes: 0, so vm.dirty_background_ratio = 50: 32000 MiB -> 268435456",
            "vm.dirty_bytes: 0, so vm.dirty_ratio = 50: 32000 MiB -> 1073741824",
            "vm.dirty_writeback_centisecs: 360000 -> 500",
            "net.core.netdev_max_backlog: 1000 -> 4096",
            "net.ipv4.tcp_rmem: 4096 131072 6291456 -> 4096 131072 16777216",
            "net.ipv4.tcp_wmem: 4096 16384 4194304 -> 4096 16384 16777216",
            "net.ipv4.tcp_slow_start_after_idle: 1 -> 0",
            "transparent huge pages: always -> madvise",
            "CPU governor: powersave -> performance",
            "nvme0n1 nomerges: 0 -> 2",
            "nvme0n1 rq_affinity: 1 -> 2",
            "nvme1n1 scheduler: mq-deadline -> none",
            "nvme1n1 nomerges: 0 -> 2",
            "nvme1n1 rq_affinity: 1 -> 2",
        ]
    );
    let findings = host.findings(&Purpose::default());
    // Debian's 6.1 has no switch for io_uring: nobody can have turned it off.
    assert!(matches!(named(&findings, "kernel.io_uring_disabled").verdict, Verdict::Absent(_)));
    // A backlog of 65,535 is better than the advice.
    assert_eq!(named(&findings, "net.core.somaxconn").verdict, Verdict::Right);
    assert_eq!(named(&findings, "nvme1n1 max_sectors_kb").verdict, Verdict::Right, "the device takes no more");
    let overcommit = named(&findings, "vm.overcommit_memory");
    assert_eq!((&overcommit.verdict, overcommit.now.as_deref()), (&Verdict::Left, Some("1")));
    let governor = named(&findings, "CPU governor");
    assert_eq!(governor.alike.len(), 3, "the other cores are set with the first");
    assert!(host.facts().irqbalance);
}

#[test]
fn an_interrupt_for_each_core_needs_no_place() {
    let host = Host::unpack("metal-nvme");
    let store = host.facts().store.unwrap();
    let irqs: Vec<&str> = store.disks[0].irqs.iter().map(|irq| irq.name.as_str()).collect();
    assert_eq!(irqs, ["nvme0q1", "nvme0q2", "nvme0q3", "nvme0q4"], "the controller's own queue carries no data");
    let off = host.off(&on(&[0, 1, 2]));
    assert!(!off.iter().any(|line| line.contains("interrupt")), "{off:#?}");
    assert!(off.contains(&"cores of kernel workers: f -> 8".to_owned()), "{off:#?}");
}

#[test]
fn a_virtual_disk_is_not_taken_for_a_spinning_one() {
    let host = Host::unpack("vm-virtio");
    let findings = host.findings(&Purpose::default());
    assert_eq!(named(&findings, "vda scheduler").verdict, Verdict::Right);
    assert!(!findings.iter().any(|finding| finding.name == "vda nomerges"));
    let off = host.off(&Purpose::default());
    assert!(off.contains(&"kernel.io_uring_disabled: 2 -> 0".to_owned()), "{off:#?}");
    assert!(off.contains(&"vda rq_affinity: 1 -> 2".to_owned()), "{off:#?}");
    assert!(matches!(named(&findings, "kernel.numa_balancing").verdict, Verdict::Absent(_)));
    assert!(matches!(named(&findings, "CPU governor").verdict, Verdict::Absent(_)));
}

#[test]
fn completions_go_to_a_core_that_the_broker_leaves_over() {
    let off = Host::unpack("vm-virtio").off(&on(&[0]));
    assert!(off.contains(&"vda interrupt 36 (virtio1-req.0): 0-1 -> 1".to_owned()), "{off:#?}");
    assert!(!off.iter().any(|line| line.contains("rq_affinity") || line.contains("-config")), "{off:#?}");
    let numa = Host::unpack("numa").off(&on(&[4, 5, 6]));
    assert!(numa.contains(&"nvme0n1 rq_affinity: 2 -> 1".to_owned()), "{numa:#?}");
    assert!(!numa.iter().any(|line| line.contains("interrupt")), "they are on spare cores already: {numa:#?}");
    let numa = Host::unpack("numa").off(&on(&[0, 1, 2, 3, 7]));
    assert!(numa.contains(&"nvme0n1 interrupt 91 (nvme0q1): 0-3 -> 4-6".to_owned()), "{numa:#?}");
}

#[test]
fn several_nodes_and_values_that_are_better_than_advised() {
    let host = Host::unpack("numa");
    assert_eq!(
        host.off(&Purpose::default()),
        [
            "kernel.io_uring_disabled: 1 -> 0",
            "vm.zone_reclaim_mode: 1 -> 0",
            "kernel.numa_balancing: 1 -> 0",
            "compaction for huge pages: always -> madvise",
            "nvme0n1 scheduler: kyber -> none",
            "nvme0n1 max_sectors_kb: 256 -> 1024",
        ]
    );
    let facts = host.facts();
    assert_eq!(facts.store.as_ref().unwrap().disks[0].node, Some(1));
    let clock = diagnose::clock(Ok(true), &facts);
    let source = check_named(&clock, "clock source");
    assert_eq!((source.verdict, source.wanted.as_deref()), (check::Verdict::Wrong, Some("tsc")));
}

#[test]
fn a_container_knows_its_limits_and_who_can_change_the_host() {
    let host = Host::unpack("container-v2");
    let facts = host.facts();
    assert_eq!(facts.container, Some("docker"));
    assert!(facts.sysctl_read_only && facts.sys_read_only);
    let group = &facts.cgroup;
    assert_eq!((group.version, group.memory, group.pids), (2, Some(1 << 30), Some(40)), "the least on the way up");
    assert_eq!((facts::memory(&host.root()), facts.memory), (1 << 30, 65_536_000 << 10), "of it and of its host");
    assert_eq!((group.quota, group.cpus.as_deref()), (Some(1.5), Some([2, 3].as_slice())));

    let checks = diagnose::cgroup(&facts, 2 << 30, 4);
    assert_eq!(wrong(&checks), ["memory limit of the group", "CPU quota", "cpuset", "threads of the group"]);
    assert_eq!(wrong(&diagnose::cgroup(&facts, 512 << 20, 1)), ["CPU quota"]);

    let findings = host.findings(&Purpose::default());
    let swappiness = Check::setting(named(&findings, "vm.swappiness"), &facts, "ringmq tune --apply");
    assert_eq!(swappiness.mend.as_deref(), Some("on the host: sysctl -w vm.swappiness='1'"));
    assert!(matches!(named(&findings, "net.core.netdev_max_backlog").verdict, Verdict::Absent(_)));
    // A volume is on a disk of its own, and the layer below it is none.
    assert_eq!(facts.store.as_ref().unwrap().disks[0].name, "nvme0n1");
    assert!(wrong(&diagnose::store(facts.store.as_ref().unwrap(), Ok(()))).is_empty());
    let locked = diagnose::limits(&facts.limits, "of this process", false, "ringmq");
    assert_eq!(wrong(&locked), ["locked memory of this process"]);
}

#[test]
fn an_old_kernel_with_control_groups_of_version_1() {
    let host = Host::unpack("old-5.10");
    let facts = host.facts();
    assert_eq!(diagnose::kernel(&facts).verdict, check::Verdict::Wrong);
    assert!(!facts.is_root);
    let group = &facts.cgroup;
    assert_eq!((group.version, group.memory, group.quota, group.pids), (1, None, Some(0.5), Some(4096)));
    let findings = host.findings(&Purpose::default());
    assert!(matches!(named(&findings, "kernel.io_uring_disabled").verdict, Verdict::Absent(_)));
    assert!(matches!(named(&findings, "CPU governor").verdict, Verdict::Absent(why) if why.contains("performance")));
    let off = host.off(&Purpose::default());
    for line in [
        "sda scheduler: bfq -> mq-deadline",
        "sda max_sectors_kb: 512 -> 1024",
        "vm.dirty_writeback_centisecs: 0 -> 500",
        "net.core.somaxconn: 128 -> 4096",
        "fs.file-max: 200000 -> 1048576",
    ] {
        assert!(off.iter().any(|one| one == line), "no {line} in {off:#?}");
    }
    // A share of two gigabytes is less than the bytes that are advised: it is better, and stays.
    assert_eq!(named(&findings, "vm.dirty_bytes").verdict, Verdict::Right);
    let placed = host.off(&on(&[1]));
    assert!(placed.contains(&"sda interrupt 19 (ahci[0000:00:1f.2]): 0-1 -> 0".to_owned()), "{placed:#?}");
    assert_eq!(
        wrong(&diagnose::limits(&facts.limits, "of this process", true, "ringmq")),
        ["open files of this process"]
    );
}

#[test]
fn without_sys_there_are_no_disks_and_no_panic() {
    let host = Host::unpack("no-sys");
    let facts = host.facts();
    assert!(!facts.has_sys && facts.store.as_ref().unwrap().disks.is_empty());
    assert!(host.off(&Purpose::default()).is_empty());
    let checks = diagnose::store(facts.store.as_ref().unwrap(), Ok(()));
    assert!(checks.iter().all(|check| check.verdict == check::Verdict::Unknown || check.name == "direct I/O"));
    assert_eq!(diagnose::cgroup(&facts, 1, 1)[1].verdict, check::Verdict::Unknown, "memory is not known");
}

#[test]
fn a_store_has_to_be_there() {
    let host = Host::unpack("no-sys");
    let read = |store: &str| Facts::read(&host.root(), std::iter::empty(), Some(store.as_ref()));
    assert!(read("/data").is_ok());
    assert!(read("/data/new").unwrap_err().to_string().contains("name a folder that exists"));
    assert!(read("/data/x").is_err(), "a file is no folder");
}

#[test]
fn file_systems_that_hold_no_store() {
    let host = Host::unpack("vm-virtio");
    let mut store = host.facts().store.unwrap();
    assert_eq!(wrong(&diagnose::store(&store, Ok(()))), ["mount options"], "discard");
    for kind in ["tmpfs", "overlay", "nfs4", "fuse.sshfs", "9p"] {
        store.mount.as_mut().unwrap().kind = kind.to_owned();
        let checks = diagnose::store(&store, Err(io::ErrorKind::InvalidInput.into()));
        assert_eq!(wrong(&checks), ["store file system", "mount options", "direct I/O"], "{kind}");
    }
    let mount = store.mount.as_mut().unwrap();
    mount.kind = "btrfs".to_owned();
    mount.options = vec!["ro".to_owned()];
    let denied = diagnose::store(&store, Err(io::ErrorKind::PermissionDenied.into()));
    assert_eq!(wrong(&denied), ["mount options"]);
    assert_eq!(check_named(&denied, "store file system").verdict, check::Verdict::Note);
    assert_eq!(check_named(&denied, "direct I/O").verdict, check::Verdict::Unknown);
}

#[test]
fn room_and_the_time_that_it_lasts() {
    let gib = 1 << 30;
    let disk = Space { total: 100 * gib, free: 60 * gib };
    let verdict = |space, growth| diagnose::space(space, 0.9, growth).verdict;
    assert_eq!(verdict(disk, None), check::Verdict::Fine);
    // 50 GiB until sends are refused: at 1 MiB a second that is 14 hours, at 100 KiB a second six days.
    let fast = diagnose::space(disk, 0.9, Some((1 << 20) as f64));
    assert_eq!(fast.verdict, check::Verdict::Wrong);
    assert!(fast.now.contains("14 hours"), "{}", fast.now);
    assert_eq!(verdict(disk, Some((100 << 10) as f64)), check::Verdict::Fine);
    assert_eq!(verdict(Space { free: 9 * gib, ..disk }, None), check::Verdict::Wrong, "refused already");
}

#[test]
fn probes_become_checks() {
    assert_eq!(diagnose::ring(Ok(())).verdict, check::Verdict::Fine);
    let refused = diagnose::ring(Err("io_uring cannot be used here (EPERM): run it elsewhere".to_owned()));
    assert_eq!(
        (refused.now.as_str(), refused.mend.as_deref()),
        ("io_uring cannot be used here (EPERM)", Some("run it elsewhere"))
    );
    let facts = Host::unpack("vm-virtio").facts();
    assert_eq!(wrong(&diagnose::clock(Ok(false), &facts)), ["clock"]);
    let unknown = diagnose::clock(Err(io::ErrorKind::PermissionDenied.into()), &facts);
    assert_eq!(unknown[0].verdict, check::Verdict::Unknown);
}

#[test]
fn limits_at_a_login() {
    let host = Host::unpack("metal-nvme");
    let given = |user| Limits::at_login(&host.root(), user);
    assert_eq!(given("anybody"), Limits { files: 0, locked: u64::MAX }, "no soft limit of files is set");
    host.write("/etc/security/limits.d/90-ringmq.conf", &ringmq_tuning::render::limits("ringmq"));
    assert_eq!(given("ringmq"), Limits { files: OPEN_FILES, locked: u64::MAX });
    assert_eq!(given("other").files, 0);
    host.write("/etc/security/limits.d/95.conf", "ringmq - nofile 100\n");
    assert_eq!(given("ringmq").files, 100, "the later line wins");
}

#[test]
fn a_file_that_is_read_later_is_named() {
    let host = Host::unpack("vm-virtio");
    host.write("/etc/sysctl.d/90-ringmq.conf", "-vm.swappiness = 1\n");
    host.write("/etc/sysctl.d/99-mine.conf", "# mine\nvm/swappiness=60\n");
    host.write("/usr/lib/sysctl.d/10-early.conf", "vm.swappiness=30\n");
    let facts = host.facts();
    let findings = host.findings(&Purpose::default());
    let check = Check::setting(named(&findings, "vm.swappiness"), &facts, "ringmq tune --apply");
    assert!(check.why.as_deref().unwrap().contains("/etc/sysctl.d/99-mine.conf sets it"), "{check}");
}
