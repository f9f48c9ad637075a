//! The mount table.

use std::path::{Path, PathBuf};

use crate::root::Root;

/// One mount, from `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`
    pub device: String,
    /// What of the file system is mounted.
    pub part: PathBuf,
    pub point: PathBuf,
    /// Of the mount and of the file system, as `mount` shows them.
    pub options: Vec<String>,
    pub kind: String,
    pub source: String,
}

impl Mount {
    /// Whether an option is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.has("ro")
    }
}

pub(super) fn read(root: &Root) -> Vec<Mount> {
    let text = root.text("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: the fields before the lone dash
/// are of the mount and their number varies, those behind it are of the file system.
fn parse(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let system: Vec<&str> = system.split(' ').collect();
    let options = mount.get(5)?.split(',').chain(system.get(2).unwrap_or(&"").split(','));
    Some(Mount {
        device: (*mount.get(2)?).to_owned(),
        part: unescape(mount.get(3)?).into(),
        point: unescape(mount.get(4)?).into(),
        options: options.filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        kind: (*system.first()?).to_owned(),
        source: unescape(system.get(1)?),
    })
}

/// Blanks and the like stand as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount that a path is on. Of two on one point the later hides the earlier.
pub(super) fn of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| path.starts_with(&mount.point);
    mounts.iter().filter(holds).max_by_key(|mount| mount.point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_the_deepest_mounts_holds_a_path() {
        let lines = "22 1 8:1 / / rw - ext4 /dev/sda1 rw,discard\n\
                     23 22 8:2 /a /data\\040x rw,noatime shared:3 master:1 - xfs /dev/sda2 rw\n\
                     24 22 0:9 / /data\\040x ro - tmpfs none rw\n";
        let mounts: Vec<Mount> = lines.lines().filter_map(parse).collect();
        assert_eq!(mounts.len(), 3);
        assert!(mounts[0].has("discard") && mounts[1].has("noatime"));
        let held = of(&mounts, Path::new("/data x/store")).unwrap();
        assert!(held.kind == "tmpfs" && held.is_read_only());
        assert_eq!(of(&mounts, Path::new("/database")).unwrap().kind, "ext4");
        assert_eq!(parse("nonsense"), None);
        assert_eq!(unescape("a\\0"), "a\\0");
    }
}
