//! The disks below the store: scheduler, size of a request, and where completions run.

use super::{Finding, Place, Purpose, Rule, Verdict};
use crate::facts::{Disk, Facts, Irq, chosen, list_cpus, parse_cpus};

/// A batch of the log is one request up to this size, KiB, where the device takes it.
const REQUEST_KIB: u64 = 1024;

pub(super) fn findings(facts: &Facts, purpose: &Purpose) -> Vec<Finding> {
    let disks = facts.store.iter().flat_map(|store| &store.disks).filter(|disk| !disk.is_pretended());
    let spare = purpose.cpus.as_deref().map(|cpus| facts.spare_cpus(cpus)).unwrap_or_default();
    disks.flat_map(|disk| of_disk(disk, facts, &spare)).collect()
}

fn of_disk(disk: &Disk, facts: &Facts, spare: &[usize]) -> Vec<Finding> {
    let mut findings = vec![scheduler(disk), request_size(disk)];
    if disk.is_nvme() {
        findings.push(
            queue(
                disk,
                "nomerges",
                "2",
                "requests come large and aligned: looking for neighbours costs and finds none",
            )
            .judged(disk.nomerges.as_deref(), &Rule::AtLeast(2)),
        );
    }
    findings.push(completion(disk, spare));
    findings.extend(placed(disk, facts, spare));
    findings
}

fn queue(disk: &Disk, file: &str, wanted: &str, why: &str) -> Finding {
    let place = Place::Queue { disk: disk.name.clone(), file: file.to_owned() };
    Finding::new(format!("{} {file}", disk.name), place, wanted, why)
}

fn scheduler(disk: &Disk) -> Finding {
    let (rule, wanted, why) = if disk.is_nvme() {
        (Rule::Exactly("none"), "none", "an NVMe device orders by itself, and a scheduler costs CPU on each request")
    } else if disk.spins() {
        (
            Rule::Exactly("mq-deadline"),
            "mq-deadline",
            "a head that moves needs its requests in order, none waiting long",
        )
    } else {
        let rule = Rule::OneOf(&["mq-deadline", "none"]);
        (rule, "mq-deadline", "bfq and kyber share out what one writer needs whole")
    };
    let finding = queue(disk, "scheduler", wanted, why);
    let Some(offered) = &disk.scheduler else { return finding };
    let finding = finding.judged(Some(chosen(offered)), &rule);
    let is_offered = offered.split_whitespace().any(|name| name.trim_matches(['[', ']']) == finding.wanted);
    if finding.verdict == Verdict::Off && !is_offered {
        return finding.absent("the kernel does not offer it for this disk");
    }
    finding
}

fn request_size(disk: &Disk) -> Finding {
    let most = disk.max_hw_sectors_kb.unwrap_or(REQUEST_KIB).min(REQUEST_KIB);
    let why = "a batch that is cut into several requests is durable only with the last of them";
    let now = disk.max_sectors_kb.map(|now| now.to_string());
    queue(disk, "max_sectors_kb", &most.to_string(), why).judged(now.as_deref(), &Rule::AtLeast(most))
}

/// The file system finishes a write in a kernel worker of the core that the completion runs on, and on a core that never
/// idles that worker waits for scheduler ticks.
fn completion(disk: &Disk, spare: &[usize]) -> Finding {
    let now = disk.rq_affinity.as_deref();
    if spare.is_empty() {
        let why = "a write ends on the core that began it, not behind whatever keeps the interrupt's core busy";
        return queue(disk, "rq_affinity", "2", why).judged(now, &Rule::Exactly("2"));
    }
    let why = "cores are left over for interrupts: what a write ends with stays there, off the shards";
    queue(disk, "rq_affinity", "1", why).judged(now, &Rule::AtMost(1))
}

/// Where the broker leaves cores over, the interrupts of a disk without one for each core go there.
fn placed(disk: &Disk, facts: &Facts, spare: &[usize]) -> Vec<Finding> {
    if spare.is_empty() || disk.irqs.is_empty() || disk.irqs.len() >= facts.cpus.online.len() {
        return Vec::new();
    }
    disk.irqs.iter().map(|irq| of_irq(disk, irq, spare, facts.irqbalance)).collect()
}

fn of_irq(disk: &Disk, irq: &Irq, spare: &[usize], irqbalance: bool) -> Finding {
    let wanted = list_cpus(spare);
    let balanced =
        if irqbalance { "; irqbalance runs and will move it: ban it there (IRQBALANCE_BANNED_CPULIST)" } else { "" };
    let why = format!("completions belong on cores {wanted}, which the broker leaves over{balanced}");
    let name = format!("{} interrupt {} ({})", disk.name, irq.number, irq.name);
    let mut finding = Finding::new(name, Place::Irq(irq.number), wanted, why).judged(Some(&irq.allowed), &Rule::Any);
    let allowed = parse_cpus(&irq.allowed).unwrap_or_default();
    if !allowed.iter().all(|cpu| spare.contains(cpu)) {
        finding.verdict = Verdict::Off;
    }
    finding
}
