//! What of a broker's configuration can be changed while it runs (`mqadmin updateBrokerConfig`), and what a change means:
//! it is read as the configuration file is, with the same errors, and it is a line of that file from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmq_broker::settings::{Settings, Source};

use super::broker::{Found, properties, settings};
use crate::config::key::{self, Class, Key, Match, Program};
use crate::config::load::{self, Sources};
use crate::config::notice::Origin;
use crate::config::properties::{self as text, Entry};

/// Takes over what a key decides, from settings that were made from the changed configuration.
type Take = fn(&mut Settings, &Settings);

/// The keys that the broker looks at each time it needs them. What the others decide is decided when it starts.
const LIVE: [(&str, Take); 35] = [
    ("accessMessageInMemoryMaxRatio", |to, from| to.recent_bytes = from.recent_bytes),
    ("allowRecallWhenBrokerNotWriteable", |to, from| {
        to.timers.recall_when_not_writable = from.timers.recall_when_not_writable;
    }),
    ("autoCreateSubscriptionGroup", |to, from| to.groups.auto_create = from.groups.auto_create),
    ("autoCreateTopicEnable", |to, from| to.topics.auto_create = from.topics.auto_create),
    ("brokerFastFailureEnable", |to, from| to.send_wait_max = from.send_wait_max),
    ("brokerPermission", |to, from| to.topics.permission = from.topics.permission),
    ("cleanFileForciblyEnable", |to, from| to.retention.may_force = from.retention.may_force),
    ("cleanResourceInterval", |to, from| to.retention.interval = from.retention.interval),
    ("defaultQueryMaxNum", |to, from| to.unique_query_max = from.unique_query_max),
    ("deleteFileBatchMax", |to, from| to.retention.batch = from.retention.batch),
    ("deleteWhen", |to, from| to.retention.when = from.retention.when),
    ("diskMaxUsedSpaceRatio", |to, from| to.retention.max_used = from.retention.max_used),
    ("enablePropertyFilter", |to, from| to.property_filter = from.property_filter),
    ("fileReservedTime", |to, from| to.retention.reserved = from.retention.reserved),
    ("filterSupportRetry", |to, from| to.filter_retried = from.filter_retried),
    ("flushConsumerOffsetInterval", |to, from| to.offsets_interval = from.offsets_interval),
    ("litePullMessageEnable", |to, from| to.lite_pull = from.lite_pull),
    ("longPollingEnable", |to, from| to.long_polling = from.long_polling),
    ("maxMsgsNumBatch", |to, from| to.query_messages_max = from.query_messages_max),
    ("maxTransferBytesOnMessageInMemory", |to, from| to.pull_bytes_max = from.pull_bytes_max),
    ("maxTransferCountOnMessageInMemory", |to, from| to.pull_messages_max = from.pull_messages_max),
    ("recallMessageEnable", |to, from| to.timers.recall = from.timers.recall),
    ("registerBrokerTimeoutMills", |to, from| to.register_timeout = from.register_timeout),
    ("rejectTransactionMessage", |to, from| to.transactions.reject = from.transactions.reject),
    ("shortPollingTimeMills", |to, from| to.short_polling = from.short_polling),
    ("startAcceptSendRequestTimeStamp", |to, from| to.accept_sends_from_ms = from.accept_sends_from_ms),
    ("storeReplyMessageEnable", |to, from| to.store_replies = from.store_replies),
    ("syncFlushTimeout", |to, from| to.flush_timeout = from.flush_timeout),
    ("timerMaxDelaySec", |to, from| to.timers.delay_max = from.timers.delay_max),
    ("traceOn", |to, from| to.trace_on = from.trace_on),
    ("transactionCheckInterval", |to, from| to.transactions.timing.interval = from.transactions.timing.interval),
    ("transactionCheckMax", |to, from| to.transactions.timing.checks_max = from.transactions.timing.checks_max),
    ("transactionTimeOut", |to, from| to.transactions.timing.timeout = from.transactions.timing.timeout),
    ("useServerSideResetOffset", |to, from| to.server_side_reset = from.server_side_reset),
    ("waitTimeMillsInSendQueue", |to, from| to.send_wait_max = from.send_wait_max),
];

/// The configuration in force. A change makes another one of these.
#[derive(Debug)]
pub(super) struct Live {
    sources: Sources,
    file: Option<PathBuf>,
    found: Found,
}

impl Live {
    pub(super) fn source(sources: Sources, found: Found) -> Arc<dyn Source> {
        // A link stays a link: what it points to is changed.
        let real = |(name, _): &(String, Vec<u8>)| Path::new(name).canonicalize().unwrap_or_else(|_| name.into());
        let file = sources.file.as_ref().map(real);
        Arc::new(Live { sources, file, found })
    }
}

impl Source for Live {
    fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn change(&self, now: &Settings, change: &[u8]) -> Result<Settings, String> {
        let asked = read(change)?;
        let before = load::load(&self.sources).map_err(|error| error.to_string())?;
        let mut sources = self.sources.clone();
        let (name, mut content) = sources.file.take().unwrap_or_else(|| ("updateBrokerConfig".to_owned(), Vec::new()));
        let mut takes = Vec::new();
        let kept = before.broker().config_black_list;
        for (key, value) in &asked {
            if kept.iter().any(|kept| kept == key.name) {
                return Err(format!("{} is on the configBlackList: change it in the file and restart", key.name));
            }
            let setting = before.get(key.name);
            match LIVE.iter().find(|(name, _)| *name == key.name) {
                Some((_, take)) => takes.push(take),
                None if setting.is_some_and(|setting| setting.text == *value) => {}
                None => return Err(needs_restart(key)),
            }
            if let Some(origin @ (Origin::Env(_) | Origin::Flag(_))) = setting.map(|setting| &setting.origin) {
                let key = key.name;
                return Err(format!(
                    "{key} is set by {origin}, which counts more than a change: change it there and restart"
                ));
            }
            content = text::with_entry(&content, key.name, value).ok_or_else(|| uneditable(key))?;
        }
        sources.file = Some((name, content));
        let after = load::load(&sources).map_err(|error| error.to_string())?;
        after.startable().map_err(|error| error.to_string())?;
        let fresh = settings(&after.broker(), &self.found).map_err(|error| error.to_string())?;
        let mut changed = now.clone();
        takes.into_iter().for_each(|take| take(&mut changed, &fresh));
        changed.properties = properties(&after, &changed);
        changed.source = Some(Arc::new(Live { sources, file: self.file.clone(), found: self.found.clone() }));
        Ok(changed)
    }

    fn edit(&self, content: &[u8], change: &[u8]) -> Result<Vec<u8>, String> {
        read(change)?.into_iter().try_fold(content.to_vec(), |content, (key, value)| {
            text::with_entry(&content, key.name, &value).ok_or_else(|| uneditable(key))
        })
    }
}

/// The keys that are to be changed, and their values. RocketMQ passes over names that it does not know.
fn read(change: &[u8]) -> Result<Vec<(&'static Key, String)>, String> {
    let document = text::parse(change).map_err(|error| format!("the change cannot be read: {error}"))?;
    if document.entries.is_empty() {
        return Err("the change names no key".to_owned());
    }
    document.entries.into_iter().map(known).collect()
}

fn known(entry: Entry) -> Result<(&'static Key, String), String> {
    let key = match key::find(Program::Broker, &entry.key) {
        Match::Key(key, _) => key,
        Match::Unknown { near, .. } => {
            let near = near.map(|near| format!("; did you mean {}?", near.name)).unwrap_or_default();
            return Err(format!("`{}` is no key of a broker{near}", entry.key));
        }
    };
    match key.class {
        Class::Honoured => Ok((key, entry.value)),
        Class::UnderRoot(_) => Err(needs_restart(key)),
        Class::NoOp(why) => Err(format!("{} changes nothing here: {why}", key.name)),
        Class::NotBuilt(what) => Err(format!("{} is not in force, because this is not built yet: {what}", key.name)),
    }
}

fn needs_restart(key: &Key) -> String {
    format!("{} is read when the broker starts: set it in the configuration file and restart the broker", key.name)
}

fn uneditable(key: &Key) -> String {
    format!("the configuration file cannot take {}: set it there by hand and restart the broker", key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Spelling;

    #[test]
    fn every_key_is_in_force_by_that_name() {
        for (name, _) in LIVE {
            let Match::Key(key, Spelling::Exact) = key::find(Program::Broker, name) else { panic!("{name} is no key") };
            assert_eq!(key.class, Class::Honoured, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_changed_is_refused_in_words() {
        for (change, why) in [
            ("", "names no key"),
            ("fileReserveTime=1", "`fileReserveTime` is no key of a broker; did you mean fileReservedTime?"),
            ("rejectPullConsumerEnable=true", "is not built yet"),
            ("fileReservedTime=1\nenableCalcFilterBitMap=true", "enableCalcFilterBitMap changes nothing here"),
        ] {
            let refused = read(change.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{change}: {refused}");
        }
    }
}
