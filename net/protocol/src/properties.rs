//! The property string of a record (`name 0x01 value 0x02 …`), the well-known names, and the flag bits beside it.
//!
//! The string is parsed in place and never into a map. Neither separator can be escaped, so a name or value that holds
//! one is refused where properties are written.

use thiserror::Error;

use crate::value::Value;

/// Stands behind a name.
pub const NAME_VALUE_SEPARATOR: u8 = 1;
/// Stands behind a value; the last one may be missing.
pub const PROPERTY_SEPARATOR: u8 = 2;
/// The longest property string: its length is an i16.
pub const PROPERTIES_MAX: usize = i16::MAX as usize;

macro_rules! property_names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// Every name that RocketMQ gives a meaning; applications cannot set them as properties of their own.
        pub const RESERVED: &[&str] = &[$($text),*];
    };
}

property_names! {
    /// Business keys, separated by blanks; indexed.
    KEYS = "KEYS";
    TAGS = "TAGS";
    /// "false" when the sender does not wait for flush and replica; absent means true.
    WAIT = "WAIT";
    DELAY = "DELAY";
    RETRY_TOPIC = "RETRY_TOPIC";
    REAL_TOPIC = "REAL_TOPIC";
    REAL_QID = "REAL_QID";
    TRAN_MSG = "TRAN_MSG";
    PGROUP = "PGROUP";
    MIN_OFFSET = "MIN_OFFSET";
    MAX_OFFSET = "MAX_OFFSET";
    BUYER_ID = "BUYER_ID";
    TRANSFER_FLAG = "TRANSFER_FLAG";
    CORRECTION_FLAG = "CORRECTION_FLAG";
    MQ2_FLAG = "MQ2_FLAG";
    INSTANCE_ID = "INSTANCE_ID";
    EXTEND_UNIQ_INFO = "EXTEND_UNIQ_INFO";
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    RECONSUME_TIME = "RECONSUME_TIME";
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    MSG_REGION = "MSG_REGION";
    TRACE_ON = "TRACE_ON";
    /// The client's message id; the broker makes one when it is missing.
    UNIQ_KEY = "UNIQ_KEY";
    CLUSTER = "CLUSTER";
    CONSUME_START_TIME = "CONSUME_START_TIME";
    INNER_NUM = "INNER_NUM";
    INNER_BASE = "INNER_BASE";
    DUP_INFO = "DUP_INFO";
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    TRAN_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET";
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES";
    TRANSACTION_ID = "__transactionId__";
    CORRELATION_ID = "CORRELATION_ID";
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT";
    TTL = "TTL";
    MSG_TYPE = "MSG_TYPE";
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME";
    ARRIVE_TIME = "ARRIVE_TIME";
    POP_CK = "POP_CK";
    POP_CK_OFFSET = "POP_CK_OFFSET";
    FIRST_POP_TIME = "1ST_POP_TIME";
    SHARDING_KEY = "__SHARDINGKEY";
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC";
    TIMER_DELAY_MS = "TIMER_DELAY_MS";
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS";
    TIMER_OUT_MS = "TIMER_OUT_MS";
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS";
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS";
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES";
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY";
    TIMER_DELAY_LEVEL = "TIMER_DELAY_LEVEL";
    FORWARD_QUEUE_ID = "PROPERTY_FORWARD_QUEUE_ID";
    REDIRECT = "REDIRECT";
    TRACE_CONTEXT = "TRACE_CONTEXT";
    BORN_HOST = "__BORNHOST";
    BORN_TIMESTAMP = "BORN_TIMESTAMP";
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC";
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID";
    CRC32 = "__CRC32#";
}

/// The pairs of a property string in order. Pieces without a separator, and pairs whose name or value is empty, are
/// passed over, as RocketMQ 5.x does.
pub fn iter(properties: &str) -> impl Iterator<Item = (&str, &str)> {
    properties
        .split(char::from(PROPERTY_SEPARATOR))
        .filter_map(|pair| pair.split_once(char::from(NAME_VALUE_SEPARATOR)))
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

/// The value of a property; of properties with the same name the last counts.
pub fn get<'a>(properties: &'a str, name: &str) -> Option<&'a str> {
    iter(properties).filter(|(found, _)| *found == name).last().map(|(_, value)| value)
}

/// A property of a string as it came in a header, escapes undone only for the result; the last of a name counts.
///
/// Meant for a few look-ups per message: the plain case borrows, the escaped one copies the value alone.
pub fn get_value(properties: Value<'_>, name: &str) -> Option<String> {
    match properties.as_plain() {
        Some(plain) => get(plain, name).map(str::to_owned),
        None => get(&properties.to_string(), name).map(str::to_owned),
    }
}

/// Why a property cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PropertyError {
    #[error("a property's name or value is empty")]
    Empty,
    #[error("a property's name or value holds a separator character (1 or 2)")]
    Separator,
    #[error("the name is reserved")]
    Reserved,
}

/// Checks a pair: neither part empty, no separator in either.
pub fn check(name: &str, value: &str) -> Result<(), PropertyError> {
    if name.is_empty() || value.is_empty() {
        return Err(PropertyError::Empty);
    }
    let separates = |byte| matches!(byte, NAME_VALUE_SEPARATOR | PROPERTY_SEPARATOR);
    if name.bytes().chain(value.bytes()).any(separates) {
        return Err(PropertyError::Separator);
    }
    Ok(())
}

/// Checks a pair that an application sets: as [`check`], and the name is not one of RocketMQ's.
pub fn check_user(name: &str, value: &str) -> Result<(), PropertyError> {
    if RESERVED.contains(&name) {
        return Err(PropertyError::Reserved);
    }
    check(name, value)
}

/// Appends a pair to a property string, with the separator that the string may lack.
pub fn push(properties: &mut String, name: &str, value: &str) -> Result<(), PropertyError> {
    check(name, value)?;
    if !properties.is_empty() && !properties.ends_with(char::from(PROPERTY_SEPARATOR)) {
        properties.push(char::from(PROPERTY_SEPARATOR));
    }
    properties.push_str(name);
    properties.push(char::from(NAME_VALUE_SEPARATOR));
    properties.push_str(value);
    properties.push(char::from(PROPERTY_SEPARATOR));
    Ok(())
}

/// The string without the properties of these names.
pub fn without(properties: &str, names: &[&str]) -> String {
    let mut kept = String::with_capacity(properties.len());
    for (name, value) in iter(properties).filter(|(name, _)| !names.contains(name)) {
        kept.push_str(name);
        kept.push(char::from(NAME_VALUE_SEPARATOR));
        kept.push_str(value);
        kept.push(char::from(PROPERTY_SEPARATOR));
    }
    kept
}

/// The sysFlag of a record (`MessageSysFlag`).
pub mod sys_flag {
    pub const COMPRESSED: i32 = 0x1;
    pub const MULTI_TAGS: i32 = 0x2;
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    pub const TRANSACTION_ROLLBACK: i32 = 0xC;
    pub const TRANSACTION_MASK: i32 = 0xC;
    pub const BORN_HOST_V6: i32 = 0x10;
    pub const STORE_HOST_V6: i32 = 0x20;
    pub const NEED_UNWRAP: i32 = 0x40;
    pub const INNER_BATCH: i32 = 0x80;
    /// Which codec compressed the body, in bits 8 to 10.
    pub const COMPRESSION_MASK: i32 = 0x700;

    /// The transaction bits: 0 for an ordinary message.
    pub const fn transaction(sys_flag: i32) -> i32 {
        sys_flag & TRANSACTION_MASK
    }

    pub const fn with_transaction(sys_flag: i32, transaction: i32) -> i32 {
        sys_flag & !TRANSACTION_MASK | transaction & TRANSACTION_MASK
    }

    /// Prepared and rolled back records take no queue offset and are not consumed.
    pub const fn is_consumable(sys_flag: i32) -> bool {
        matches!(transaction(sys_flag), 0 | TRANSACTION_COMMIT)
    }

    pub const fn is_compressed(sys_flag: i32) -> bool {
        sys_flag & COMPRESSED != 0
    }

    /// 0 to 7; 0 means zlib, from clients that knew no other.
    pub const fn compression_type(sys_flag: i32) -> i32 {
        (sys_flag & COMPRESSION_MASK) >> 8
    }
}

/// The sysFlag of a pull (`PullSysFlag`).
pub mod pull_flag {
    pub const COMMIT_OFFSET: i32 = 1;
    pub const SUSPEND: i32 = 2;
    pub const SUBSCRIPTION: i32 = 4;
    pub const CLASS_FILTER: i32 = 8;
    pub const LITE_PULL: i32 = 16;

    pub const fn has_commit_offset(flag: i32) -> bool {
        flag & COMMIT_OFFSET != 0
    }

    pub const fn has_suspend(flag: i32) -> bool {
        flag & SUSPEND != 0
    }

    pub const fn has_subscription(flag: i32) -> bool {
        flag & SUBSCRIPTION != 0
    }

    pub const fn is_lite_pull(flag: i32) -> bool {
        flag & LITE_PULL != 0
    }
}

/// The sysFlag of a topic (`TopicSysFlag`).
pub mod topic_flag {
    pub const UNIT: i32 = 1;
    pub const UNIT_SUB: i32 = 2;

    pub const fn build(unit: bool, unit_sub: bool) -> i32 {
        (if unit { UNIT } else { 0 }) | (if unit_sub { UNIT_SUB } else { 0 })
    }
}

/// The permission bits of a topic (`PermName`).
pub mod perm {
    pub const INHERIT: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const READ: i32 = 4;
    pub const READ_WRITE: i32 = READ | WRITE;

    pub const fn is_readable(perm: i32) -> bool {
        perm & READ != 0
    }

    pub const fn is_writeable(perm: i32) -> bool {
        perm & WRITE != 0
    }

    pub const fn is_inherited(perm: i32) -> bool {
        perm & INHERIT != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_read_as_java_reads_them() {
        let text = "KEYS\u{1}a b\u{2}broken\u{2}\u{1}v\u{2}n\u{1}\u{2}TAGS\u{1}x\u{2}TAGS\u{1}y=\u{1}z";
        assert_eq!(iter(text).collect::<Vec<_>>(), [("KEYS", "a b"), ("TAGS", "x"), ("TAGS", "y=\u{1}z")]);
        assert_eq!(get(text, TAGS), Some("y=\u{1}z"));
        assert_eq!(get(text, "broken"), None);
        assert_eq!(without(text, &[TAGS]), "KEYS\u{1}a b\u{2}");
        assert_eq!(iter("").count(), 0);
    }

    #[test]
    fn reserved_names_and_separators_are_refused() {
        assert_eq!(check_user(TAGS, "x"), Err(PropertyError::Reserved));
        assert_eq!(check("a\u{1}", "x"), Err(PropertyError::Separator));
        assert_eq!(check("a", "x\u{2}"), Err(PropertyError::Separator));
        assert_eq!(check("a", ""), Err(PropertyError::Empty));
        assert_eq!(check_user("colour", "red"), Ok(()));
    }

    #[test]
    fn a_missing_last_separator_is_made_good() {
        let mut text = "a\u{1}1".to_owned();
        push(&mut text, "b", "2").unwrap();
        push(&mut text, "c", "3").unwrap();
        assert_eq!(text, "a\u{1}1\u{2}b\u{1}2\u{2}c\u{1}3\u{2}");
    }

    #[test]
    fn flags_are_what_they_say() {
        use sys_flag::{
            TRANSACTION_COMMIT, TRANSACTION_PREPARED, TRANSACTION_ROLLBACK, is_consumable, with_transaction,
        };
        assert!(is_consumable(1) && is_consumable(TRANSACTION_COMMIT));
        assert!(!is_consumable(TRANSACTION_PREPARED) && !is_consumable(TRANSACTION_ROLLBACK));
        assert_eq!(with_transaction(0x1D, TRANSACTION_PREPARED), 0x15);
        assert_eq!(sys_flag::compression_type(0x301), 3);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_found(pairs in prop::collection::vec(("[^\u{1}\u{2}]{1,10}", "[^\u{1}\u{2}]{1,20}"), 0..20)) {
            let mut text = String::new();
            for (name, value) in &pairs {
                push(&mut text, name, value).unwrap();
            }
            let found: Vec<_> = iter(&text).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&found, &pairs);
            for (name, _) in &pairs {
                let last = pairs.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
                prop_assert_eq!(get(&text, name), last);
            }
        }

        #[test]
        fn any_text_is_an_answer(text: String) {
            prop_assert!(iter(&text).count() <= text.len());
            let _ = get(&text, TAGS);
        }
    }
}
