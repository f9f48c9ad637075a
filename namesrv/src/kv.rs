//! The KV configuration: namespaces of keys and values that administrators put here, above all the order
//! configuration of topics.
//!
//! It is written and read as RocketMQ's `kvConfig.json`, so that a file can be moved between the two. It opens no
//! file: `to_write` says when there is something to write and what, and the program writes it, atomically and with
//! the previous file kept as `.bak`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{KV_BYTES_MAX, KV_ENTRIES_MAX, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX};

/// Why an entry or a file is not taken.
#[derive(Debug, Error)]
pub enum KvError {
    #[error("namespace or key is empty")]
    Empty,
    #[error("a namespace or key has at most {KV_KEY_BYTES_MAX} bytes, a value {KV_VALUE_BYTES_MAX}")]
    Long,
    #[error("the KV configuration is full ({KV_ENTRIES_MAX} entries or {KV_BYTES_MAX} bytes)")]
    Full,
    #[error("the file of the KV configuration is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// The form of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(rename = "configTable", default)]
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

/// The KV configuration.
#[derive(Debug, Default)]
pub struct KvConfig {
    file: File,
    entries: usize,
    bytes: usize,
    is_dirty: bool,
}

impl KvConfig {
    /// Reads `kvConfig.json`. A file that is no longer within the bounds is refused rather than cut.
    pub fn from_json(json: &[u8]) -> Result<Self, KvError> {
        if json.len() > KV_BYTES_MAX {
            return Err(KvError::Full);
        }
        let file: File = serde_json::from_slice(json)?;
        let mut kv = Self::default();
        for (namespace, table) in file.config_table {
            for (key, value) in table {
                kv.put(&namespace, &key, &value)?;
            }
        }
        kv.is_dirty = false;
        Ok(kv)
    }

    /// The text of `kvConfig.json`.
    pub fn to_json(&self) -> Result<Vec<u8>, KvError> {
        Ok(serde_json::to_vec_pretty(&self.file)?)
    }

    /// What has to be written, if something changed since the last call. If it could not be written,
    /// [`mark_dirty`](Self::mark_dirty) asks for another try.
    pub fn to_write(&mut self) -> Result<Option<Vec<u8>>, KvError> {
        if !self.is_dirty {
            return Ok(None);
        }
        let json = self.to_json()?;
        self.is_dirty = false;
        Ok(Some(json))
    }

    pub fn mark_dirty(&mut self) {
        self.is_dirty = true;
    }

    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.file.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    /// All entries of a namespace, if it has any.
    pub fn namespace(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.file.config_table.get(namespace)
    }

    /// Puts an entry; says whether that changed anything.
    pub fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<bool, KvError> {
        if namespace.is_empty() || key.is_empty() {
            return Err(KvError::Empty);
        }
        if namespace.len().max(key.len()) > KV_KEY_BYTES_MAX || value.len() > KV_VALUE_BYTES_MAX {
            return Err(KvError::Long);
        }
        let old = self.get(namespace, key);
        if old == Some(value) {
            return Ok(false);
        }
        let (new_entries, freed) = match old {
            Some(old) => (0, entry_bytes(namespace, key, old)),
            None => (1, 0),
        };
        let bytes = self.bytes - freed + entry_bytes(namespace, key, value);
        if self.entries + new_entries > KV_ENTRIES_MAX || bytes > KV_BYTES_MAX {
            return Err(KvError::Full);
        }
        let table = self.file.config_table.entry(namespace.to_owned()).or_default();
        table.insert(key.to_owned(), value.to_owned());
        self.entries += new_entries;
        self.bytes = bytes;
        self.is_dirty = true;
        Ok(true)
    }

    /// Deletes an entry; says whether there was one.
    pub fn delete(&mut self, namespace: &str, key: &str) -> bool {
        let Some(table) = self.file.config_table.get_mut(namespace) else { return false };
        let Some(value) = table.remove(key) else { return false };
        if table.is_empty() {
            self.file.config_table.remove(namespace);
        }
        self.entries -= 1;
        self.bytes -= entry_bytes(namespace, key, &value);
        self.is_dirty = true;
        true
    }
}

/// What an entry takes in the file at most: each byte may need an escape of six.
fn entry_bytes(namespace: &str, key: &str, value: &str) -> usize {
    const AROUND: usize = 32;
    6 * (namespace.len() + key.len() + value.len()) + AROUND
}

#[cfg(test)]
mod tests {
    use ringmq_protocol::names::ORDER_TOPIC_CONFIG;

    use super::*;

    #[test]
    fn entries_come_and_go() {
        let mut kv = KvConfig::default();
        assert!(kv.put("ns", "k", "v").unwrap());
        assert!(!kv.put("ns", "k", "v").unwrap());
        assert!(kv.put("ns", "k", "w").unwrap());
        assert_eq!((kv.get("ns", "k"), kv.get("ns", "x"), kv.get("x", "k")), (Some("w"), None, None));
        assert_eq!(kv.namespace("ns").unwrap().len(), 1);
        assert!(kv.delete("ns", "k") && !kv.delete("ns", "k"));
        assert_eq!(kv.namespace("ns"), None);
        assert_eq!((kv.entries, kv.bytes), (0, 0));
    }

    #[test]
    fn the_file_is_rocketmqs() {
        let file = br#"{"configTable":{"ORDER_TOPIC_CONFIG":{"t":"broker-a:4;broker-b:4"}}}"#;
        let mut kv = KvConfig::from_json(file).unwrap();
        assert_eq!(kv.get(ORDER_TOPIC_CONFIG, "t"), Some("broker-a:4;broker-b:4"));
        assert!(kv.to_write().unwrap().is_none());
        kv.put("ns", "\"k\"", "\u{1}").unwrap();
        let written = kv.to_write().unwrap().unwrap();
        assert!(kv.to_write().unwrap().is_none());
        kv.mark_dirty();
        assert_eq!(kv.to_write().unwrap().as_ref(), Some(&written));
        let again = KvConfig::from_json(&written).unwrap();
        assert_eq!((again.get("ns", "\"k\""), again.entries), (Some("\u{1}"), 2));
        assert!(KvConfig::from_json(b"{}").unwrap().namespace("ns").is_none());
        assert!(matches!(KvConfig::from_json(b"{\"configTable\":"), Err(KvError::Damaged(_))));
    }

    #[test]
    fn it_is_bounded() {
        let mut kv = KvConfig::default();
        assert!(matches!(kv.put("", "k", "v"), Err(KvError::Empty)));
        assert!(matches!(kv.put("ns", &"k".repeat(KV_KEY_BYTES_MAX + 1), "v"), Err(KvError::Long)));
        assert!(matches!(kv.put("ns", "k", &"v".repeat(KV_VALUE_BYTES_MAX + 1)), Err(KvError::Long)));
        for i in 0..KV_ENTRIES_MAX {
            kv.put("ns", &i.to_string(), "v").unwrap();
        }
        assert!(matches!(kv.put("ns", "one more", "v"), Err(KvError::Full)));
        kv.put("ns", "0", "w").unwrap();
        assert!(kv.delete("ns", "1"));
        kv.put("ns", "one more", "v").unwrap();

        let mut kv = KvConfig::default();
        let value = "\u{1}".repeat(KV_VALUE_BYTES_MAX);
        let mut taken = 0;
        while kv.put("ns", &taken.to_string(), &value).is_ok() {
            taken += 1;
        }
        assert!(taken > 10 && kv.to_json().unwrap().len() <= KV_BYTES_MAX, "what was taken can be read back");
        assert!(KvConfig::from_json(&kv.to_json().unwrap()).is_ok());
    }
}
