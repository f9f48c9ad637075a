//! The fields of a stored record that a reader checks. A view of a pull reply's body, nothing is copied.

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;
const BORN_HOST_V6: u32 = 0x10;
const STORE_HOST_V6: u32 = 0x20;
/// Up to and without the born host.
const FIXED_LEN: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) queue_id: u32,
    pub(crate) queue_offset: u64,
    pub(crate) body_crc: u32,
    pub(crate) body: &'a [u8],
    /// What stands behind the body.
    behind: &'a [u8],
}

impl Record<'_> {
    /// Empty when they are no text.
    pub(crate) fn properties(&self) -> &str {
        let text = || {
            let (topic_len, rest) = self.behind.split_first()?;
            let (len, rest) = rest.get(usize::from(*topic_len)..)?.split_first_chunk()?;
            std::str::from_utf8(rest.get(..usize::from(u16::from_be_bytes(*len)))?).ok()
        };
        text().unwrap_or_default()
    }

    /// RocketMQ keeps 31 bits of the checksum; older brokers store all 32.
    pub(crate) fn crc_is_right(&self) -> bool {
        (crc32fast::hash(self.body) ^ self.body_crc) & 0x7fff_ffff == 0
    }
}

/// Splits the first record off; `None` when the bytes do not hold one.
pub(crate) fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let total = u32_at(bytes, 0)? as usize;
    let (record, rest) = bytes.split_at_checked(total)?;
    if !matches!(u32_at(record, 4)?, MAGIC_V1 | MAGIC_V2) {
        return None;
    }
    let sys_flag = u32_at(record, 36)?;
    let host_len = |v6_bit| if sys_flag & v6_bit == 0 { 8 } else { 20 };
    // Born host, store timestamp, store host, reconsume times, prepared transaction offset.
    let body_len_at = FIXED_LEN + host_len(BORN_HOST_V6) + 8 + host_len(STORE_HOST_V6) + 4 + 8;
    let body_len = u32_at(record, body_len_at)? as usize;
    let (body, behind) = record.get(body_len_at + 4..)?.split_at_checked(body_len)?;
    let queue_offset = u64::from_be_bytes(record.get(20..28)?.try_into().ok()?);
    let view = Record { queue_id: u32_at(record, 12)?, queue_offset, body_crc: u32_at(record, 8)?, body, behind };
    Some((view, rest))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn encode(queue_id: u32, queue_offset: u64, v6: bool, body: &[u8]) -> Vec<u8> {
        let host = if v6 { 20 } else { 8 };
        let mut record = vec![0; 4];
        record.extend_from_slice(&MAGIC_V1.to_be_bytes());
        record.extend_from_slice(&(crc32fast::hash(body) & 0x7fff_ffff).to_be_bytes());
        record.extend_from_slice(&queue_id.to_be_bytes());
        record.extend_from_slice(&[0; 4]);
        record.extend_from_slice(&queue_offset.to_be_bytes());
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(&(if v6 { BORN_HOST_V6 | STORE_HOST_V6 } else { 0 }).to_be_bytes());
        record.extend_from_slice(&vec![0; 8 + host + 8 + host + 4 + 8]);
        record.extend_from_slice(&(body.len() as u32).to_be_bytes());
        record.extend_from_slice(body);
        record.extend_from_slice(b"\x01T\0\x03a\x01b");
        let total = record.len() as u32;
        record[..4].copy_from_slice(&total.to_be_bytes());
        record
    }

    #[test]
    fn records_of_both_address_kinds_are_read_in_a_row() {
        let mut bytes = encode(3, 70, false, b"hello");
        bytes.extend(encode(3, 71, true, b"there"));
        let (first, rest) = split_record(&bytes).unwrap();
        assert_eq!((first.queue_id, first.queue_offset, first.body), (3, 70, &b"hello"[..]));
        assert_eq!(first.properties(), "a\x01b");
        let (second, rest) = split_record(rest).unwrap();
        assert_eq!((second.queue_offset, second.body), (71, &b"there"[..]));
        assert!(first.crc_is_right() && second.crc_is_right() && rest.is_empty());
    }

    #[test]
    fn a_changed_body_is_noticed_and_a_cut_record_is_none() {
        let mut bytes = encode(0, 0, false, b"hello");
        for len in 0..bytes.len() {
            assert_eq!(split_record(&bytes[..len]), None, "{len}");
        }
        bytes[88] ^= 1;
        assert!(!split_record(&bytes).unwrap().0.crc_is_right());
        bytes[4] = 0;
        assert_eq!(split_record(&bytes), None);
    }
}
