//! Topic settings: the JSON form, the text form of compressed registrations, and the version that stamps a table.

use std::collections::BTreeMap;

use crate::json::{FromJson, parse, to_vec};
use crate::properties::perm;

enums! {
    TopicFilterType {
        SingleTag => "SINGLE_TAG",
        MultiTag => "MULTI_TAG",
    }
}

bodies! {
    /// Stamps a table: a name server asks for the table only when this has changed.
    #[derive(Copy, Eq)]
    DataVersion {
        counter: i64 => "counter";
        state_version: i64 => "stateVersion";
        timestamp: i64 => "timestamp";
    }

    #[derive(Eq)]
    TopicConfig {
        attributes: BTreeMap<String, String> => "attributes";
        order: bool => "order";
        perm: i32 => "perm" = perm::READ_WRITE;
        read_queue_nums: i32 => "readQueueNums" = 16;
        topic_filter_type: TopicFilterType => "topicFilterType" = TopicFilterType::SingleTag;
        topic_name: String => "topicName";
        topic_sys_flag: i32 => "topicSysFlag";
        write_queue_nums: i32 => "writeQueueNums" = 16;
    }

    /// The answer to code 21, the topic part of a registration, and the file `topics.json`.
    #[derive(Eq)]
    TopicConfigSerializeWrapper {
        data_version: DataVersion => "dataVersion";
        topic_config_table: BTreeMap<String, TopicConfig> => "topicConfigTable";
    }

    /// Code 18.
    TopicConfigList {
        topic_config_list: Vec<TopicConfig> => "topicConfigList";
    }
}

impl DataVersion {
    /// The version after a change at `now_ms`.
    pub const fn next(&self, now_ms: i64) -> DataVersion {
        DataVersion { counter: self.counter + 1, state_version: self.state_version, timestamp: now_ms }
    }
}

impl TopicConfig {
    /// A topic with that many queues for reading and for writing.
    pub fn new(topic_name: &str, read_queue_nums: i32, write_queue_nums: i32, perm: i32) -> TopicConfig {
        TopicConfig {
            topic_name: topic_name.to_owned(),
            read_queue_nums,
            write_queue_nums,
            perm,
            ..TopicConfig::default()
        }
    }

    /// The text form: the name, the queue counts, perm, filter type and attributes, separated by blanks.
    pub fn to_text(&self) -> String {
        let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, .. } = self;
        let filter = self.topic_filter_type.name();
        let mut text = format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {filter}");
        if !self.attributes.is_empty() {
            text.push(' ');
            text.push_str(&String::from_utf8_lossy(&to_vec(&self.attributes)));
        }
        text
    }

    /// Reads the text form.
    pub fn from_text(text: &str) -> Option<TopicConfig> {
        let mut fields = text.splitn(6, ' ');
        let topic_name = fields.next().filter(|name| !name.is_empty())?;
        let mut number = || fields.next()?.parse().ok();
        let (read_queue_nums, write_queue_nums, perm) = (number()?, number()?, number()?);
        let mut config = TopicConfig::new(topic_name, read_queue_nums, write_queue_nums, perm);
        config.topic_filter_type = TopicFilterType::from_text(fields.next()?)?;
        if let Some(attributes) = fields.next().filter(|attributes| !attributes.trim().is_empty()) {
            let json = parse(attributes.as_bytes()).ok()?;
            config.attributes = FromJson::from_json(&json, "attributes").ok()?;
        }
        Some(config)
    }
}
