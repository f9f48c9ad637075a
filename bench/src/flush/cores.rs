//! Which CPUs the brokers get and which the load: apart, so that the load does not slow down what it measures, and
//! never two threads of one physical core on both sides.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, ensure};

use crate::options::parse_cpu_list;

/// One CPU in four, at most, generates; it feeds several that serve.
const SHARE: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) brokers: Vec<usize>,
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// What the user chose, and for the rest a split of the CPUs that this process may run on. `None`: there is only
    /// one, which everybody shares.
    pub(crate) fn choose(brokers: Option<&str>, load: Option<&str>) -> anyhow::Result<Option<Cores>> {
        let usable = usable()?;
        let given = |name: &str, text: Option<&str>| -> anyhow::Result<Option<Vec<usize>>> {
            let Some(text) = text else { return Ok(None) };
            let cpus = parse_cpu_list(text).with_context(|| name.to_owned())?;
            let strange = cpus.iter().find(|cpu| !usable.contains(cpu));
            ensure!(strange.is_none(), "{name} {text}: this process may only run on {}", list(&usable));
            Ok(Some(cpus))
        };
        let (brokers, load) = (given("--broker-cpus", brokers)?, given("--load-cpus", load)?);
        let rest = |taken: &[usize]| -> Vec<usize> {
            let rest: Vec<usize> = usable.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
            if rest.is_empty() { taken.to_vec() } else { rest }
        };
        Ok(match (brokers, load) {
            (Some(brokers), Some(load)) => Some(Cores { brokers, load }),
            (Some(brokers), None) => {
                let rest = rest(&brokers);
                let few = rest.len().div_ceil(SHARE);
                Some(Cores { brokers, load: rest[rest.len() - few..].to_vec() })
            }
            (None, Some(load)) => Some(Cores { brokers: rest(&load), load }),
            (None, None) => split(&physical(&usable)),
        })
    }
}

/// As the command line takes it.
pub(crate) fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn usable() -> anyhow::Result<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status cannot be read")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    parse_cpu_list(list.context("/proc/self/status does not name the usable CPUs")?.trim())
}

/// The CPUs by physical core.
fn physical(usable: &[usize]) -> Vec<Vec<usize>> {
    let mut cores: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for cpu in usable {
        let siblings = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let core = fs::read_to_string(siblings).unwrap_or_else(|_| cpu.to_string());
        cores.entry(core).or_default().push(*cpu);
    }
    let mut cores: Vec<Vec<usize>> = cores.into_values().collect();
    cores.sort_unstable();
    cores
}

/// Whole physical cores for each side; the threads of a single one are split.
fn split(cores: &[Vec<usize>]) -> Option<Cores> {
    let sides = |cores: &[Vec<usize>]| {
        let few = cores.len().div_ceil(SHARE);
        let (brokers, load) = cores.split_at(cores.len() - few);
        Cores { brokers: brokers.concat(), load: load.concat() }
    };
    match cores {
        [] => None,
        [one] if one.len() == 1 => None,
        [one] => Some(sides(&one.iter().map(|cpu| vec![*cpu]).collect::<Vec<_>>())),
        cores => {
            let mut sides = sides(cores);
            sides.brokers.sort_unstable();
            sides.load.sort_unstable();
            Some(sides)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cores: &[&[usize]], expect: Option<(&[usize], &[usize])>) {
        let cores: Vec<Vec<usize>> = cores.iter().map(|core| core.to_vec()).collect();
        let expect = expect.map(|(brokers, load)| Cores { brokers: brokers.to_vec(), load: load.to_vec() });
        assert_eq!(split(&cores), expect);
    }

    #[test]
    fn brokers_and_load_share_no_physical_core() {
        check(&[&[0]], None);
        check(&[&[0], &[1]], Some((&[0], &[1])));
        check(&[&[0, 1]], Some((&[0], &[1])));
        check(&[&[0, 4], &[1, 5], &[2, 6], &[3, 7]], Some((&[0, 1, 2, 4, 5, 6], &[3, 7])));
        check(&[&[0], &[1], &[2], &[3], &[4]], Some((&[0, 1, 2], &[3, 4])));
    }

    #[test]
    fn a_choice_is_held_against_what_is_usable() {
        let usable = usable().unwrap();
        let one = usable[0].to_string();
        let chosen = Cores::choose(Some(&one), Some(&one)).unwrap().unwrap();
        assert_eq!(chosen, Cores { brokers: vec![usable[0]], load: vec![usable[0]] });
        let error = Cores::choose(Some("4000"), None).unwrap_err().to_string();
        assert!(error.contains("--broker-cpus 4000") && error.contains("may only run on"), "{error}");
        assert!(Cores::choose(None, Some("x")).is_err());
        let rest = Cores::choose(Some(&one), None).unwrap().unwrap();
        assert!(usable.len() == 1 || !rest.load.contains(&usable[0]));
    }
}
