//! Where a server runs: its folders, its cores, its port, and the address that clients are told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::config::value;
use crate::failure::Failure;

/// The folder for data of this user: `XDG_DATA_HOME/ringmq`, `~/.local/share/ringmq`, or `/var/lib/ringmq` for a
/// process without a home.
pub(crate) fn home() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    data.unwrap_or_else(|| PathBuf::from("/var/lib")).join("ringmq")
}

/// The cores that this process may run on.
pub(crate) fn usable_cores() -> Result<Vec<usize>, Failure> {
    let fault = |why: &dyn std::fmt::Display| Failure::refused(format!("the usable cores cannot be found: {why}"));
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| fault(&error))?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.ok_or_else(|| fault(&"/proc/self/status does not say"))?;
    value::parse_cpus(list.trim()).map_err(|error| fault(&error))
}

/// More executors than a connection's number can name.
const EXECUTORS_MAX: usize = 128;

/// Cores for a broker, and one for a name server beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) broker: Vec<usize>,
    /// A usable core that the chosen ones leave over.
    pub(crate) spare: Option<usize>,
}

/// The chosen cores, or all that are usable.
pub(crate) fn choose_cores(chosen: Option<&[usize]>, usable: &[usize]) -> Result<Cores, Failure> {
    let Some(chosen) = chosen else {
        return Ok(Cores { broker: usable.iter().copied().take(EXECUTORS_MAX).collect(), spare: None });
    };
    if let Some(core) = chosen.iter().find(|core| !usable.contains(core)) {
        let usable = ranges(usable);
        return Err(Failure::config(format!("cpus: this process may not run on core {core}, only on {usable}")));
    }
    if chosen.len() > EXECUTORS_MAX {
        return Err(Failure::config(format!("cpus: a broker runs on at most {EXECUTORS_MAX} cores")));
    }
    let spare = usable.iter().copied().find(|core| !chosen.contains(core));
    Ok(Cores { broker: chosen.to_vec(), spare })
}

/// `0-2,5` for 0, 1, 2 and 5.
pub(crate) fn ranges(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let run = |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// A port that is free now, with the one two below, which belongs to it. A broker has to name its port before it
/// listens, so that another process can still take it; the start then says so.
pub(crate) fn free_broker_port(listen: IpAddr) -> io::Result<u16> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let main = TcpListener::bind((listen, 0))?;
        let port = main.local_addr()?.port();
        if (3..=65_534).contains(&port) && TcpListener::bind((listen, port - 2)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port with another free one two below"))
}

/// The host of the address that clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// As it was given.
    pub(crate) host: String,
    pub(crate) ip: IpAddr,
}

impl Told {
    pub(crate) fn with_port(&self, port: u16) -> String {
        if self.host.contains(':') { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }
}

/// `brokerIP1` if it is set, the address listened on if it is one, otherwise an address of this host.
pub(crate) fn told(broker_ip1: Option<&str>, listen: IpAddr) -> Result<Told, Failure> {
    if let Some(host) = broker_ip1 {
        let addresses = (host, 0).to_socket_addrs();
        let found = addresses.map_err(|error| error.to_string()).and_then(|mut found| {
            found.next().map(|address| address.ip()).ok_or_else(|| "it has no address".to_owned())
        });
        let ip = found.map_err(|why| Failure::config(format!("brokerIP1 = {host}: {why}")))?;
        return Ok(Told { host: host.to_owned(), ip });
    }
    let ip = if listen.is_unspecified() { host_address() } else { listen };
    Ok(Told { host: ip.to_string(), ip })
}

/// The address that RocketMQ would choose: the first IPv4 address of an interface that is up and neither loopback,
/// bridge nor point-to-point, with those of 192.168/16 behind all others.
fn host_address() -> IpAddr {
    let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        warn!(%error, "the addresses of this host cannot be listed");
        Vec::new()
    });
    let usable: Vec<IpAddr> = found
        .iter()
        .filter(|interface| !interface.is_loopback() && is_ordinary(&interface.name))
        .map(if_addrs::Interface::ip)
        .collect();
    best_address(&usable).unwrap_or_else(|| {
        warn!("this host has no address but loopback: only clients on this machine can reach the broker");
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    })
}

fn is_ordinary(interface: &str) -> bool {
    const UP: u32 = 0x1;
    const POINT_TO_POINT: u32 = 0x10;
    let folder = Path::new("/sys/class/net").join(interface);
    let flags = std::fs::read_to_string(folder.join("flags")).ok();
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    // Without a word from the system (an alias, or no /sys) the interface counts.
    flags.is_none_or(|flags| flags & UP != 0 && flags & POINT_TO_POINT == 0) && !folder.join("bridge").exists()
}

fn best_address(usable: &[IpAddr]) -> Option<IpAddr> {
    let v4 = || usable.iter().filter(|ip| ip.is_ipv4());
    let is_private = |ip: &&IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == [192, 168]);
    let is_local = |ip: &&IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    v4().find(|ip| !is_private(ip))
        .or_else(|| v4().next_back())
        .or_else(|| usable.iter().find(|ip| !is_local(ip)))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores() {
        let all = [0, 1, 2, 5];
        assert_eq!(choose_cores(None, &all).unwrap(), Cores { broker: all.to_vec(), spare: None });
        assert_eq!(choose_cores(Some(&[1, 2]), &all).unwrap(), Cores { broker: vec![1, 2], spare: Some(0) });
        assert_eq!(choose_cores(Some(&all), &all).unwrap().spare, None);
        let refused = choose_cores(Some(&[1, 4]), &all).unwrap_err().to_string();
        assert!(refused.contains("core 4") && refused.ends_with("only on 0-2,5"), "{refused}");
        assert!(!usable_cores().unwrap().is_empty());
        assert_eq!((ranges(&[]).as_str(), ranges(&[3]).as_str()), ("", "3"));
    }

    #[test]
    fn the_address_that_clients_are_told() {
        let listen: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(told(None, listen).unwrap().with_port(10911), "127.0.0.1:10911");
        assert_eq!(told(Some("10.1.2.3"), listen).unwrap().with_port(1), "10.1.2.3:1");
        assert_eq!(told(Some("::1"), listen).unwrap().with_port(1), "[::1]:1");
        let named = told(Some("localhost"), listen).unwrap();
        assert!(named.host == "localhost" && named.ip.is_loopback());
        assert!(told(Some("no.such.host.invalid"), listen).is_err());
        assert!(!told(None, "0.0.0.0".parse().unwrap()).unwrap().ip.is_unspecified());
    }

    #[test]
    fn the_address_that_rocketmq_would_choose() {
        let best = |list: &[&str]| {
            let list: Vec<IpAddr> = list.iter().map(|ip| ip.parse().unwrap()).collect();
            best_address(&list).map(|ip| ip.to_string())
        };
        assert_eq!(best(&["fd00::1", "192.168.0.2", "10.0.0.1", "10.0.0.2"]).as_deref(), Some("10.0.0.1"));
        assert_eq!(best(&["192.168.0.2", "192.168.0.3"]).as_deref(), Some("192.168.0.3"));
        assert_eq!(best(&["fe80::1", "fd00::1"]).as_deref(), Some("fd00::1"));
        assert_eq!(best(&["fe80::1"]), None);
    }

    #[test]
    fn a_free_port_has_room_for_the_vip_port() {
        let listen: IpAddr = "127.0.0.1".parse().unwrap();
        let port = free_broker_port(listen).unwrap();
        assert!(port >= 3);
    }
}
