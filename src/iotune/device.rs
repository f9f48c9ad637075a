//! Which disk a folder lies on, and whether it is still the same one: what `/proc` and `/sys` say, nothing measured.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A disk and the file system on it, as far as the system knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    /// `major:minor` of the block device; of the mount where there is none (a network, an overlay).
    pub(crate) number: String,
    /// The kernel's name, like `nvme0n1p1`.
    pub(crate) name: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) wwid: Option<String>,
    /// `ext4`, `xfs`, ...
    pub(crate) file_system: String,
    pub(crate) file_system_uuid: Option<String>,
    /// `write back` or `write through`.
    pub(crate) write_cache: Option<String>,
    pub(crate) fua: Option<bool>,
}

impl Device {
    /// The device below `dir`.
    pub(crate) fn below(dir: &Path) -> io::Result<Device> {
        Host { root: Path::new("/") }.device(dir)
    }

    /// What differs between the disk that was measured and this one, if anything does. What one side does not know
    /// proves nothing. The number counts only where no name of the disk itself is known on both sides: it can change
    /// with every boot.
    pub(crate) fn difference(&self, now: &Device) -> Option<String> {
        let both = |then: &Option<String>, now: &Option<String>| Some((then.clone()?, now.clone()?));
        let names = [
            ("wwid", both(&self.wwid, &now.wwid)),
            ("serial number", both(&self.serial, &now.serial)),
            ("model", both(&self.model, &now.model)),
            ("file system", both(&self.file_system_uuid, &now.file_system_uuid)),
            ("kind of file system", Some((self.file_system.clone(), now.file_system.clone()))),
        ];
        let is_known = names[..2].iter().any(|(_, pair)| pair.is_some());
        let number = ("number", (!is_known).then(|| (self.number.clone(), now.number.clone())));
        let mut pairs = names.into_iter().chain([number]);
        pairs.find_map(|(what, pair)| {
            let (then, now) = pair?;
            (then != now).then(|| format!("another disk ({what} {now}, not {then})"))
        })
    }

    /// Whether the files are in memory and nothing is ever durable.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs" | "devtmpfs" | "hugetlbfs")
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let named = self.name.as_ref().map_or_else(|| format!("device {}", self.number), |name| format!("/dev/{name}"));
        let mut facts = vec![format!("{named} with {}", self.file_system)];
        facts.extend(self.model.as_ref().map(|model| format!("model {model}")));
        facts.extend(self.write_cache.as_ref().map(|cache| {
            let fua = if self.fua == Some(true) { "with FUA" } else { "no FUA" };
            format!("cache {cache}, {fua}")
        }));
        facts.join(", ")
    }
}

/// The trees that are read; tests have recorded ones.
struct Host<'a> {
    root: &'a Path,
}

impl Host<'_> {
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn device(&self, dir: &Path) -> io::Result<Device> {
        let dir = fs::canonicalize(dir)?;
        let number = fs::metadata(&dir)?.dev();
        let mounts = fs::read_to_string(self.root.join("proc/self/mountinfo"))?;
        Ok(self.describe(&dir, number, &mounts))
    }

    fn describe(&self, dir: &Path, number: u64, mounts: &str) -> Device {
        let mount = mount_of(mounts, dir).unwrap_or_default();
        let mut number = numbers(number);
        if number.starts_with("0:")
            && let Ok(source) = fs::metadata(self.root.join(mount.source.trim_start_matches('/')))
            && source.rdev() != 0
        {
            // btrfs and others give each mount a number of its own.
            number = numbers(source.rdev());
        }
        let mut device = Device { number, file_system: mount.file_system, ..Device::default() };
        let Ok(path) = fs::canonicalize(self.root.join("sys/dev/block").join(&device.number)) else { return device };
        device.name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        device.file_system_uuid = device.name.as_deref().and_then(|name| self.uuid(name));
        // A partition has its disk above it.
        let disk = if path.join("partition").exists() { path.parent().unwrap_or(&path) } else { &path };
        let first = |names: &[&str]| names.iter().find_map(|name| self.text(disk.join(name)));
        device.model = first(&["device/model"]);
        device.serial = first(&["serial", "device/serial"]);
        device.wwid = first(&["wwid", "device/wwid", "dm/uuid", "md/uuid"]);
        device.write_cache = first(&["queue/write_cache"]);
        device.fua = first(&["queue/fua"]).map(|fua| fua == "1");
        device
    }

    fn uuid(&self, name: &str) -> Option<String> {
        fs::read_dir(self.root.join("dev/disk/by-uuid")).ok()?.flatten().find_map(|link| {
            let device: PathBuf = fs::read_link(link.path()).ok()?;
            (device.file_name()?.to_str()? == name).then(|| link.file_name().into_string().ok())?
        })
    }
}

/// `major:minor` as Linux packs them into one number.
fn numbers(packed: u64) -> String {
    let major = ((packed >> 32) & 0xffff_f000) | ((packed >> 8) & 0xfff);
    let minor = ((packed >> 12) & 0xffff_ff00) | (packed & 0xff);
    format!("{major}:{minor}")
}

/// A line of `mountinfo`, the fields of interest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    file_system: String,
    source: String,
}

/// The mount that holds `dir`: the deepest mount point above it, and of several there the last, which covers the others.
fn mount_of(mountinfo: &str, dir: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(unescape) else { continue };
        let mut right = right.split(' ');
        let (Some(kind), Some(source)) = (right.next(), right.next()) else { continue };
        let depth = Path::new(&point).components().count();
        if dir.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, Mount { file_system: kind.to_owned(), source: unescape(source) }));
        }
    }
    best.map(|(_, mount)| mount)
}

/// Blanks, tabs, line ends and backslashes stand as octal numbers in `mountinfo`.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const MOUNTS: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        29 27 0:25 / /dev/shm rw,relatime - tmpfs tmpfs rw\n\
        30 27 259:1 / /data rw shared:1 - xfs /dev/nvme0n1p1 rw\n\
        31 27 0:40 / /data/my\\040store rw - btrfs /dev/sdb rw\n\
        32 27 0:41 / /data rw - ext4 /dev/sdc rw\n";

    fn kind(dir: &str) -> String {
        mount_of(MOUNTS, Path::new(dir)).unwrap().file_system
    }

    #[test]
    fn the_mount_of_a_folder() {
        assert_eq!((kind("/tmp/x"), kind("/dev/shm/a")), ("ext4".to_owned(), "tmpfs".to_owned()));
        assert_eq!(kind("/data/my store/a"), "btrfs");
        assert_eq!(kind("/data/mystore"), "ext4", "a later mount covers an earlier one");
        assert_eq!(kind("/database"), "ext4");
        assert_eq!(mount_of("garbage\n1 2 3 - \n", Path::new("/")), None);
    }

    #[test]
    fn packed_numbers() {
        assert_eq!(numbers(65024), "254:0");
        assert_eq!(numbers(0x1_0301), "259:1");
        assert_eq!(numbers((1 << 20) + (259 << 8) + 7), "259:263");
    }

    /// A partition of a server NVMe, as such a host shows it.
    #[test]
    fn a_partition_is_described_by_its_disk() {
        let host = tempfile::tempdir().unwrap();
        let disk = host.path().join("sys/devices/pci0/nvme/nvme0/nvme0n1");
        let partition = disk.join("nvme0n1p1");
        for (folder, file, text) in [
            (disk.clone(), "wwid", "eui.0025\n"),
            (disk.join("device"), "model", "Fast SSD   \n"),
            (disk.join("device"), "serial", "S1\n"),
            (disk.join("queue"), "write_cache", "write through\n"),
            (disk.join("queue"), "fua", "1\n"),
            (partition.clone(), "partition", "1\n"),
        ] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
        }
        let numbers = host.path().join("sys/dev/block");
        fs::create_dir_all(&numbers).unwrap();
        symlink(&partition, numbers.join("259:1")).unwrap();
        let uuids = host.path().join("dev/disk/by-uuid");
        fs::create_dir_all(&uuids).unwrap();
        symlink("../../sda1", uuids.join("aaaa")).unwrap();
        symlink("../../nvme0n1p1", uuids.join("bbbb")).unwrap();

        let mounts = MOUNTS.lines().take(3).collect::<Vec<_>>().join("\n");
        let found = Host { root: host.path() }.describe(Path::new("/data/store"), 0x1_0301, &mounts);
        let text = |text: &str| Some(text.to_owned());
        let expected = Device {
            number: "259:1".to_owned(),
            name: text("nvme0n1p1"),
            model: text("Fast SSD"),
            serial: text("S1"),
            wwid: text("eui.0025"),
            file_system: "xfs".to_owned(),
            file_system_uuid: text("bbbb"),
            write_cache: text("write through"),
            fua: Some(true),
        };
        assert_eq!(found, expected);
        assert_eq!(found.line(), "/dev/nvme0n1p1 with xfs, model Fast SSD, cache write through, with FUA");
        let bare = Host { root: host.path() }.describe(Path::new("/data/store"), 0x7_0000_0000, &mounts);
        assert_eq!((bare.name, bare.file_system.as_str()), (None, "xfs"), "a device that /sys does not know");
    }

    #[test]
    fn the_same_disk_or_another() {
        let text = |text: &str| Some(text.to_owned());
        let disk = Device {
            number: "8:0".to_owned(),
            serial: text("S1"),
            model: text("M"),
            file_system: "ext4".to_owned(),
            ..Device::default()
        };
        assert_eq!(disk.difference(&disk), None);
        let moved = Device { number: "8:16".to_owned(), ..disk.clone() };
        assert_eq!(disk.difference(&moved), None, "a known disk may get another number");
        let other = Device { serial: text("S2"), ..disk.clone() };
        assert_eq!(disk.difference(&other).unwrap(), "another disk (serial number S2, not S1)");
        let nameless = Device { serial: None, ..moved };
        assert_eq!(disk.difference(&nameless).unwrap(), "another disk (number 8:16, not 8:0)");
        let formatted = Device { file_system: "xfs".to_owned(), ..disk.clone() };
        assert!(disk.difference(&formatted).unwrap().contains("xfs, not ext4"));
    }

    #[test]
    fn the_disk_of_this_machine() {
        let device = Device::below(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(!device.file_system.is_empty() && device.number.contains(':'), "{device:?}");
        assert!(Device::below(Path::new("/no/such/folder")).is_err());
        assert!(Device { file_system: "tmpfs".to_owned(), ..Device::default() }.is_memory() && !device.is_memory());
    }
}
