//! Switches below `/sys` that are not of a disk: huge pages, frequency, the cores of kernel workers.

use super::{Finding, Place, Purpose, Rule, Verdict};
use crate::facts::{Facts, Governor, HUGE_PAGES, HUGE_PAGES_DEFRAG, WORKERS, chosen, list_cpus, parse_cpus};

pub(super) fn findings(facts: &Facts, purpose: &Purpose) -> Vec<Finding> {
    let mut findings = huge_pages(facts);
    findings.push(governor(facts));
    findings.extend(workers(facts, purpose));
    findings
}

fn huge_pages(facts: &Facts) -> Vec<Finding> {
    let pages = Finding::new(
        "transparent huge pages",
        Place::Switch(HUGE_PAGES.to_owned()),
        "madvise",
        "memory becomes huge pages only where a program asks: `always` grows and stalls programs that did not",
    );
    let compaction = Finding::new(
        "compaction for huge pages",
        Place::Switch(HUGE_PAGES_DEFRAG.to_owned()),
        "madvise",
        "a page fault must not wait for memory to be compacted",
    );
    let of = |text: &Option<String>| text.as_deref().map(chosen).map(str::to_owned);
    vec![
        pages.judged(of(&facts.huge_pages.0).as_deref(), &Rule::OneOf(&["madvise", "never"])),
        compaction
            .judged(of(&facts.huge_pages.1).as_deref(), &Rule::OneOf(&["madvise", "defer+madvise", "defer", "never"])),
    ]
}

const GOVERNOR: &str = "performance";

/// One finding for all cores: the first that is off stands for it, and the others are set with it.
fn governor(facts: &Facts) -> Finding {
    let why = "a core that has to speed up first answers late, and does so after every pause";
    let governors = &facts.cpus.governors;
    let off = governors.iter().find(|governor| governor.now != GOVERNOR);
    let shown = off.or_else(|| governors.first());
    let cpu = shown.map_or(0, |governor| governor.cpu);
    let place = Place::Switch(governor_path(cpu));
    let finding = Finding::new("CPU governor", place, GOVERNOR, why);
    let Some(shown) = shown else {
        return finding.absent("the frequency is not this system's to choose");
    };
    if off.is_some_and(|off| !off.offered.split_whitespace().any(|name| name == GOVERNOR)) {
        let mut finding = finding.absent("the driver offers no `performance`");
        finding.now = Some(shown.now.clone());
        return finding;
    }
    let mut finding = finding.judged(Some(&shown.now), &Rule::Exactly(GOVERNOR));
    let is_off = |governor: &&Governor| governor.now != GOVERNOR && governor.cpu != cpu;
    let place = |governor: &Governor| (Place::Switch(governor_path(governor.cpu)), governor.now.clone());
    finding.alike = governors.iter().filter(is_off).map(place).collect();
    finding
}

/// The file of a core's governor.
fn governor_path(cpu: usize) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")
}

/// Where the broker leaves cores over, work of the kernel that may run anywhere goes there.
fn workers(facts: &Facts, purpose: &Purpose) -> Option<Finding> {
    let spare = facts.spare_cpus(purpose.cpus.as_deref()?);
    if spare.is_empty() {
        return None;
    }
    let wanted = mask(&spare);
    let why = format!("unbound kernel workers belong on cores {}, which the broker leaves over", list_cpus(&spare));
    let place = Place::Switch(WORKERS.to_owned());
    let mut finding = Finding::new("cores of kernel workers", place, wanted, why);
    let now = facts.workers.as_deref();
    finding = finding.judged(now, &Rule::Any);
    // Where somebody confined them to some of the spare cores already, that is at least as good.
    let is_right = now.and_then(unmask).is_some_and(|now| now.iter().all(|cpu| spare.contains(cpu)));
    if now.is_some() && !is_right {
        finding.verdict = Verdict::Off;
    }
    Some(finding)
}

/// Cores as the kernel writes a mask: groups of eight hexadecimal digits with commas between them, leading zeros left
/// out of the first.
fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(1, |most| most / 32 + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[groups - 1 - cpu / 32] |= 1 << (cpu % 32);
    }
    let mut text = format!("{:x}", words[0]);
    words[1..].iter().for_each(|word| text.push_str(&format!(",{word:08x}")));
    text
}

fn unmask(text: &str) -> Option<Vec<usize>> {
    let groups: Vec<&str> = text.split(',').collect();
    let mut list = Vec::new();
    for (at, group) in groups.iter().rev().enumerate() {
        let word = u32::from_str_radix(group, 16).ok()?;
        list.extend((0..32).filter(|bit| word >> bit & 1 == 1).map(|bit| (at * 32 + bit).to_string()));
    }
    parse_cpus(&list.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_cores() {
        assert_eq!(mask(&[0, 1]), "3");
        assert_eq!(mask(&[33]), "2,00000000");
        assert_eq!(mask(&[0, 63]), "80000000,00000001");
        for cpus in [vec![0, 1], vec![33], vec![0, 63, 127]] {
            assert_eq!(unmask(&mask(&cpus)), Some(cpus));
        }
        assert_eq!(unmask("x"), None);
    }
}
