//! Message ids: the offset id that a broker gives, and the unique id that a client (or the broker for it) makes.
//!
//! Both are upper-case hex. Addresses, process id, time and counter are arguments: this file reads no clock.

use std::net::IpAddr;

use crate::host::Host;

/// The longest id of either kind: 28 bytes in hex, with an IPv6 address.
pub const ID_MAX: usize = 56;

/// An id as text on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdText {
    text: [u8; ID_MAX],
    len: u8,
}

impl IdText {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }

    const fn new() -> IdText {
        IdText { text: [0; ID_MAX], len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        for byte in bytes {
            let at = usize::from(self.len);
            self.text[at] = HEX[usize::from(byte >> 4)];
            self.text[at + 1] = HEX[usize::from(byte & 15)];
            self.len += 2;
        }
    }

    fn push_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.push(&ip.octets()),
            IpAddr::V6(ip) => self.push(&ip.octets()),
        }
    }
}

impl std::ops::Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl std::fmt::Debug for IdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

impl std::fmt::Display for IdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The offset id (`msgId` in responses): the store host that clients connect to, and the position of the record.
pub fn offset_msg_id(store_host: Host, position: i64) -> IdText {
    let mut id = IdText::new();
    id.push_ip(store_host.ip());
    id.push(&u32::from(store_host.port()).to_be_bytes());
    id.push(&position.to_be_bytes());
    id
}

/// The store host and position in an offset id; `None` for any other text.
pub fn decode_offset_msg_id(id: &str) -> Option<(Host, i64)> {
    if !matches!(id.len(), 32 | ID_MAX) {
        return None;
    }
    let mut bytes = [0; ID_MAX / 2];
    let (pairs, _) = id.as_bytes().as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |hex: &u8| char::from(*hex).to_digit(16);
        *byte = (digit(high)? << 4 | digit(low)?) as u8;
    }
    let (host, position) = bytes[..id.len() / 2].split_last_chunk::<8>()?;
    Some((Host::decode(host)?, i64::from_be_bytes(*position)))
}

/// What makes the unique ids of one process different from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueIdSource {
    pub ip: IpAddr,
    /// The process id; its low 16 bits count.
    pub pid: u32,
    /// Java puts the hash of its class loader here; anything that tells two runs of a process apart will do.
    pub salt: u32,
}

impl UniqueIdSource {
    /// The unique id (`UNIQ_KEY`) of the `counter`th message, `month_ms` milliseconds after the month began.
    pub fn id(&self, month_ms: i64, counter: u16) -> IdText {
        let mut id = IdText::new();
        id.push_ip(self.ip);
        id.push(&(self.pid as u16).to_be_bytes());
        id.push(&self.salt.to_be_bytes());
        // A month has fewer milliseconds than an i32 that is read as unsigned can hold; Java truncates likewise.
        id.push(&(month_ms as u32).to_be_bytes());
        id.push(&counter.to_be_bytes());
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_look_like_rocketmqs() {
        let host = Host::new("10.0.0.7".parse().unwrap(), 10911);
        let id = offset_msg_id(host, 0x0102_0304_0506_0708);
        assert_eq!(id.as_str(), "0A00000700002A9F0102030405060708");
        let source = UniqueIdSource { ip: "127.0.0.1".parse().unwrap(), pid: 0x1_2345, salt: 0x18B4_AAC2 };
        assert_eq!(source.id(0x0A0B_0C0D, 0xFFFE).as_str(), "7F000001234518B4AAC20A0B0C0DFFFE");
    }

    #[test]
    fn other_texts_are_no_offset_ids() {
        for text in ["", "0A", "0A00000700002A9F010203040506070G", "é000000700002A9F010203040506070"] {
            assert_eq!(decode_offset_msg_id(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn offset_ids_come_back(ip: IpAddr, port: u16, position: i64) {
            let host = Host::new(ip, port);
            let id = offset_msg_id(host, position);
            prop_assert_eq!(decode_offset_msg_id(&id), Some((host, position)));
            prop_assert_eq!(decode_offset_msg_id(&id.to_lowercase()), Some((host, position)));
        }

        #[test]
        fn any_text_is_an_answer(text in ".{0,60}") {
            let _ = decode_offset_msg_id(&text);
        }
    }
}
