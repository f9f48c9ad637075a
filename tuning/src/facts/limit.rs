//! Limits: of this process, and those that `/etc/security` gives to a login.

use crate::root::Root;

/// Limits that matter. `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files, the hard limit: the broker raises the soft one to it.
    pub files: u64,
    /// Bytes of locked memory.
    pub locked: u64,
}

impl Limits {
    pub(super) fn read(root: &Root) -> Limits {
        Limits::of(root, "self")
    }

    /// The limits of a process; zeros where they cannot be read.
    pub fn of(root: &Root, pid: &str) -> Limits {
        let text = root.text(format!("/proc/{pid}/limits")).unwrap_or_default();
        // Name, soft, hard, unit; the name has blanks.
        let hard = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            amount(line.split_whitespace().nth(1)?)
        };
        Limits { files: hard("Max open files").unwrap_or(0), locked: hard("Max locked memory").unwrap_or(0) }
    }

    /// What `limits.conf` and `limits.d` give to the user at a login, hard and soft both, if they say anything. A line
    /// for the user stands above one for everybody; of two alike the later wins.
    pub fn at_login(root: &Root, user: &str) -> Limits {
        const FOLDER: &str = "/etc/security/limits.d";
        let files = root.names(FOLDER).into_iter().filter(|name| name.ends_with(".conf"));
        let paths = ["/etc/security/limits.conf".to_owned()].into_iter();
        let paths = paths.chain(files.map(|name| format!("{FOLDER}/{name}")));
        let text: String = paths.filter_map(|path| root.text(path)).flat_map(|text| [text, "\n".to_owned()]).collect();
        let least = |item| ["hard", "soft"].map(|kind| at_login(&text, user, kind, item)).into_iter().min();
        Limits {
            files: least("nofile").unwrap_or(0),
            // Kibibytes.
            locked: least("memlock").map_or(0, |kib| kib.saturating_mul(1024)),
        }
    }
}

fn at_login(text: &str, user: &str, kind: &str, item: &str) -> u64 {
    let of = |domain: &str| {
        let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut values = fields.filter_map(|fields| match fields[..] {
            [who, which, what, value, ..] if who == domain && what == item && (which == kind || which == "-") => {
                amount(value)
            }
            _ => None,
        });
        values.next_back()
    };
    of(user).or_else(|| of("*")).unwrap_or(0)
}

fn amount(text: &str) -> Option<u64> {
    match text {
        "unlimited" | "infinity" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}
