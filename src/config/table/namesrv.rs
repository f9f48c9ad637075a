//! Keys of the name server.

use super::super::key::{
    Class::{Honoured, NoOp, NotBuilt},
    Key,
    Kind::*,
};
use super::{FAILOVER, INT, POOLS, keys};

const ADDRESS_SERVER: &str = "the HTTP address server";
const WAIT: &str = "holding routes back after a start";
const BATCHES: &str = "a broker is taken out of the table at once, not by a queue of requests";

keys! {
    /// RocketMQ's NamesrvConfig, and `listenPort`.
    NAMESRV;
    "listenPort" Int { min: 1, max: 65_535 }, "9876", Honoured, "Port of the name server.";
    "kvConfigPath" Path, "<home>/namesrv/kvConfig.json", Honoured, "File that keeps the KV configuration.";
    "orderMessageEnable" Bool, "false", Honoured, "Whether routes carry the order configuration of a topic.";
    "returnOrderTopicConfigToBroker" Bool, "true", Honoured, "Whether a broker that registers is given the order configuration of all topics.";
    "enableAllTopicList" Bool, "true", Honoured, "Whether the list of all topics is answered.";
    "enableTopicList" Bool, "true", Honoured, "Whether the topic lists by cluster, unit and system are answered.";
    "scanNotActiveBrokerInterval" Int { min: 100, max: 60_000 }, "5000", Honoured, "Milliseconds between looks for brokers that fell silent.";
    "deleteTopicWithBrokerRegistration" Bool, "false", Honoured, "Whether a topic that a broker no longer registers is taken out of its routes.";
    "supportActingMaster" Bool, "false", NotBuilt("acting masters"), "Whether the lowest slave is shown as master while the master is away.";
    "notifyMinBrokerIdChanged" Bool, "false", NotBuilt("acting masters"), "Whether brokers are told that the lowest broker id of their set changed.";
    "needWaitForService" Bool, "false", NotBuilt(WAIT), "Whether routes are refused for a while after the start.";
    "waitSecondsForService" INT, "45", NotBuilt(WAIT), "Seconds for which routes are refused after the start.";
    "enableControllerInNamesrv" Bool, "false", NotBuilt(FAILOVER), "Whether this name server is also a controller.";
    "controllerType" Text, "DLedger", NotBuilt(FAILOVER), "Consensus under the controller.";
    "controllerDLegerGroup" Text, "<none>", NotBuilt(FAILOVER), "Group of the controllers.";
    "controllerDLegerPeers" Text, "<none>", NotBuilt(FAILOVER), "Members of the controllers' group.";
    "controllerDLegerSelfId" Text, "<none>", NotBuilt(FAILOVER), "This member of the controllers' group.";
    "controllerStorePath" Path, "<home>/DledgerController", NotBuilt(FAILOVER), "Folder of the controller.";
    "enableElectUncleanMaster" Bool, "false", NotBuilt(FAILOVER), "Whether a replica outside the in-sync set may become master." => durable;
    "scanInactiveMasterInterval" INT, "5000", NotBuilt(FAILOVER), "Milliseconds between looks for masters that fell silent.";
    "notifyBrokerRoleChanged" Bool, "true", NotBuilt(FAILOVER), "Whether brokers are told that roles changed.";
    "electMasterMaxRetryCount" INT, "3", NotBuilt(FAILOVER), "Attempts to elect a master.";
    "isProcessReadEvent" Bool, "false", NotBuilt(FAILOVER), "Whether reads go through the controllers' log.";
    "controllerThreadPoolNums" INT, "16", NoOp(POOLS), "Threads of the controller.";
    "jRaftElectionTimeoutMs" INT, "1000", NotBuilt(FAILOVER), "Milliseconds of silence before an election.";
    "jRaftSnapshotIntervalSecs" INT, "3600", NotBuilt(FAILOVER), "Seconds between snapshots.";
    "jRaftServerId" Text, "localhost:9880", NotBuilt(FAILOVER), "This member.";
    "jRaftInitConf" Text, "<none>", NotBuilt(FAILOVER), "First members.";
    "jRaftControllerRPCAddr" Text, "<none>", NotBuilt(FAILOVER), "Addresses of the members' controllers.";
    "unRegisterBrokerQueueCapacity" INT, "3000", NoOp(BATCHES), "Requests that wait to take a broker out of the table.";
    "rmqAddressServerDomain" Text, "jmenv.tbsite.net", NotBuilt(ADDRESS_SERVER), "Host that lists the name servers.";
    "rmqAddressServerSubGroup" Text, "nsaddr", NotBuilt(ADDRESS_SERVER), "Path on that host.";
    "clientRequestThreadPoolNums" INT, "8", NoOp(POOLS), "Threads that answer routes.";
    "defaultThreadPoolNums" INT, "16", NoOp(POOLS), "Threads that answer everything else.";
    "clientRequestThreadPoolQueueCapacity" INT, "50000", NoOp(POOLS), "Route requests that wait for a thread.";
    "defaultThreadPoolQueueCapacity" INT, "10000", NoOp(POOLS), "Other requests that wait for a thread.";
    "configBlackList" Text, "configBlackList;configStorePath;kvConfigPath", NoOp("a short list says which keys may be changed, and the rest may not"), "Keys that cannot be changed by a request.";
    "configStorePath" Path, "<home>/namesrv/namesrv.properties", NoOp("a changed key is in force until the next start; the file stays as its author wrote it"), "File that changed keys are written to.";
    "clusterTest" Bool, "false", NoOp("it serves a test environment of RocketMQ's authors"), "Whether routes of another environment are looked up.";
    "productEnvName" Text, "center", NoOp("it serves a test environment of RocketMQ's authors"), "Name of that environment.";
    "rocketmqHome" Path, "<the environment's ROCKETMQ_HOME>", NoOp("nothing is read from an installation folder"), "Installation folder.";
}
