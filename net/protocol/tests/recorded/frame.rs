//! One recorded frame, and what every check does with its header and body: read it, and read it again as we write it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ringmq_protocol::command::{Command, HeaderView};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};
use ringmq_protocol::host::Host;

pub(crate) const CLIENTS: [&str; 4] = ["4.9.8/json", "4.9.8/rocketmq", "5.3.3/json", "5.3.3/rocketmq"];

pub(crate) const SERVERS: [&str; 2] = ["apache-4.9.7", "apache-5.3.3"];

/// Ext fields that clients and servers send beside the typed ones: the broker's name (`bname`, `n` in V2), the namespace
/// request type, and the mark of a request that stays at one broker.
pub(crate) const EXTRAS: [&str; 4] = ["bname", "n", "ReqT", "lo"];

/// One recorded frame.
pub(crate) struct Golden {
    pub(crate) folder: &'static str,
    /// The file's name without its ending.
    pub(crate) name: String,
    bytes: Vec<u8>,
    pub(crate) head: FrameHead,
}

impl Golden {
    pub(crate) fn read(folder: &'static str, path: &Path) -> Golden {
        let bytes = fs::read(path).unwrap();
        let head = FrameHead::parse(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(head.frame_len(), bytes.len(), "{} is not one whole frame", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        Golden { folder, name, bytes, head }
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.bytes[PREFIX_LEN..self.head.body_start()]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.head.body_start()..]
    }

    pub(crate) fn view(&self) -> HeaderView<'_> {
        HeaderView::parse(self.head.serialize, self.header()).unwrap()
    }

    pub(crate) fn command(&self) -> Command {
        Command::decode(self.head.serialize, self.header()).unwrap()
    }

    /// The topic that the recording program made for each codec.
    pub(crate) fn topic(&self) -> &'static str {
        if self.folder.ends_with("rocketmq") { "golden_rocketmq" } else { "golden_json" }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.folder.contains("5.3.3")
    }

    pub(crate) fn is_reply(&self) -> bool {
        self.name.contains("-reply")
            && !matches!(self.name.as_str(), "325-send-reply-message-v2" | "326-push-reply-message-to-client")
    }
}

pub(crate) fn all() -> Vec<Golden> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut frames = Vec::new();
    let entries = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let known = ["README.md", "4.9.8", "5.3.3"].into_iter().chain(SERVERS);
    assert_eq!(entries.collect::<BTreeSet<_>>(), known.map(str::to_owned).collect());
    for folder in CLIENTS.into_iter().chain(SERVERS) {
        let mut paths: Vec<_> = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        frames.extend(paths.iter().map(|path| Golden::read(folder, path)));
    }
    frames
}

/// The command, written in each codec as a whole frame and read again.
pub(crate) fn rewritten(command: &Command, body: &[u8]) -> [(Serialize, Command); 2] {
    [Serialize::Json, Serialize::RocketMq].map(|serialize| {
        let mut frame = Vec::new();
        command.encode_frame(serialize, body, &mut frame).unwrap();
        let head = FrameHead::parse(frame.first_chunk().unwrap()).unwrap();
        assert_eq!((head.serialize, head.frame_len()), (serialize, frame.len()));
        assert_eq!(&frame[head.body_start()..], body);
        (serialize, Command::decode(serialize, &frame[PREFIX_LEN..head.body_start()]).unwrap())
    })
}

/// Reads a typed header; what we write of it reads the same in both codecs, and no field of the frame was passed over.
macro_rules! typed {
    ($golden:expr, $header:ident) => {
        typed!($golden, $header, ringmq_protocol::header::Names::V1, &[])
    };
    ($golden:expr, $header:ident, $names:expr, $extras:expr) => {{
        let golden: &$crate::recorded::frame::Golden = $golden;
        let header = $header::decode_names(&golden.view(), $names).unwrap();
        // An empty value is one that the binary codec takes for absent.
        let fields = |header: &$header| {
            let mut ext = Vec::new();
            header.encode_names($names, &mut ext);
            ext.retain(|(_, value): &(String, String)| !value.is_empty());
            ext
        };
        let ours = ringmq_protocol::command::Command { ext: fields(&header), ..golden.command() };
        for (key, value) in golden.command().ext.into_iter().filter(|(_, value)| !value.is_empty()) {
            let extra = $crate::recorded::frame::EXTRAS.contains(&key.as_str()) || $extras.contains(&key.as_str());
            assert!(extra || ours.ext(&key) == Some(&value), "{key}={value} is not in {header:?}");
        }
        for serialize in [ringmq_protocol::frame::Serialize::Json, ringmq_protocol::frame::Serialize::RocketMq] {
            let mut bytes = Vec::new();
            ours.encode(serialize, &mut bytes).unwrap();
            let view = ringmq_protocol::command::HeaderView::parse(serialize, &bytes).unwrap();
            assert_eq!(fields(&$header::decode_names(&view, $names).unwrap()), ours.ext, "{serialize:?}");
        }
        header
    }};
}

/// Reads a typed body; what we write of it reads the same.
macro_rules! body {
    ($golden:expr, $body:ident) => {{
        let body = $body::parse($golden.body()).unwrap();
        assert_eq!($body::parse(&body.to_vec()).as_ref(), Ok(&body));
        body
    }};
}

/// A command that has neither ext fields nor a body.
pub(crate) fn check_bare(golden: &Golden) {
    assert_eq!((golden.view().ext().count(), golden.body().len()), (0, 0));
}

/// The addresses of the recording's brokers.
pub(crate) fn server_addr(golden: &Golden) -> String {
    format!("127.0.0.1:{}", if golden.is_v5() { 27158 } else { 27130 })
}

pub(crate) fn store_host(golden: &Golden) -> Host {
    Host::new([127, 0, 0, 1].into(), if golden.is_v5() { 27158 } else { 27130 })
}

pub(crate) fn is_client_id(id: &str) -> bool {
    let pid = id.strip_prefix("192.0.2.2@").and_then(|rest| rest.split_once('#')).map(|(pid, _)| pid);
    pid.is_some_and(|pid| pid.parse::<u32>().is_ok())
}

/// The unique key of a client that has an IPv6 address.
pub(crate) fn is_unique_key(key: Option<&str>) -> bool {
    key.is_some_and(|key| key.len() == 56 && key.starts_with("FD00") && key.bytes().all(|b| b.is_ascii_hexdigit()))
}
