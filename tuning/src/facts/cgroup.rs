//! What the control group of this process leaves it, version 1 and version 2: the least of its own limits and of those
//! above it, as far as they can be seen from inside.

use std::path::{Path, PathBuf};

use super::cpu::parse_cpus;
use super::mount::Mount;
use crate::root::Root;

/// Limits of the control group. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cgroup {
    /// 1 or 2; zero where there is none.
    pub version: u8,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap, version 2 only.
    pub swap: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Cores' worth of time: 1.5 is a core and a half.
    pub quota: Option<f64>,
    /// Cores to run on.
    pub cpus: Option<Vec<usize>>,
}

/// What version 1 writes where there is no limit: the largest multiple of a page in 63 bits, or of 64 KiB.
const V1_NO_LIMIT: u64 = (1 << 63) - (1 << 16);

impl Cgroup {
    pub(super) fn read(root: &Root, mounts: &[Mount]) -> Cgroup {
        let groups = root.text("/proc/self/cgroup").unwrap_or_default();
        let v1 = |controller: &str| {
            let path = groups.lines().find_map(|line| {
                let (_, line) = line.split_once(':')?;
                let (controllers, path) = line.split_once(':')?;
                controllers.split(',').any(|one| one == controller).then_some(path)
            })?;
            let mount = mounts.iter().find(|mount| mount.kind == "cgroup" && mount.has(controller))?;
            Some(Group::new(root, mount, path))
        };
        let v2 = || {
            let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
            let mount = mounts.iter().rfind(|mount| mount.kind == "cgroup2")?;
            Some(Group::new(root, mount, path))
        };
        // Where both are mounted the controllers are still with version 1.
        if let Some(memory) = v1("memory") {
            return Cgroup::v1(&memory, v1("cpu").as_ref(), v1("cpuset").as_ref(), v1("pids").as_ref());
        }
        v2().map(|group| Cgroup::v2(&group)).unwrap_or_default()
    }

    fn v1(memory: &Group<'_>, cpu: Option<&Group<'_>>, cpuset: Option<&Group<'_>>, pids: Option<&Group<'_>>) -> Cgroup {
        let quota = cpu.and_then(|cpu| {
            cpu.least(|at| {
                let quota: f64 = at("cpu.cfs_quota_us")?.parse().ok()?;
                let period: f64 = at("cpu.cfs_period_us")?.parse().ok()?;
                (quota > 0.0 && period > 0.0).then_some(quota / period)
            })
        });
        let cpus = cpuset.and_then(|set| set.own("cpuset.effective_cpus").or_else(|| set.own("cpuset.cpus")));
        Cgroup {
            version: 1,
            memory: memory.least_number("memory.limit_in_bytes").filter(|limit| *limit < V1_NO_LIMIT),
            swap: None,
            pids: pids.and_then(|pids| pids.least_number("pids.max")),
            quota,
            cpus: cpus.and_then(|list| parse_cpus(&list)).filter(|cpus| !cpus.is_empty()),
        }
    }

    fn v2(group: &Group<'_>) -> Cgroup {
        let quota = group.least(|at| {
            let text = at("cpu.max")?;
            let (quota, period) = text.split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|period| *period > 0.0)?)
        });
        Cgroup {
            version: 2,
            memory: group.least_number("memory.max"),
            swap: group.least_number("memory.swap.max"),
            pids: group.least_number("pids.max"),
            quota,
            cpus: group.own("cpuset.cpus.effective").and_then(|list| parse_cpus(&list)).filter(|cpus| !cpus.is_empty()),
        }
    }
}

/// A group's folder, and those above it up to the mount.
struct Group<'a> {
    root: &'a Root,
    folders: Vec<PathBuf>,
}

impl<'a> Group<'a> {
    fn new(root: &'a Root, mount: &Mount, path: &str) -> Group<'a> {
        // Inside a container the mount begins at the container's own group.
        let below = Path::new(path).strip_prefix(&mount.part).or_else(|_| Path::new(path).strip_prefix("/"));
        let whole = mount.point.join(below.unwrap_or(Path::new("")));
        let inside = |folder: &&Path| folder.starts_with(&mount.point);
        let folders = whole.ancestors().take_while(inside).map(Path::to_owned).collect();
        Group { root, folders }
    }

    fn own(&self, file: &str) -> Option<String> {
        self.folders.iter().find_map(|folder| self.root.text(folder.join(file)))
    }

    fn least<T: PartialOrd>(&self, limit: impl Fn(&dyn Fn(&str) -> Option<String>) -> Option<T>) -> Option<T> {
        let limits = self.folders.iter().filter_map(|folder| limit(&|file| self.root.text(folder.join(file))));
        limits.reduce(|least, one| if one < least { one } else { least })
    }

    fn least_number(&self, file: &str) -> Option<u64> {
        self.least(|at| at(file)?.parse::<u64>().ok())
    }
}
