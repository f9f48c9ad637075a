//! The files that make settings outlive a reboot, and those that are shipped. Pure: text from values.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::OPEN_FILES;
use crate::advise::{Place, Purpose, SETTINGS};
use crate::error::Error;
use crate::facts::list_cpus;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Sysctl,
    Limits,
    Udev,
    Tmpfiles,
    /// What is added to the unit on this host.
    Systemd,
}

impl Kind {
    /// Where the file belongs.
    pub fn path(self) -> &'static str {
        match self {
            Kind::Sysctl => "/etc/sysctl.d/90-ringmq.conf",
            Kind::Limits => "/etc/security/limits.d/90-ringmq.conf",
            Kind::Udev => "/etc/udev/rules.d/90-ringmq.rules",
            Kind::Tmpfiles => "/etc/tmpfiles.d/90-ringmq.conf",
            Kind::Systemd => "/etc/systemd/system/ringmq.service.d/90-ringmq.conf",
        }
    }
}

const MADE_BY: &str = "# Made by `ringmq tune`; `ringmq tune --undo` takes back what `ringmq tune --apply` wrote.\n";

/// The shipped file of sysctls: everything that is advised on every host.
pub fn sysctl_shipped() -> String {
    let mut text = MADE_BY.to_owned();
    text.push_str("# A line that begins with `-` may fail: not every kernel has the setting.\n");
    for setting in SETTINGS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n# {}\n-{} = {}\n", setting.why, setting.name, setting.value);
    }
    text
}

/// The sysctls of this host.
pub fn sysctl(values: &BTreeMap<Place, String>) -> String {
    let lines = values.iter().filter_map(|(place, value)| match place {
        Place::Sysctl(name) => Some(format!("-{name} = {value}\n")),
        _ => None,
    });
    headed(lines)
}

/// Rules for the disks of this host. A disk is known by its name, as the kernel gives it.
pub fn udev(values: &BTreeMap<Place, String>) -> String {
    let lines = values.iter().filter_map(|(place, value)| match place {
        Place::Queue { disk, file } => Some(format!(
            "ACTION==\"add|change\", SUBSYSTEM==\"block\", KERNEL==\"{disk}\", ATTR{{queue/{file}}}=\"{value}\"\n"
        )),
        _ => None,
    });
    headed(lines)
}

/// Switches below `/sys`, written at boot by systemd-tmpfiles. Interrupts are not among them: their numbers change.
pub fn tmpfiles(values: &BTreeMap<Place, String>) -> String {
    let lines = values.iter().filter_map(|(place, value)| match place {
        Place::Switch(path) => Some(format!("w {path} - - - - {value}\n")),
        _ => None,
    });
    headed(lines)
}

/// Limits of a user's logins. A service does not read them: its unit has limits of its own.
pub fn limits(user: &str) -> String {
    format!(
        "{MADE_BY}# For logins of the user; a service takes its limits from its unit.\n\
         {user} soft nofile {OPEN_FILES}\n\
         {user} hard nofile {OPEN_FILES}\n\
         {user} soft memlock unlimited\n\
         {user} hard memlock unlimited\n"
    )
}

fn headed(lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.collect();
    if lines.is_empty() { String::new() } else { format!("{MADE_BY}{lines}") }
}

/// The folder that the unit gives to the broker; its store is in there unless another is named.
const STATE: &str = "/var/lib/ringmq";

/// What this host adds to the unit: limits, cores, and the right to write to the store. Whose service it is, the unit
/// says.
///
/// # Errors
/// For a path that a unit cannot carry.
pub fn service_dropin(purpose: &Purpose, store: Option<&Path>) -> Result<String, Error> {
    let mut text = format!("{MADE_BY}[Service]\nLimitNOFILE={OPEN_FILES}\nLimitMEMLOCK=infinity\n");
    if let Some(store) = foreign(store) {
        let _ = writeln!(text, "ReadWritePaths={}", path_text(&store)?);
    }
    if let Some(cpus) = purpose.cpus.as_deref().filter(|cpus| !cpus.is_empty()) {
        let _ = writeln!(text, "CPUAffinity={}", list_cpus(cpus));
    }
    Ok(text)
}

/// A store that is not below the folder that the unit makes.
fn foreign(store: Option<&Path>) -> Option<PathBuf> {
    let store = std::path::absolute(store?).ok()?;
    (!store.starts_with(STATE)).then_some(store)
}

/// The whole unit.
///
/// # Errors
/// For a user or a path that a unit cannot carry.
pub fn service(purpose: &Purpose, store: Option<&Path>) -> Result<String, Error> {
    let user = user_name(&purpose.user)?;
    let (mut arguments, mut writable) = (String::new(), String::new());
    if let Some(store) = foreign(store) {
        let store = path_text(&store)?;
        arguments = format!(" --store {store}");
        writable = format!("ReadWritePaths={store}\n");
    }
    let affinity = purpose.cpus.as_deref().filter(|cpus| !cpus.is_empty());
    let affinity = affinity.map(|cpus| format!("CPUAffinity={}\n", list_cpus(cpus))).unwrap_or_default();
    Ok(format!(
        "\
# Made by `ringmq tune --print systemd`. To change it on a host: `systemctl edit ringmq`.
[Unit]
Description=RingMQ message broker
After=network-online.target
Wants=network-online.target

[Service]
# The broker says when it serves, and its shards when they are alive.
Type=notify
NotifyAccess=main
WatchdogSec=30
ExecStart=/usr/local/bin/ringmq broker -c /etc/ringmq/broker.conf{arguments}
Restart=on-failure
# Wrong usage and a wrong configuration do not mend themselves.
RestartPreventExitStatus=2 4
TimeoutStartSec=600
TimeoutStopSec=120

User={user}
Group={user}
StateDirectory=ringmq
StateDirectoryMode=0750
Environment=XDG_DATA_HOME=/var/lib
{writable}
LimitNOFILE={OPEN_FILES}
LimitMEMLOCK=infinity
LimitCORE=0
MemorySwapMax=0
OOMScoreAdjust=-500
{affinity}
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
UMask=0027
SystemCallArchitectures=native
# The calls of rings (@aio) are in the first of these groups.
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"
    ))
}

/// The script that takes the place of RocketMQ's `os.sh`.
pub fn script() -> &'static str {
    "#!/bin/sh\n\
     # In the place of RocketMQ's os.sh: looks at the host, sets what is off, and keeps what was there before, so that\n\
     # `ringmq tune --undo` brings it back. Takes the flags of `ringmq tune --apply`, like --store DIR and --dry-run.\n\
     set -eu\n\
     here=$(CDPATH='' cd -- \"$(dirname -- \"$0\")\" && pwd)\n\
     if [ -x \"$here/ringmq\" ]; then\n    \
         exec \"$here/ringmq\" tune --apply \"$@\"\n\
     fi\n\
     command -v ringmq >/dev/null 2>&1 || {\n    \
         echo \"ringmq is neither beside this script nor in PATH\" >&2\n    \
         exit 2\n\
     }\n\
     exec ringmq tune --apply \"$@\"\n"
}

/// A name that means only itself in a file of limits and in a unit.
///
/// # Errors
/// For any other text.
pub fn user_name(name: &str) -> Result<&str, Error> {
    /// What `useradd` permits.
    const LENGTH_MAX: usize = 32;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let other = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_name = name.starts_with(first) && name.chars().all(other) && name.len() <= LENGTH_MAX;
    if is_name { Ok(name) } else { Err(Error::UserName(name.into())) }
}

fn path_text(path: &Path) -> Result<&str, Error> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"'\"\\%$;".contains(c);
    let text = path.to_str().filter(|text| text.chars().all(plain));
    text.ok_or_else(|| Error::StorePath(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_path_cannot_become_another_line() {
        for wrong in ["", "a b", "a\nroot", "-x", "*", "@group", "9a", "a%i"] {
            assert!(user_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(user_name("rocket_mq-1").is_ok());
        let purpose = Purpose::default();
        for wrong in ["/a b", "/a\nExecStartPre=/bin/x", "/a%h", "/a\"b"] {
            assert!(service(&purpose, Some(Path::new(wrong))).is_err(), "{wrong:?}");
            assert!(service_dropin(&purpose, Some(Path::new(wrong))).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_store_elsewhere_is_named_in_the_unit() {
        let purpose = Purpose { user: "mq".to_owned(), cpus: Some(vec![2, 3]) };
        let unit = service(&purpose, Some(Path::new("/data/mq"))).unwrap();
        for line in ["User=mq", "ReadWritePaths=/data/mq", "CPUAffinity=2-3"] {
            assert!(unit.lines().any(|one| one == line), "no {line} in {unit}");
        }
        assert!(unit.contains("broker.conf --store /data/mq\n"));
        let own = service(&Purpose::default(), Some(Path::new("/var/lib/ringmq/store"))).unwrap();
        assert!(!own.contains("ReadWritePaths") && !own.contains("--store"));
    }
}
