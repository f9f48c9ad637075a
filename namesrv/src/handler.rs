//! Request codes of the name server: each is read, checked against who asks, and answered from the table.
//!
//! It decides who may change what: brokers register from anywhere, as they have to, and what an administrator changes
//! is taken from this machine only. It owns the table and the KV configuration, belongs to one shard, and waits for
//! nothing: the program brings requests, closed connections and the time, and writes the KV file.

use std::net::SocketAddr;

use ringmq_protocol::body::{DataVersion, QueueData, RegisterBrokerBody, TopicRouteData};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{HeaderError, HeaderView};
use ringmq_protocol::header;
use ringmq_protocol::names::ORDER_TOPIC_CONFIG;
use tracing::{info, warn};

use crate::answer;
use crate::kv::{KvConfig, KvError};
use crate::limits::{ANSWER_BYTES_MAX, CONFIG_BYTES_MAX};
use crate::route::{Gone, NotRegistered, PeerId, Queues, Registration, RouteTable, UnitTopics};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub id: PeerId,
    pub address: SocketAddr,
}

/// What is sent back, unless the request was one-way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    pub code: i32,
    pub remark: Option<String>,
    pub ext: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// What can be chosen, by the names of RocketMQ's keys.
#[derive(Debug, Clone)]
pub struct Options {
    pub order_message_enable: bool,
    pub return_order_topic_config_to_broker: bool,
    pub enable_all_topic_list: bool,
    pub enable_topic_list: bool,
    pub delete_topic_with_broker_registration: bool,
    /// Other keys and values that GET_NAMESRV_CONFIG shows; they cannot be changed while the server runs.
    pub fixed: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            order_message_enable: false,
            return_order_topic_config_to_broker: true,
            enable_all_topic_list: true,
            enable_topic_list: true,
            delete_topic_with_broker_registration: false,
            fixed: Vec::new(),
        }
    }
}

impl Options {
    /// The keys that UPDATE_NAMESRV_CONFIG may change.
    const CHANGEABLE: [&'static str; 5] = [
        "orderMessageEnable",
        "returnOrderTopicConfigToBroker",
        "enableAllTopicList",
        "enableTopicList",
        "deleteTopicWithBrokerRegistration",
    ];

    fn values(&self) -> [bool; 5] {
        [
            self.order_message_enable,
            self.return_order_topic_config_to_broker,
            self.enable_all_topic_list,
            self.enable_topic_list,
            self.delete_topic_with_broker_registration,
        ]
    }

    fn set(&mut self, key: &str, value: bool) {
        match key {
            "orderMessageEnable" => self.order_message_enable = value,
            "returnOrderTopicConfigToBroker" => self.return_order_topic_config_to_broker = value,
            "enableAllTopicList" => self.enable_all_topic_list = value,
            "enableTopicList" => self.enable_topic_list = value,
            "deleteTopicWithBrokerRegistration" => self.delete_topic_with_broker_registration = value,
            _ => {}
        }
    }
}

/// The polite no: a response code and its remark.
#[derive(Debug)]
struct Refusal {
    code: ResponseCode,
    remark: String,
}

type Answer = Result<Reply, Refusal>;

fn refuse(code: ResponseCode, remark: impl Into<String>) -> Refusal {
    Refusal { code, remark: remark.into() }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        refuse(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl From<NotRegistered> for Refusal {
    fn from(error: NotRegistered) -> Self {
        refuse(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl From<KvError> for Refusal {
    fn from(error: KvError) -> Self {
        refuse(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

fn done() -> Answer {
    Ok(Reply::default())
}

fn with_body(body: Vec<u8>) -> Answer {
    Ok(Reply { body, ..Reply::default() })
}

/// A request as a handler sees it.
struct Request<'a> {
    peer: Peer,
    header: &'a HeaderView<'a>,
    body: &'a [u8],
    now_ms: u64,
}

/// The name server without its sockets and files.
#[derive(Debug, Default)]
pub struct NameServer {
    routes: RouteTable,
    kv: KvConfig,
    options: Options,
}

impl NameServer {
    pub fn new(options: Options, kv: KvConfig) -> Self {
        Self { routes: RouteTable::new(options.delete_topic_with_broker_registration), kv, options }
    }

    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The KV configuration, for the one who writes its file.
    pub fn kv(&mut self) -> &mut KvConfig {
        &mut self.kv
    }

    /// A connection was closed: the brokers that registered over it are gone.
    pub fn on_connection_closed(&mut self, peer: PeerId) {
        for gone in self.routes.on_connection_closed(peer) {
            log_gone(&gone, "its connection was closed");
        }
    }

    /// Takes out the brokers that fell silent. To be called every `scanNotActiveBrokerInterval`.
    pub fn expire(&mut self, now_ms: u64) {
        for gone in self.routes.expire(now_ms) {
            log_gone(&gone, "it gave no sign of life");
        }
    }

    /// Answers one request.
    pub fn handle(&mut self, peer: Peer, header: &HeaderView<'_>, body: &[u8], now_ms: u64) -> Reply {
        let request = Request { peer, header, body, now_ms };
        let answer = self.dispatch(&request).and_then(|reply| match reply.body.len() {
            0..=ANSWER_BYTES_MAX => Ok(reply),
            bytes => {
                Err(refuse(ResponseCode::SYSTEM_ERROR, format!("the answer has {bytes} bytes, too many for a frame")))
            }
        });
        answer.unwrap_or_else(|Refusal { code, remark }| Reply {
            code: code.0,
            remark: Some(remark),
            ..Reply::default()
        })
    }

    fn dispatch(&mut self, request: &Request<'_>) -> Answer {
        let code = RequestCode(request.header.code);
        match code {
            RequestCode::GET_ROUTEINFO_BY_TOPIC => self.route_of_topic(request),
            RequestCode::REGISTER_BROKER => self.register_broker(request),
            RequestCode::UNREGISTER_BROKER => self.unregister_broker(request),
            RequestCode::QUERY_DATA_VERSION => self.query_data_version(request),
            RequestCode::BROKER_HEARTBEAT => self.broker_heartbeat(request),
            RequestCode::GET_BROKER_CLUSTER_INFO => with_body(answer::cluster_info(&self.routes).to_vec()),
            RequestCode::GET_BROKER_MEMBER_GROUP => self.member_group(request),
            RequestCode::PUT_KV_CONFIG => self.put_kv(request),
            RequestCode::GET_KV_CONFIG => self.get_kv(request),
            RequestCode::DELETE_KV_CONFIG => self.delete_kv(request),
            RequestCode::GET_KVLIST_BY_NAMESPACE => self.kv_namespace(request),
            RequestCode::WIPE_WRITE_PERM_OF_BROKER => self.wipe_write_perm(request),
            RequestCode::ADD_WRITE_PERM_OF_BROKER => self.add_write_perm(request),
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => self.all_topics(),
            RequestCode::DELETE_TOPIC_IN_NAMESRV => self.delete_topic(request),
            RequestCode::REGISTER_TOPIC_IN_NAMESRV => self.register_topic(request),
            RequestCode::GET_TOPICS_BY_CLUSTER => self.topics_of_cluster(request),
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => {
                self.lists_enabled()?;
                with_body(answer::system_topics(&self.routes).to_vec())
            }
            RequestCode::GET_UNIT_TOPIC_LIST => self.unit_topics(UnitTopics::Unit),
            RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => self.unit_topics(UnitTopics::UnitSub),
            RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => self.unit_topics(UnitTopics::UnitSubNotUnit),
            RequestCode::UPDATE_NAMESRV_CONFIG => self.update_config(request),
            RequestCode::GET_NAMESRV_CONFIG => with_body(self.config_text().into_bytes()),
            other => {
                info!(peer = %request.peer.address, code = %other, "refused a request that a name server does not serve");
                Err(refuse(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, format!("request type {other} not supported")))
            }
        }
    }

    fn route_of_topic(&self, request: &Request<'_>) -> Answer {
        let header = header::GetRouteInfo::decode(request.header)?;
        let Some(route) = self.routes.route(&header.topic) else {
            let remark = format!("No topic route info in name server for the topic: {}", header.topic);
            return Err(refuse(ResponseCode::TOPIC_NOT_EXIST, remark));
        };
        let order =
            if self.options.order_message_enable { self.kv.get(ORDER_TOPIC_CONFIG, &header.topic) } else { None };
        with_body(answer::route(&route, order).to_vec())
    }

    fn register_broker(&mut self, request: &Request<'_>) -> Answer {
        let header = header::RegisterBroker::decode(request.header)?;
        let body =
            RegisterBrokerBody::decode(request.body, header.compressed, header.body_crc32, request.header.version);
        let tables = match body {
            Ok(body) => body.topic_config_serialize_wrapper,
            Err(error) => {
                warn!(broker = header.broker_name, address = header.broker_addr, %error, "refused a registration");
                return Err(refuse(ResponseCode::SYSTEM_ERROR, error.to_string()));
            }
        };
        let queues = |config: ringmq_protocol::body::TopicConfig| Queues {
            read: config.read_queue_nums,
            write: config.write_queue_nums,
            perm: config.perm,
            sys_flag: config.topic_sys_flag,
        };
        let broker = Registration {
            cluster: header.cluster_name,
            name: header.broker_name.clone(),
            address: header.broker_addr.clone(),
            id: header.broker_id,
            ha_address: header.ha_server_addr,
            timeout_ms: header.heartbeat_timeout_millis,
            acting_master: header.enable_acting_master,
            zone: header.zone_name,
            version: tables.data_version,
            topics: tables.topic_config_table.into_iter().map(|(topic, config)| (topic, queues(config))).collect(),
        };
        let (name, address, id) = (header.broker_name, header.broker_addr, header.broker_id);
        let registered = match self.routes.register(broker, request.peer.id, request.now_ms) {
            Ok(registered) => registered,
            Err(error) => {
                warn!(broker = name, address, id, %error, "refused a registration");
                return Err(error.into());
            }
        };
        if registered.is_stale {
            warn!(broker = name, address, id, "ignored a broker: another address holds its id with a younger state");
        } else if registered.is_new {
            info!(broker = name, address, id, peer = %request.peer.address, "a broker registered");
        }
        let mut reply = Reply::default();
        reply.ext.extend(registered.master_ha_address.map(|address| ("haServerAddr", address)));
        reply.ext.extend(registered.master_address.map(|address| ("masterAddr", address)));
        if self.options.return_order_topic_config_to_broker
            && let Some(entries) = self.kv.namespace(ORDER_TOPIC_CONFIG)
        {
            reply.body = answer::table(entries).to_vec();
        }
        Ok(reply)
    }

    fn unregister_broker(&mut self, request: &Request<'_>) -> Answer {
        let header = header::BrokerIdentity::decode(request.header)?;
        if let Some(gone) = self.routes.unregister(&header.broker_name, &header.broker_addr) {
            log_gone(&gone, "it unregistered");
        }
        done()
    }

    fn query_data_version(&mut self, request: &Request<'_>) -> Answer {
        let header = header::BrokerIdentity::decode(request.header)?;
        let version = DataVersion::parse(request.body).unwrap_or_default();
        let (name, address) = (&header.broker_name, &header.broker_addr);
        let (changed, known) = self.routes.query_version(name, address, version, request.now_ms);
        let body = known.map(|known| known.to_vec()).unwrap_or_default();
        Ok(Reply { ext: vec![("changed", changed.to_string())], body, ..Reply::default() })
    }

    fn broker_heartbeat(&mut self, request: &Request<'_>) -> Answer {
        let header = header::BrokerHeartbeat::decode(request.header)?;
        self.routes.heartbeat(&header.broker_name, &header.broker_addr, request.now_ms);
        done()
    }

    fn member_group(&self, request: &Request<'_>) -> Answer {
        let header = header::GetBrokerMemberGroup::decode(request.header)?;
        let set = self.routes.members(&header.cluster_name, &header.broker_name);
        with_body(answer::members(&header.cluster_name, &header.broker_name, set).to_vec())
    }

    fn put_kv(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let header = header::PutKvConfig::decode(request.header)?;
        if self.kv.put(&header.namespace, &header.key, &header.value)? {
            info!(namespace = header.namespace, key = header.key, "a KV entry was put");
        }
        done()
    }

    fn get_kv(&self, request: &Request<'_>) -> Answer {
        let header = header::KvConfigKey::decode(request.header)?;
        match self.kv.get(&header.namespace, &header.key) {
            Some(value) => Ok(Reply { ext: vec![("value", value.to_owned())], ..Reply::default() }),
            None => {
                let remark = format!("No config item, Namespace: {} Key: {}", header.namespace, header.key);
                Err(refuse(ResponseCode::QUERY_NOT_FOUND, remark))
            }
        }
    }

    fn delete_kv(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let header = header::KvConfigKey::decode(request.header)?;
        if self.kv.delete(&header.namespace, &header.key) {
            info!(namespace = header.namespace, key = header.key, "a KV entry was deleted");
        }
        done()
    }

    fn kv_namespace(&self, request: &Request<'_>) -> Answer {
        let header = header::KvNamespace::decode(request.header)?;
        match self.kv.namespace(&header.namespace) {
            Some(entries) => with_body(answer::table(entries).to_vec()),
            None => {
                let remark = format!("No config item, Namespace: {}", header.namespace);
                Err(refuse(ResponseCode::QUERY_NOT_FOUND, remark))
            }
        }
    }

    fn wipe_write_perm(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let header = header::BrokerName::decode(request.header)?;
        let count = self.routes.wipe_write_perm(&header.broker_name);
        info!(broker = header.broker_name, topics = count, "write permission was taken away");
        Ok(Reply { ext: vec![("wipeTopicCount", count.to_string())], ..Reply::default() })
    }

    fn add_write_perm(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let header = header::BrokerName::decode(request.header)?;
        let count = self.routes.add_write_perm(&header.broker_name);
        info!(broker = header.broker_name, topics = count, "write permission was given back");
        Ok(Reply { ext: vec![("addTopicCount", count.to_string())], ..Reply::default() })
    }

    fn delete_topic(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let header = header::DeleteTopicFromNamesrv::decode(request.header)?;
        let cluster = header.cluster_name.as_deref().filter(|cluster| !cluster.is_empty());
        self.routes.delete_topic(&header.topic, cluster);
        info!(topic = header.topic, cluster = cluster.unwrap_or("all"), "the routes of a topic were deleted");
        done()
    }

    fn register_topic(&mut self, request: &Request<'_>) -> Answer {
        let header = header::RegisterTopic::decode(request.header)?;
        let route = TopicRouteData::parse(request.body);
        let route = route.map_err(|error| refuse(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
        let queues = |data: QueueData| Queues {
            read: data.read_queue_nums,
            write: data.write_queue_nums,
            perm: data.perm,
            sys_flag: data.topic_sys_flag,
        };
        let queues = route.queue_datas.into_iter().map(|data| (data.broker_name.clone(), queues(data))).collect();
        self.routes.register_topic(&header.topic, queues)?;
        done()
    }

    fn all_topics(&self) -> Answer {
        if !self.options.enable_all_topic_list {
            return Err(refuse(ResponseCode::SYSTEM_ERROR, "disable"));
        }
        with_body(answer::topics(self.routes.topics()).to_vec())
    }

    fn lists_enabled(&self) -> Result<(), Refusal> {
        if self.options.enable_topic_list { Ok(()) } else { Err(refuse(ResponseCode::SYSTEM_ERROR, "disable")) }
    }

    fn topics_of_cluster(&self, request: &Request<'_>) -> Answer {
        self.lists_enabled()?;
        let header = header::TopicsByCluster::decode(request.header)?;
        with_body(answer::topics(self.routes.topics_of_cluster(&header.cluster)).to_vec())
    }

    fn unit_topics(&self, wanted: UnitTopics) -> Answer {
        self.lists_enabled()?;
        with_body(answer::topics(self.routes.unit_topics(wanted)).to_vec())
    }

    /// Changes are in force until the next start: no request writes the configuration file.
    fn update_config(&mut self, request: &Request<'_>) -> Answer {
        from_this_machine(request)?;
        let changes = read_changes(request.body)?;
        for (key, value) in changes {
            self.options.set(key, value);
            info!(key, value, "the configuration was changed until the next start");
        }
        self.routes.set_delete_unnamed_topics(self.options.delete_topic_with_broker_registration);
        done()
    }

    fn config_text(&self) -> String {
        let changeable = Options::CHANGEABLE.iter().zip(self.options.values());
        let mut text: String = changeable.map(|(key, value)| format!("{key}={value}\n")).collect();
        text.extend(self.options.fixed.iter().map(|(key, value)| format!("{key}={value}\n")));
        text
    }
}

/// Reads all changes before any is made.
fn read_changes(body: &[u8]) -> Result<Vec<(&'static str, bool)>, Refusal> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= CONFIG_BYTES_MAX);
    let text = text.ok_or_else(|| refuse(ResponseCode::SYSTEM_ERROR, "string2Properties error"))?;
    let mut changes = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        let Some(key) = Options::CHANGEABLE.into_iter().find(|known| *known == key) else {
            let changeable = Options::CHANGEABLE.join(", ");
            let remark = format!("{key} can not be updated while the name server runs; these can: {changeable}");
            return Err(refuse(ResponseCode::NO_PERMISSION, remark));
        };
        let value: bool = value
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| refuse(ResponseCode::SYSTEM_ERROR, format!("{key}={value}: it takes true or false")))?;
        changes.push((key, value));
    }
    Ok(changes)
}

/// Until an administrator can prove to be one, changes are taken from this machine only.
fn from_this_machine(request: &Request<'_>) -> Result<(), Refusal> {
    if request.peer.address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let code = RequestCode(request.header.code);
    warn!(peer = %request.peer.address, %code, "refused a change from another machine");
    Err(refuse(ResponseCode::NO_PERMISSION, format!("{code} is accepted from the name server's own machine only")))
}

fn log_gone(gone: &Gone, why: &str) {
    let Gone { cluster, name, id, address } = gone;
    info!(broker = name, address, id, cluster, "a broker was taken out: {why}");
}

#[cfg(test)]
mod tests;
