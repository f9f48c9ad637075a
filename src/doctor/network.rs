//! What clients are told and whether it can be reached: the address, the ports, the name servers.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use ringmq_broker::settings::Settings;
use ringmq_tuning::Root;
use ringmq_tuning::check::Check;
use ringmq_tuning::facts::{Owner, listener};

use crate::run::place::Told;

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The broker that listens on this port, if it is one of ours.
pub(super) fn running(root: &Root, port: u16) -> Option<Owner> {
    listener(root, port)?.ok().filter(is_ours)
}

fn is_ours(owner: &Owner) -> bool {
    ["ringmq", "mqbroker"].contains(&owner.name.as_str())
}

/// The address that clients are told. Where the broker runs, it is tried.
pub(super) fn address(told: &Told, settings: &Settings, is_running: bool) -> Vec<Check> {
    let name = "address that clients are told";
    let shown = told.with_port(settings.port);
    let now = if told.host == told.ip.to_string() { shown.clone() } else { format!("{shown} ({})", told.ip) };
    let mend = "brokerIP1 = an address of this host that clients reach";
    let mut checks = vec![if told.ip.is_loopback() && settings.listen.is_loopback() {
        Check::note(name, &now, "only clients on this machine reach it")
    } else if told.ip.is_loopback() {
        Check::wrong(name, &now, "an address of the network", "clients elsewhere would look on their own machine", mend)
    } else if told.ip.is_unspecified() {
        Check::wrong(name, &now, "an address of the network", "nobody can connect to it", mend)
    } else {
        match TcpListener::bind((told.ip, 0)) {
            Ok(_) => Check::fine(name, &now),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                let why = format!("no address of this host: right where {shown} is forwarded here, else set brokerIP1");
                Check::note(name, &now, why)
            }
            Err(error) => Check::unknown(name, error.to_string()),
        }
    }];
    if is_running {
        let at = SocketAddr::new(told.ip, settings.port);
        let name = "that address answers";
        checks.push(match TcpStream::connect_timeout(&at, PATIENCE) {
            Ok(_) => Check::fine(name, at.to_string()),
            Err(error) => {
                let why = "clients connect to what they are told, and from here it does not answer";
                let mend = format!("{mend}; look at bindAddress and at the firewall");
                Check::wrong(name, format!("{at}: {error}"), "a connection", why, mend)
            }
        });
    }
    checks
}

/// The broker's ports: its own, and the one two below for clients with the VIP channel.
pub(super) fn ports(root: &Root, listen: IpAddr, port: u16, running: Option<&Owner>) -> Vec<Check> {
    let ports = [Some(port), port.checked_sub(2).filter(|vip| *vip > 0)];
    ports.into_iter().flatten().map(|port| one_port(root, listen, port, running)).collect()
}

fn one_port(root: &Root, listen: IpAddr, port: u16, running: Option<&Owner>) -> Check {
    let name = format!("port {port}");
    let error = match TcpListener::bind((listen, port)) {
        Ok(_) => return Check::fine(name, "free"),
        Err(error) => error,
    };
    let mend = "listenPort = another, or end what is there";
    match (error.kind(), listener(root, port)) {
        (io::ErrorKind::AddrInUse, Some(Ok(owner))) if is_ours(&owner) && Some(&owner) == running => {
            Check::fine(name, format!("the broker's own (process {})", owner.pid))
        }
        (io::ErrorKind::AddrInUse, Some(Ok(Owner { pid, name: program }))) => {
            Check::wrong(name, format!("taken by {program} (process {pid})"), "free", "a broker listens there", mend)
        }
        (io::ErrorKind::AddrInUse, _) => {
            Check::wrong(name, "taken by a process of another user", "free", "a broker listens there", mend)
        }
        _ => Check::wrong(name, error.to_string(), "free", format!("a broker listens there, on {listen}"), mend),
    }
}

/// Each name server: does its name resolve, and does it answer?
pub(super) fn name_servers(servers: &[String]) -> Vec<Check> {
    if servers.is_empty() {
        return vec![Check::note(
            "name servers",
            "none",
            "namesrvAddr names them: without one clients do not find a broker",
        )];
    }
    servers.iter().map(|server| name_server(server)).collect()
}

fn name_server(server: &str) -> Check {
    let name = format!("name server {server}");
    let wanted = "an answer";
    let addresses: Vec<SocketAddr> = match server.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let mend = "correct namesrvAddr, or the name's entry in DNS or /etc/hosts";
            return Check::wrong(name, error.to_string(), wanted, "its name has no address", mend);
        }
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Check::fine(name, format!("{address} answers")),
            Err(error) => last = error,
        }
    }
    let mend = "start it, or correct namesrvAddr; look at the firewall";
    Check::wrong(name, last.to_string(), wanted, "a broker that cannot register is not found", mend)
}

#[cfg(test)]
mod tests {
    use ringmq_tuning::check::Verdict;

    use super::*;

    #[test]
    fn a_port_is_free_or_somebodys() {
        let root = Root::host();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let taken = TcpListener::bind((local, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let check = one_port(&root, local, port, None);
        assert_eq!(check.verdict, Verdict::Wrong);
        assert!(check.now.contains(&std::process::id().to_string()), "this process has it: {}", check.now);
        drop(taken);
        assert_eq!(one_port(&root, local, port, None).verdict, Verdict::Fine);
    }

    #[test]
    fn a_name_server_answers_or_not() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listening.local_addr().unwrap().to_string();
        assert_eq!(name_server(&at).verdict, Verdict::Fine);
        drop(listening);
        assert_eq!(name_server(&at).verdict, Verdict::Wrong);
        assert_eq!(name_server("no.such.host.invalid:9876").verdict, Verdict::Wrong);
        assert_eq!(name_servers(&[])[0].verdict, Verdict::Note);
    }
}
