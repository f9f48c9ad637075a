//! Cores, their governors, and the nodes of memory that they are near to.

use crate::root::Root;

/// The host's cores.
#[derive(Debug, Clone, Default)]
pub struct Cpus {
    pub online: Vec<usize>,
    pub governors: Vec<Governor>,
    /// Cores of each NUMA node.
    pub nodes: Vec<Vec<usize>>,
}

/// Who decides a core's frequency.
#[derive(Debug, Clone)]
pub struct Governor {
    pub cpu: usize,
    pub now: String,
    /// Names that the kernel offers, between blanks.
    pub offered: String,
}

const FOLDER: &str = "/sys/devices/system";

impl Cpus {
    pub(super) fn read(root: &Root) -> Cpus {
        let list = |path: &str| root.text(path).and_then(|text| parse_cpus(&text));
        let online = list(&format!("{FOLDER}/cpu/online")).or_else(|| allowed(root)).unwrap_or_default();
        let governor = |&cpu: &usize| {
            let folder = format!("{FOLDER}/cpu/cpu{cpu}/cpufreq");
            let now = root.text(format!("{folder}/scaling_governor"))?;
            let offered = root.text(format!("{folder}/scaling_available_governors")).unwrap_or_default();
            Some(Governor { cpu, now, offered })
        };
        let is_node = |name: &String| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok());
        let nodes = root.names(format!("{FOLDER}/node")).into_iter().filter(is_node);
        let nodes = nodes.filter_map(|node| list(&format!("{FOLDER}/node/{node}/cpulist")));
        let governors = online.iter().filter_map(governor).collect();
        Cpus { governors, nodes: nodes.filter(|cpus| !cpus.is_empty()).collect(), online }
    }
}

fn allowed(root: &Root) -> Option<Vec<usize>> {
    let status = root.text("/proc/self/status")?;
    parse_cpus(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim())
}

/// `0-2,5` as 0, 1, 2 and 5; `None` for what is no such list.
pub fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    /// More than any kernel is built for.
    const CPUS_MAX: usize = 65_536;
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The opposite of [`parse_cpus`].
pub fn list_cpus(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let run = |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpus(""), Some(Vec::new()));
        for wrong in ["a", "3-1", "0-99999999", "-1"] {
            assert_eq!(parse_cpus(wrong), None, "{wrong}");
        }
        assert_eq!(list_cpus(&[0, 1, 2, 5]), "0-2,5");
        assert_eq!(list_cpus(&[]), "");
    }
}
