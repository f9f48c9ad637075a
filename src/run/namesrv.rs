//! From the configuration to what the name server is told.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq_namesrv::{handler, serve};

use super::broker::{flag, limits};
use super::place;
use crate::config::key::Program;
use crate::config::load::{self, Flag};
use crate::config::settings::{NamesrvConfig, Settings};
use crate::failure::Failure;

/// The configuration from the file, the environment and the command line.
pub(crate) fn load(file: Option<&Path>, listen: Option<IpAddr>, port: Option<u16>) -> Result<Settings, Failure> {
    let mut given: Vec<Flag> = listen.map(|ip| flag("--listen", "bindAddress", ip)).into_iter().collect();
    // Zero stands for a port that is not known yet; the key has no value for that.
    given.extend(port.filter(|port| *port != 0).map(|port| flag("--port", "listenPort", port)));
    load::from_host(Program::Namesrv, file, given).map_err(|error| Failure::config(format!("{error:#}")))
}

/// What the name server is told. `folder` is where the KV configuration is kept unless its key says otherwise, and a
/// `port` of zero takes a free one.
pub(crate) fn options(
    config: &NamesrvConfig,
    port: Option<u16>,
    folder: Option<PathBuf>,
    files: u64,
) -> serve::Options {
    let folder = folder.unwrap_or_else(|| place::home().join("namesrv"));
    let kv_path = config.kv_config_path.clone().unwrap_or_else(|| folder.join("kvConfig.json"));
    let port = if port == Some(0) { 0 } else { config.listen_port };
    let fixed = [
        ("listenPort", port.to_string()),
        ("bindAddress", config.bind_address.to_string()),
        ("kvConfigPath", kv_path.display().to_string()),
        ("scanNotActiveBrokerInterval", config.scan_not_active_broker_interval_ms.to_string()),
        ("serverChannelMaxIdleTimeSeconds", config.server_channel_max_idle_s.to_string()),
    ];
    serve::Options {
        server: handler::Options {
            order_message_enable: config.order_message_enable,
            return_order_topic_config_to_broker: config.return_order_topic_config_to_broker,
            enable_all_topic_list: config.enable_all_topic_list,
            enable_topic_list: config.enable_topic_list,
            delete_topic_with_broker_registration: config.delete_topic_with_broker_registration,
            fixed: fixed.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        },
        listen: vec![SocketAddr::new(config.bind_address, port)],
        kv_path,
        scan_interval: Duration::from_millis(config.scan_not_active_broker_interval_ms),
        limits: limits(config.server_channel_max_idle_s, files, 1),
        first_registered: None,
        heartbeat: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_name_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("namesrv.conf");
        std::fs::write(&file, "listenPort=19876\norderMessageEnable=true\nscanNotActiveBrokerInterval=700\n").unwrap();
        let config = load(Some(&file), None, None).unwrap().namesrv();
        let told = options(&config, None, Some("/d".into()), 1 << 20);
        assert_eq!(told.listen, ["0.0.0.0:19876".parse().unwrap()]);
        assert!(told.server.order_message_enable);
        assert_eq!((told.kv_path, told.scan_interval), ("/d/kvConfig.json".into(), Duration::from_millis(700)));
        assert_eq!(options(&config, Some(0), None, 1 << 20).listen, ["0.0.0.0:0".parse().unwrap()]);

        std::fs::write(&file, "kvConfigPath=/kv/own.json\n").unwrap();
        let config = load(Some(&file), Some("127.0.0.1".parse().unwrap()), Some(5)).unwrap().namesrv();
        let told = options(&config, Some(5), Some("/d".into()), 1 << 20);
        assert_eq!((told.kv_path, told.listen), ("/kv/own.json".into(), vec!["127.0.0.1:5".parse().unwrap()]));
    }
}
