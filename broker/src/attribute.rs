//! Topic attributes: the key=value pairs that RocketMQ 5 keeps beside a topic's queues, and the list of modifications
//! (`+key=value,-key`) by which an administrator changes them. The texts of the errors are RocketMQ's. What an attribute
//! does is decided where it is used; here it is only kept or refused.

use crate::limits::TOPIC_ATTRIBUTES_LENGTH_MAX;
use std::collections::BTreeMap;

/// The attributes of a topic, sorted by key.
pub type Attributes = BTreeMap<String, String>;

/// Why a list of modifications was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// A pair without the plus sign that adding takes.
    #[error("add/alter attribute format is wrong: {0}")]
    AddFormat(String),
    /// A key without the minus sign that deleting takes.
    #[error("delete attribute format is wrong: {0}")]
    DeleteFormat(String),
    /// An empty key, or one with a sign inside.
    #[error("kv string format wrong.")]
    Format,
    /// A key that is named twice.
    #[error("alter duplication key. key: {0}")]
    Duplicate(String),
    /// A new topic has nothing to delete from.
    #[error("only add attribute is supported while creating topic. key: {0}")]
    DeleteOnCreate(String),
    /// A key that the topic does not have.
    #[error("attempt to delete a nonexistent key: {0}")]
    Absent(String),
    /// A key that no topic may have.
    #[error("unsupported key: {0}")]
    Unknown(String),
    /// A key that is fixed when the topic is created.
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Fixed(String),
    /// A value that the key may not have, with those that it may.
    #[error("value is not in set: {0}")]
    Value(String),
    /// A value that RocketMQ knows and this broker does not serve; storing it would promise what is not done.
    #[error("{key}={value} is not supported by this broker")]
    NotServed {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// `message.type=MIXED` without `enableMixedMessageType`.
    #[error("MIXED message type is not supported.")]
    Mixed,
    /// The whole list is too long.
    #[error("the attributes are longer than {TOPIC_ATTRIBUTES_LENGTH_MAX} bytes")]
    TooLong,
}

struct Known {
    key: &'static str,
    changeable: bool,
    served: &'static [&'static str],
    not_served: &'static [&'static str],
}

const KNOWN: &[Known] = &[
    Known { key: "queue.type", changeable: false, served: &["SimpleCQ"], not_served: &["BatchCQ"] },
    Known { key: "cleanup.policy", changeable: false, served: &["DELETE"], not_served: &["COMPACTION"] },
    Known {
        key: MESSAGE_TYPE,
        changeable: true,
        served: &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", MIXED],
        not_served: &[],
    },
];

const MESSAGE_TYPE: &str = "message.type";
const MIXED: &str = "MIXED";
/// Retention per topic exists in RocketMQ only with its tiered store, which refuses it otherwise in these words.
const RESERVE_TIME: &str = "reserve.time";

/// Applies a list of modifications to a topic's attributes; `current` is `None` for a topic that is being created.
pub(crate) fn modify(
    current: Option<&Attributes>,
    modifications: &str,
    allow_mixed: bool,
) -> Result<Attributes, AttributeError> {
    if modifications.len() > TOPIC_ATTRIBUTES_LENGTH_MAX {
        return Err(AttributeError::TooLong);
    }
    let mut result = current.cloned().unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for item in modifications.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => {
                let key = key.strip_prefix('+').ok_or_else(|| AttributeError::AddFormat(key.to_owned()))?;
                (key, Some(value))
            }
            None => (item.strip_prefix('-').ok_or_else(|| AttributeError::DeleteFormat(item.to_owned()))?, None),
        };
        if key.is_empty() || key.contains(['+', '-']) {
            return Err(AttributeError::Format);
        }
        if !seen.insert(key) {
            return Err(AttributeError::Duplicate(key.to_owned()));
        }
        check(key, value, current, allow_mixed)?;
        match value {
            Some(value) => drop(result.insert(key.to_owned(), value.to_owned())),
            None => drop(result.remove(key)),
        }
    }
    Ok(result)
}

fn check(
    key: &str,
    value: Option<&str>,
    current: Option<&Attributes>,
    allow_mixed: bool,
) -> Result<(), AttributeError> {
    if value.is_none() {
        match current {
            None => return Err(AttributeError::DeleteOnCreate(key.to_owned())),
            Some(current) if !current.contains_key(key) => return Err(AttributeError::Absent(key.to_owned())),
            Some(_) => {}
        }
    }
    if key == RESERVE_TIME {
        return Err(AttributeError::NotServed { key: RESERVE_TIME, value: value.unwrap_or_default().to_owned() });
    }
    let known = KNOWN.iter().find(|known| known.key == key).ok_or_else(|| AttributeError::Unknown(key.to_owned()))?;
    if current.is_some() && !known.changeable {
        return Err(AttributeError::Fixed(key.to_owned()));
    }
    let Some(value) = value else { return Ok(()) };
    if known.not_served.contains(&value) {
        return Err(AttributeError::NotServed { key: known.key, value: value.to_owned() });
    }
    if !known.served.contains(&value) {
        return Err(AttributeError::Value(format!("[{}]", known.served.join(", "))));
    }
    if key == MESSAGE_TYPE && value == MIXED && !allow_mixed {
        return Err(AttributeError::Mixed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_new_topic_takes_additions_only() {
        assert_eq!(modify(None, "+message.type=FIFO", false), Ok(attributes(&[("message.type", "FIFO")])));
        assert_eq!(modify(None, "", false), Ok(Attributes::new()));
        let error = modify(None, "-message.type", false).unwrap_err();
        assert_eq!(error.to_string(), "only add attribute is supported while creating topic. key: message.type");
    }

    #[test]
    fn an_old_topic_is_changed_and_reduced() {
        let current = attributes(&[("message.type", "FIFO")]);
        assert_eq!(
            modify(Some(&current), "+message.type=NORMAL", false),
            Ok(attributes(&[("message.type", "NORMAL")]))
        );
        assert_eq!(modify(Some(&current), "-message.type", false), Ok(Attributes::new()));
        assert_eq!(
            modify(Some(&Attributes::new()), "-message.type", false),
            Err(AttributeError::Absent("message.type".to_owned()))
        );
        assert_eq!(
            modify(Some(&current), "+queue.type=SimpleCQ", false),
            Err(AttributeError::Fixed("queue.type".to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_done_is_not_stored() {
        for (list, text) in [
            ("message.type=FIFO", "add/alter attribute format is wrong: message.type"),
            ("message.type", "delete attribute format is wrong: message.type"),
            ("+=x", "kv string format wrong."),
            ("+a-b=x", "kv string format wrong."),
            ("+color=red", "unsupported key: color"),
            ("+queue.type=RED", "value is not in set: [SimpleCQ]"),
            ("+message.type=FIFO,+message.type=NORMAL", "alter duplication key. key: message.type"),
            ("+message.type=MIXED", "MIXED message type is not supported."),
            ("+queue.type=BatchCQ", "queue.type=BatchCQ is not supported by this broker"),
            ("+cleanup.policy=COMPACTION", "cleanup.policy=COMPACTION is not supported by this broker"),
            ("+reserve.time=1", "reserve.time=1 is not supported by this broker"),
        ] {
            assert_eq!(modify(None, list, false).unwrap_err().to_string(), text, "{list}");
        }
        assert!(modify(None, "+message.type=MIXED", true).is_ok());
        assert_eq!(modify(None, &"x".repeat(5000), false), Err(AttributeError::TooLong));
    }
}
