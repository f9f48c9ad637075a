//! Setting, and taking back, on recorded hosts whose files stand for the kernel's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::support::Host;
use ringmq_tuning::Error;
use ringmq_tuning::advise::Purpose;
use ringmq_tuning::apply::{self, Outcome, RECORD, Step};

const SYSCTL: &str = "/etc/sysctl.d/90-ringmq.conf";
const DROP_IN: &str = "/etc/systemd/system/ringmq.service.d/90-ringmq.conf";

fn set(host: &Host, dry: bool) -> Result<Vec<Step>, Error> {
    apply::apply(&host.root(), &host.facts(), &Purpose::default(), Some(Path::new("/data")), dry)
}

fn undo(host: &Host) -> Result<Vec<Step>, Error> {
    apply::undo(&host.root(), &host.facts(), false)
}

/// Every file of the host with its text.
fn everything(host: &Host) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![host.at("/")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                found.insert(path.clone(), "folder".to_owned());
                folders.push(path);
            } else if kind.is_file() {
                let text = fs::read_to_string(&path).unwrap();
                // What is in brackets is chosen: a file that stands for the kernel's has the name alone afterwards.
                let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
                let text = chosen.unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
                found.insert(path, text);
            }
        }
    }
    found
}

fn step<'a>(steps: &'a [Step], what: &str) -> &'a Step {
    steps.iter().find(|step| step.what == what).unwrap_or_else(|| panic!("no {what} in {steps:#?}"))
}

#[test]
fn everything_is_set_once_and_comes_back() {
    let host = Host::unpack("metal-nvme");
    // The kernel makes the share zero when bytes are set; files do not, so that the share is seen to come back.
    let before = everything(&host);
    assert!(set(&host, true).unwrap().len() > 15);
    assert_eq!(everything(&host), before, "a dry run changes nothing");

    let steps = set(&host, false).unwrap();
    assert!(steps.iter().all(|step| step.outcome == Outcome::Done), "{steps:#?}");
    assert!(host.off(&Purpose::default()).is_empty(), "{:#?}", host.off(&Purpose::default()));
    assert_eq!(host.read("/proc/sys/vm/dirty_writeback_centisecs").as_deref(), Some("500"));
    for cpu in 0..4 {
        let governor = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        assert_eq!(host.read(&governor).as_deref(), Some("performance"));
    }
    let sysctls = host.read(SYSCTL).unwrap();
    assert!(sysctls.contains("-vm.dirty_bytes = 1073741824") && !sysctls.contains("somaxconn"), "{sysctls}");
    let rules = host.read("/etc/udev/rules.d/90-ringmq.rules").unwrap();
    assert!(rules.contains(r#"KERNEL=="nvme1n1", ATTR{queue/scheduler}="none""#), "{rules}");
    assert!(
        host.read("/etc/tmpfiles.d/90-ringmq.conf")
            .unwrap()
            .contains("cpu3/cpufreq/scaling_governor - - - - performance")
    );
    assert!(host.read(DROP_IN).unwrap().contains("ReadWritePaths=/data"));
    assert!(host.read("/etc/security/limits.d/90-ringmq.conf").unwrap().contains("ringmq hard nofile 1048576"));

    let after = everything(&host);
    assert_eq!(set(&host, false).unwrap(), [], "the second time nothing is left to do");
    assert_eq!(everything(&host), after);

    let steps = undo(&host).unwrap();
    assert!(steps.iter().all(|step| step.outcome == Outcome::Done), "{steps:#?}");
    let mut restored = everything(&host);
    // The kernel forgets bytes when the share is set.
    for name in ["dirty_bytes", "dirty_background_bytes"] {
        let path = host.at(&format!("/proc/sys/vm/{name}"));
        restored.insert(path, "0".to_owned());
    }
    // Folders that belong to the system stay.
    restored.retain(|path, text| before.contains_key(path) || text != "folder");
    assert_eq!(restored, before);
    assert!(!host.at("/etc/systemd/system/ringmq.service.d").exists(), "a folder of our own does not");
    assert!(matches!(undo(&host), Err(Error::NothingToUndo(_))));
}

#[test]
fn what_somebody_changed_since_is_theirs() {
    let host = Host::unpack("vm-virtio");
    set(&host, false).unwrap();
    host.write("/proc/sys/vm/swappiness", "10\n");
    host.write("/proc/sys/net/core/netdev_max_backlog", "1000\n");
    host.write(SYSCTL, "vm.swappiness = 10\n");
    let steps = undo(&host).unwrap();
    assert_eq!(step(&steps, "vm.swappiness").outcome, Outcome::Left("it was changed since, to 10, so it stays".into()));
    assert_eq!(step(&steps, "net.core.netdev_max_backlog").outcome, Outcome::Done, "it is what it was");
    assert!(matches!(step(&steps, SYSCTL).outcome, Outcome::Left(_)));
    assert_eq!(host.read("/proc/sys/vm/swappiness").as_deref(), Some("10"));
    assert_eq!(host.read(SYSCTL).as_deref(), Some("vm.swappiness = 10"));
    assert_eq!(host.read("/proc/sys/vm/watermark_scale_factor").as_deref(), Some("10"));
}

#[test]
fn a_better_value_of_somebody_elses_leaves_our_file() {
    let host = Host::unpack("vm-virtio");
    set(&host, false).unwrap();
    assert!(host.read(SYSCTL).unwrap().contains("netdev_max_backlog = 4096"));
    host.write("/proc/sys/net/core/netdev_max_backlog", "250000\n");
    let steps = set(&host, false).unwrap();
    assert_eq!(steps.len(), 1, "{steps:#?}");
    assert!(!host.read(SYSCTL).unwrap().contains("netdev_max_backlog"), "it would be lowered at the next boot");
    undo(&host).unwrap();
    assert_eq!(host.read("/proc/sys/net/core/netdev_max_backlog").as_deref(), Some("250000"));
}

#[test]
fn a_users_file_is_never_written_over() {
    let host = Host::unpack("vm-virtio");
    host.write(SYSCTL, "# mine\n");
    let steps = set(&host, false).unwrap();
    assert!(step(&steps, SYSCTL).has_failed());
    assert_eq!(host.read(SYSCTL).as_deref(), Some("# mine"));
    assert_eq!(host.read("/proc/sys/vm/swappiness").as_deref(), Some("1"), "the values are set all the same");
    undo(&host).unwrap();
    assert_eq!(host.read(SYSCTL).as_deref(), Some("# mine"));
    assert_eq!(host.read("/proc/sys/vm/swappiness").as_deref(), Some("60"));
}

#[test]
fn what_cannot_be_set_does_not_stop_the_rest() {
    let host = Host::unpack("vm-virtio");
    // A file that takes what is written and keeps nothing of it, like a setting that the kernel does not let be set.
    let backlog = host.at("/proc/sys/net/core/netdev_max_backlog");
    fs::remove_file(&backlog).unwrap();
    std::os::unix::fs::symlink("/dev/null", &backlog).unwrap();
    let steps = set(&host, false).unwrap();
    let failed: Vec<&str> = steps.iter().filter(|step| step.has_failed()).map(|step| step.what.as_str()).collect();
    assert_eq!(failed, ["net.core.netdev_max_backlog"], "{steps:#?}");
    assert!(!host.read(SYSCTL).unwrap().contains("netdev_max_backlog"), "it would fail at each boot");
    assert!(!host.read(RECORD).unwrap().contains("netdev_max_backlog"), "there is nothing to take back");
    assert_eq!(host.read("/proc/sys/vm/swappiness").as_deref(), Some("1"));
}

#[test]
fn only_root_changes_anything() {
    let host = Host::unpack("old-5.10");
    let before = everything(&host);
    assert!(matches!(set(&host, false), Err(Error::NotRoot)));
    assert!(set(&host, true).is_ok(), "looking is for everybody");
    assert_eq!(everything(&host), before);
}

#[test]
fn a_record_that_is_damaged_or_not_ours_is_not_acted_on() {
    let host = Host::unpack("vm-virtio");
    host.write(RECORD, "{");
    assert!(matches!(undo(&host), Err(Error::Undo { .. })));
    assert!(matches!(set(&host, false), Err(Error::Undo { .. })), "the old record would be lost");
    let foreign = [
        r#"{"entries":[{"place":{"switch":"/etc/passwd"},"wrote":"x","back_place":{"switch":"/etc/passwd"},"back":"y"}],"files":[]}"#,
        r#"{"entries":[{"place":{"switch":"/sys/../etc/passwd"},"wrote":"x","back_place":{"irq":1},"back":"y"}],"files":[]}"#,
        r#"{"entries":[{"place":{"sysctl":"kernel.core_pattern"},"wrote":"x","back_place":{"irq":1},"back":"y"}],"files":[]}"#,
        r#"{"entries":[{"place":{"queue":{"disk":"..","file":"x"}},"wrote":"x","back_place":{"irq":1},"back":"y"}],"files":[]}"#,
        r#"{"entries":[],"files":[{"path":"/etc/passwd","text":"","folder":null}]}"#,
    ];
    for record in foreign {
        host.write(RECORD, record);
        assert!(matches!(undo(&host), Err(Error::Undo { .. })), "{record}");
    }
}

#[test]
fn a_second_tune_waits_its_turn() {
    let host = Host::unpack("vm-virtio");
    let folder = host.at(RECORD).parent().unwrap().to_owned();
    fs::create_dir_all(&folder).unwrap();
    let held = fs::File::open(&folder).unwrap();
    held.lock().unwrap();
    assert!(matches!(set(&host, false), Err(Error::Busy(_))));
    drop(held);
    assert!(set(&host, false).is_ok());
}
