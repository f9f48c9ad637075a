//! Who listens on a port.

use crate::root::Root;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    /// Its name, as `ps -o comm` shows it.
    pub name: String,
}

/// The listener on a TCP port, of any address. `Err` is a listener whose process this user may not see.
pub fn listener(root: &Root, port: u16) -> Option<Result<Owner, ()>> {
    /// `TCP_LISTEN`
    const LISTEN: &str = "0A";
    let inode = ["tcp", "tcp6"].iter().find_map(|file| {
        let text = root.text(format!("/proc/net/{file}"))?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1)?.rsplit_once(':')?.1;
            let is_it = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(local, 16) == Ok(port);
            is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
    })?;
    let socket = format!("socket:[{inode}]");
    let pids = root.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    let owner = pids.into_iter().find_map(|pid| {
        let folder = format!("/proc/{pid}/fd");
        let holds = |fd: &String| {
            let target = std::fs::read_link(root.at(format!("{folder}/{fd}")));
            target.is_ok_and(|target| target.as_os_str() == socket.as_str())
        };
        let name = || root.text(format!("/proc/{pid}/comm")).unwrap_or_default();
        root.names(&folder).iter().any(holds).then(|| Owner { pid, name: name() })
    });
    Some(owner.ok_or(()))
}
