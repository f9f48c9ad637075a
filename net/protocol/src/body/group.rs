//! Settings of consumer groups.

use std::collections::BTreeMap;

use super::DataVersion;
use crate::json::Json;

enums! {
    RetryPolicyType {
        Customized => "CUSTOMIZED",
        Exponential => "EXPONENTIAL",
    }
}

bodies! {
    /// Code 200, the answer to code 352. The defaults are those of a group that appears by heartbeat.
    SubscriptionGroupConfig {
        attributes: BTreeMap<String, String> => "attributes";
        broker_id: i64 => "brokerId";
        consume_broadcast_enable: bool => "consumeBroadcastEnable" = true;
        consume_enable: bool => "consumeEnable" = true;
        consume_from_min_enable: bool => "consumeFromMinEnable" = true;
        consume_message_orderly: bool => "consumeMessageOrderly";
        consume_timeout_minute: i32 => "consumeTimeoutMinute" = 15;
        group_name: String => "groupName";
        group_retry_policy: GroupRetryPolicy => "groupRetryPolicy";
        group_sys_flag: i32 => "groupSysFlag";
        notify_consumer_ids_changed_enable: bool => "notifyConsumerIdsChangedEnable" = true;
        retry_max_times: i32 => "retryMaxTimes" = 16;
        retry_queue_nums: i32 => "retryQueueNums" = 1;
        /// Kept for the tools that set it; the broker does not read it.
        subscription_data_set: Option<Vec<Json>> => "subscriptionDataSet";
        which_broker_when_consume_slowly: i64 => "whichBrokerWhenConsumeSlowly" = 1;
    }

    GroupRetryPolicy {
        customized_retry_policy: Option<CustomizedRetryPolicy> => "customizedRetryPolicy";
        exponential_retry_policy: Option<ExponentialRetryPolicy> => "exponentialRetryPolicy";
        policy_type: RetryPolicyType => "type" = RetryPolicyType::Customized;
    }

    /// The delays before each retry, in milliseconds.
    CustomizedRetryPolicy {
        next: Vec<i64> => "next";
    }

    ExponentialRetryPolicy {
        initial: i64 => "initial" = 5_000;
        max: i64 => "max" = 7_200_000;
        multiplier: i64 => "multiplier" = 2;
    }

    /// The answer to code 201, and the file `subscriptionGroup.json`.
    SubscriptionGroupWrapper {
        data_version: DataVersion => "dataVersion";
        forbidden_table: BTreeMap<String, BTreeMap<String, i32>> => "forbiddenTable";
        subscription_group_table: BTreeMap<String, SubscriptionGroupConfig> => "subscriptionGroupTable";
    }

    /// Code 225.
    SubscriptionGroupList {
        group_config_list: Vec<SubscriptionGroupConfig> => "groupConfigList";
    }
}

impl SubscriptionGroupConfig {
    /// A group with the default settings.
    pub fn new(group_name: &str) -> SubscriptionGroupConfig {
        SubscriptionGroupConfig { group_name: group_name.to_owned(), ..SubscriptionGroupConfig::default() }
    }
}
