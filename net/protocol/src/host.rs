//! Addresses as records and message ids hold them: 4 or 16 bytes and a port of 4.
//!
//! An IPv4 address mapped into IPv6 is an IPv4 address here: clients that know only IPv4 records read everything a
//! dual-stack listener accepts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address and port. A host made from an address is never an IPv4-mapped IPv6 one; only a stored record can hold that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    ip: IpAddr,
    port: u16,
}

impl Host {
    pub const fn new(ip: IpAddr, port: u16) -> Host {
        Host { ip: ip.to_canonical(), port }
    }

    pub const fn ip(self) -> IpAddr {
        self.ip
    }

    pub const fn port(self) -> u16 {
        self.port
    }

    pub const fn is_v6(self) -> bool {
        self.ip.is_ipv6()
    }

    /// The bytes it takes in a record or message id.
    pub const fn encoded_len(self) -> usize {
        if self.is_v6() { 20 } else { 8 }
    }

    /// Writes it to the front of `out` and returns its length; `None` when it does not fit.
    pub fn encode_into(self, out: &mut [u8]) -> Option<usize> {
        let len = self.encoded_len();
        let (address, port) = out.get_mut(..len)?.split_at_mut(len - 4);
        match self.ip {
            IpAddr::V4(ip) => address.copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address.copy_from_slice(&ip.octets()),
        }
        port.copy_from_slice(&u32::from(self.port).to_be_bytes());
        Some(len)
    }

    /// Reads 8 or 20 bytes. A port that is none (above 65535) is read as its low 16 bits.
    pub fn decode(bytes: &[u8]) -> Option<Host> {
        let (address, port) = bytes.split_last_chunk::<4>()?;
        let ip = match address.len() {
            4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
            16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
            _ => return None,
        };
        // A stored IPv6 form stays one, so that a record read and written again is the same.
        Some(Host { ip, port: u32::from_be_bytes(*port) as u16 })
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Host {
        Host::new(address.ip(), address.port())
    }
}

impl From<Host> for SocketAddr {
    fn from(host: Host) -> SocketAddr {
        SocketAddr::new(host.ip, host.port)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_recorded_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:10911".parse().unwrap();
        let host = Host::from(mapped);
        assert!(!host.is_v6());
        let mut bytes = [0; 8];
        assert_eq!(host.encode_into(&mut bytes), Some(8));
        assert_eq!(bytes, [10, 0, 0, 7, 0, 0, 0x2A, 0x9F]);
        assert_eq!(Host::decode(&bytes), Some(host));
    }

    #[test]
    fn ipv6_takes_twenty_bytes() {
        let host = Host::from("[2001:db8::1]:80".parse::<SocketAddr>().unwrap());
        let mut bytes = [0; 20];
        assert_eq!(host.encode_into(&mut bytes[..19]), None);
        assert_eq!(host.encode_into(&mut bytes), Some(20));
        assert_eq!(Host::decode(&bytes), Some(host));
        assert_eq!(Host::decode(&bytes[..12]), None);
    }
}
