//! The disks below a mount: through partitions, device mapper and md down to the devices that do the work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mount::Mount;
use super::{cpu::parse_cpus, plain};
use crate::root::Root;

/// A whole disk. A value is `None` where the kernel has no such file.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// `nvme0n1`
    pub name: String,
    /// What the kernel says; see [`Disk::spins`].
    pub rotational: bool,
    /// The names that the kernel offers, the chosen one in brackets.
    pub scheduler: Option<String>,
    pub nomerges: Option<String>,
    pub rq_affinity: Option<String>,
    /// Largest request, KiB.
    pub max_sectors_kb: Option<u64>,
    /// What the device could take, KiB.
    pub max_hw_sectors_kb: Option<u64>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether the device has a write that is durable by itself.
    pub fua: bool,
    /// The memory node that it is near to.
    pub node: Option<usize>,
    pub irqs: Vec<Irq>,
}

impl Disk {
    /// Whether it speaks NVMe.
    pub fn is_nvme(&self) -> bool {
        self.name.starts_with("nvme")
    }

    /// Whether a hypervisor makes it up. It says that it spins, whatever is below.
    pub fn is_virtual(&self) -> bool {
        self.name.starts_with("vd") || self.name.starts_with("xvd")
    }

    /// Whether it has a head that moves, as far as can be known.
    pub fn spins(&self) -> bool {
        self.rotational && !self.is_virtual()
    }

    /// A block device without a device: a file, a RAM disk, compressed memory.
    pub fn is_pretended(&self) -> bool {
        ["loop", "ram", "zram", "nbd"].iter().any(|kind| self.name.starts_with(kind))
    }
}

/// An interrupt of a disk that carries completions.
#[derive(Debug, Clone, Default)]
pub struct Irq {
    pub number: u32,
    /// As `/proc/interrupts` names it.
    pub name: String,
    /// The cores that it may go to.
    pub allowed: String,
    /// The core that it goes to.
    pub effective: String,
}

/// The name in brackets, as `queue/scheduler` and the switches of huge pages show what is chosen.
pub fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(name, _)| name)
}

/// The disks that a mount's blocks end up on.
pub(super) fn below(root: &Root, mount: &Mount) -> Vec<Disk> {
    let names = root.names("/sys/block");
    let by_number = names.iter().find(|name| {
        let is_it = |folder: &str| root.text(format!("{folder}/dev")).as_deref() == Some(mount.device.as_str());
        let disk = format!("/sys/block/{name}");
        let parts = || root.names(&disk).into_iter().filter(|part| part.starts_with(name.as_str()));
        is_it(&disk) || parts().any(|part| is_it(&format!("{disk}/{part}")))
    });
    // btrfs and the like have numbers of their own; their source still names a device.
    let by_name = || {
        let name = mount.source.strip_prefix("/dev/")?;
        let mapped = name.strip_prefix("mapper/").and_then(|mapped| {
            let is_it = |dm: &&String| root.text(format!("/sys/block/{dm}/dm/name")).as_deref() == Some(mapped);
            names.iter().find(is_it)
        });
        mapped.or_else(|| names.iter().find(|disk| disk.as_str() == name)).or_else(|| whole(root, &names, name))
    };
    let Some(top) = by_number.or_else(by_name) else { return Vec::new() };
    let mut found = BTreeSet::new();
    descend(root, &names, top, &mut BTreeSet::new(), &mut found);
    found.iter().map(|name| read(root, name)).collect()
}

/// The disk that a partition is of.
fn whole<'a>(root: &Root, names: &'a [String], part: &str) -> Option<&'a String> {
    names.iter().find(|name| part.starts_with(name.as_str()) && root.has(format!("/sys/block/{name}/{part}")))
}

fn descend(root: &Root, names: &[String], name: &str, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if !seen.insert(name.to_owned()) {
        return;
    }
    let slaves = root.names(format!("/sys/block/{name}/slaves"));
    if slaves.is_empty() {
        found.insert(name.to_owned());
    }
    for slave in &slaves {
        let disk = names.iter().find(|disk| *disk == slave).or_else(|| whole(root, names, slave));
        if let Some(disk) = disk {
            descend(root, names, disk, seen, found);
        }
    }
}

fn read(root: &Root, name: &str) -> Disk {
    let queue = |file: &str| root.text(format!("/sys/block/{name}/queue/{file}"));
    let number = |file: &str| root.number(format!("/sys/block/{name}/queue/{file}"));
    let device = root.real(format!("/sys/block/{name}"));
    Disk {
        name: name.to_owned(),
        rotational: queue("rotational").as_deref() == Some("1"),
        scheduler: queue("scheduler").map(|text| plain(&text)),
        nomerges: queue("nomerges"),
        rq_affinity: queue("rq_affinity"),
        max_sectors_kb: number("max_sectors_kb"),
        max_hw_sectors_kb: number("max_hw_sectors_kb"),
        write_cache: queue("write_cache"),
        fua: queue("fua").as_deref() == Some("1"),
        node: device.as_deref().and_then(|device| above(root, device, "numa_node")?.parse().ok()),
        irqs: device.as_deref().map(|device| irqs(root, device)).unwrap_or_default(),
    }
}

/// The nearest file of that name in a folder or above it.
fn above(root: &Root, folder: &Path, file: &str) -> Option<String> {
    folder.ancestors().find_map(|folder| root.text(folder.join(file)))
}

/// The completion interrupts of the PCI function (or the MMIO device) that a block device hangs on.
fn irqs(root: &Root, device: &Path) -> Vec<Irq> {
    let within = |folder: &&Path| folder.starts_with("/sys/devices") && *folder != Path::new("/sys/devices");
    let owner: Option<(PathBuf, Vec<u32>)> = device.ancestors().take_while(within).find_map(|folder| {
        let many = root.names(folder.join("msi_irqs")).iter().filter_map(|name| name.parse().ok()).collect();
        let one = root.number(folder.join("irq")).and_then(|irq| u32::try_from(irq).ok());
        let numbers: Vec<u32> = if root.has(folder.join("msi_irqs")) { many } else { one.into_iter().collect() };
        (!numbers.is_empty()).then(|| (folder.to_owned(), numbers))
    });
    let Some((_, mut numbers)) = owner else { return Vec::new() };
    numbers.sort_unstable();
    let table = root.text("/proc/interrupts").unwrap_or_default();
    let name = |number: u32| {
        let line = table.lines().find(|line| line.trim_start().starts_with(&format!("{number}:")));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
    };
    let irq = |number: u32| {
        let read = |file: &str| root.text(format!("/proc/irq/{number}/{file}")).unwrap_or_default();
        let allowed = read("smp_affinity_list");
        let irq = Irq { number, name: name(number), effective: read("effective_affinity_list"), allowed };
        parse_cpus(&irq.allowed).is_some_and(|cpus| !cpus.is_empty()).then_some(irq)
    };
    // A virtio device's first interrupt, and the first of an NVMe controller, carry no completions of data.
    let is_data = |irq: &Irq| !irq.name.ends_with("-config") && !is_admin_queue(&irq.name);
    numbers.into_iter().filter_map(irq).filter(is_data).collect()
}

fn is_admin_queue(name: &str) -> bool {
    name.starts_with("nvme") && name.ends_with("q0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_name_stands_in_brackets() {
        assert_eq!(chosen("none [mq-deadline] bfq"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
        assert!(is_admin_queue("nvme0q0") && !is_admin_queue("nvme0q10") && !is_admin_queue("virtio1-req.0"));
    }
}
