//! What a name server knows: routes, clusters, topic lists, key-value tables.

use std::collections::BTreeMap;

bodies! {
    /// The answer to code 105. The Rust client needs every member but the optional ones.
    #[derive(Eq)]
    TopicRouteData {
        broker_datas: Vec<BrokerData> => "brokerDatas";
        filter_server_table: BTreeMap<String, Vec<String>> => "filterServerTable";
        order_topic_conf: Option<String> => "orderTopicConf";
        queue_datas: Vec<QueueData> => "queueDatas";
    }

    #[derive(Eq)]
    BrokerData {
        /// By broker id; 0 is the master.
        broker_addrs: BTreeMap<i64, String> => "brokerAddrs";
        broker_name: String => "brokerName";
        cluster: String => "cluster";
        enable_acting_master: bool => "enableActingMaster";
        zone_name: Option<String> => "zoneName";
    }

    #[derive(Eq)]
    QueueData {
        broker_name: String => "brokerName";
        perm: i32 => "perm";
        read_queue_nums: i32 => "readQueueNums";
        topic_sys_flag: i32 => "topicSysFlag";
        write_queue_nums: i32 => "writeQueueNums";
    }

    /// The answer to code 106.
    ClusterInfo {
        broker_addr_table: BTreeMap<String, BrokerData> => "brokerAddrTable";
        cluster_addr_table: BTreeMap<String, Vec<String>> => "clusterAddrTable";
    }

    /// The answer to code 901.
    BrokerMemberGroupResponse {
        broker_member_group: Option<BrokerMemberGroup> => "brokerMemberGroup";
    }

    BrokerMemberGroup {
        broker_addrs: BTreeMap<i64, String> => "brokerAddrs";
        broker_name: String => "brokerName";
        cluster: String => "cluster";
    }

    /// The answer to codes 206, 224, 304, 305, 311 to 313 and 343.
    TopicList {
        broker_addr: Option<String> => "brokerAddr";
        topic_list: Vec<String> => "topicList";
    }

    /// The answer to codes 28, 103 and 219.
    KvTable {
        table: BTreeMap<String, String> => "table";
    }

    /// The answer to code 300.
    GroupList {
        group_list: Vec<String> => "groupList";
    }
}
