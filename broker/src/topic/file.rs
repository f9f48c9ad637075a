//! The topic table's file: RocketMQ's `topics.json` with one member more, `ringmq.homes`, which RocketMQ's readers pass
//! over. It says on how many log shards the homes were counted and where each topic starts.

use super::TopicTable;
use crate::limits::{TOPIC_QUEUES_MAX, TOPICS_MAX};
use crate::table::{TableError, check_count, indent, parse_table};
use ringmq_protocol::body::{DataVersion, TopicConfig};
use ringmq_protocol::json::{FromJson, Json, JsonError, to_vec};
use std::collections::BTreeMap;

const TOPICS: &str = "topicConfigTable";
const HOMES: &str = "ringmq.homes";
/// How fastjson writes an object that it has written before.
const REFERENCE: &str = "$ref";

/// What a topic table's file holds, read but not yet in force.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicFile {
    /// The topics by name.
    pub topics: BTreeMap<String, TopicConfig>,
    /// The table's version.
    pub version: DataVersion,
    /// The log shard of queue 0, by topic; a RocketMQ file has none.
    pub starts: BTreeMap<String, u16>,
    /// The log shard at which the next new topic starts.
    pub next_start: u16,
}

impl TopicFile {
    /// Reads the file of RocketMQ 4.9 or 5.x, or our own, for a store of `shards` log shards.
    pub fn parse(bytes: &[u8], shards: u16) -> Result<Self, TableError> {
        let json = parse_table(bytes, TOPICS)?;
        let mut topics: BTreeMap<String, TopicConfig> = match json.get(TOPICS) {
            Some(table) => FromJson::from_json(table, TOPICS)?,
            None => BTreeMap::new(),
        };
        check_count("topics", topics.len(), TOPICS_MAX)?;
        resolve_references(&mut topics)?;
        for (name, config) in &mut topics {
            config.topic_name.clone_from(name);
            let queues = [config.read_queue_nums, config.write_queue_nums];
            if name.is_empty() || queues.iter().any(|queues| !(0..=TOPIC_QUEUES_MAX).contains(queues)) {
                return Err(TableError::Malformed { reason: format!("topic[{name}] has {queues:?} queues") });
            }
        }
        let version = match json.get("dataVersion") {
            Some(version) => DataVersion::from_json(version, "dataVersion")?,
            None => DataVersion::default(),
        };
        let (starts, next_start) = match json.get(HOMES) {
            Some(homes) => parse_homes(homes, shards)?,
            None => (BTreeMap::new(), 0),
        };
        Ok(Self { topics, version, starts, next_start })
    }
}

/// Attributes that two topics have in common stand once in the text; the other place names it by its path.
fn resolve_references(topics: &mut BTreeMap<String, TopicConfig>) -> Result<(), TableError> {
    let referring: Vec<(String, String)> = topics
        .iter()
        .filter_map(|(name, config)| Some((name.clone(), config.attributes.get(REFERENCE)?.clone())))
        .collect();
    for (name, path) in referring {
        let target = path.strip_prefix("$.topicConfigTable.").and_then(|path| path.strip_suffix(".attributes"));
        // Characters other than letters and digits are escaped in a path.
        let target = target.map(|target| target.replace('\\', ""));
        let attributes = target.and_then(|target| topics.get(&target)).map(|config| config.attributes.clone());
        match (attributes, topics.get_mut(&name)) {
            (Some(attributes), Some(config)) if !attributes.contains_key(REFERENCE) => config.attributes = attributes,
            _ => return Err(TableError::Malformed { reason: format!("topic[{name}] refers to {path}") }),
        }
    }
    Ok(())
}

fn parse_homes(homes: &Json, shards: u16) -> Result<(BTreeMap<String, u16>, u16), TableError> {
    let number = |json: Option<&Json>, name: &'static str| {
        let json = json.ok_or(JsonError::Missing(name))?;
        u16::try_from(i64::from_json(json, name)?).map_err(|_| TableError::from(JsonError::Type(name)))
    };
    let written = number(homes.get("shards"), "shards")?;
    if written != shards {
        return Err(TableError::OtherShards { written, actual: shards });
    }
    let shard = |json: Option<&Json>, name: &'static str| match number(json, name)? {
        shard if shard < shards => Ok(shard),
        shard => Err(TableError::Malformed { reason: format!("{HOMES} names shard {shard} of {shards}") }),
    };
    let next_start = shard(homes.get("next"), "next")?;
    let Some(Json::Object(members)) = homes.get("start") else { return Err(JsonError::Missing("start").into()) };
    let start = |(topic, json): &(String, Json)| Ok((topic.clone(), shard(Some(json), "start")?));
    Ok((members.iter().map(start).collect::<Result<_, TableError>>()?, next_start))
}

impl TopicTable {
    /// The table's file as it is to be written now.
    pub fn to_file(&self) -> Vec<u8> {
        let starts = self.topics.iter().map(|(name, topic)| (name.to_string(), Json::Int(i64::from(topic.start))));
        let homes = Json::Object(vec![
            ("next".to_owned(), Json::Int(i64::from(self.next_start))),
            ("shards".to_owned(), Json::Int(i64::from(self.settings.shards))),
            ("start".to_owned(), Json::Object(starts.collect())),
        ]);
        let mut text = self.list().to_vec();
        // The list is an object with members, so one more fits in before its closing brace.
        text.pop();
        text.extend_from_slice(format!(",\"{HOMES}\":").as_bytes());
        text.extend_from_slice(&to_vec(&homes));
        text.push(b'}');
        indent(&text)
    }
}
