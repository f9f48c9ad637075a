//! Requests that carry no message and are short enough to be written anew each time: the end of a transaction, and the
//! commit of a consumer offset.

use super::{Head, HeaderKind, encode};

const UPDATE_CONSUMER_OFFSET: u16 = 15;
const END_TRANSACTION: u16 = 37;
const ONE_WAY: u32 = 2;
const COMMIT: &str = "8";
const ROLL_BACK: &str = "12";

/// Which transaction ends, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// Of the half in the log, and its offset among the halves, as the answer to it said.
    pub(crate) position: i64,
    pub(crate) offset: i64,
    pub(crate) commit: bool,
}

/// Appends an END_TRANSACTION that asks for an answer. Java's client asks for none.
pub(crate) fn append_end(kind: HeaderKind, group: &str, opaque: u32, end: End, out: &mut Vec<u8>) {
    let (position, offset) = (end.position.to_string(), end.offset.to_string());
    let fields = [
        ("commitLogOffset", position.as_str()),
        ("commitOrRollback", if end.commit { COMMIT } else { ROLL_BACK }),
        ("fromTransactionCheck", "false"),
        ("producerGroup", group),
        ("tranStateTableOffset", &offset),
    ];
    encode(kind, Head { code: END_TRANSACTION, flag: 0, opaque }, &fields, out);
}

/// What all commits of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Commits {
    pub(crate) kind: HeaderKind,
    pub(crate) topic: String,
    /// What the groups' names begin with; their number follows.
    pub(crate) group: String,
    pub(crate) one_way: bool,
}

impl Commits {
    const DIGITS: usize = 6;

    /// The name of one of the run's groups.
    pub(crate) fn group_name(&self, number: u32) -> String {
        format!("{}-{number:0digits$}", self.group, digits = Commits::DIGITS)
    }

    /// Appends an UPDATE_CONSUMER_OFFSET of the topic's first queue.
    pub(crate) fn append(&self, opaque: u32, group: u32, offset: u64, out: &mut Vec<u8>) {
        let (group, offset) = (self.group_name(group), offset.to_string());
        let fields =
            [("commitOffset", offset.as_str()), ("consumerGroup", &group), ("queueId", "0"), ("topic", &self.topic)];
        let flag = if self.one_way { ONE_WAY } else { 0 };
        encode(self.kind, Head { code: UPDATE_CONSUMER_OFFSET, flag, opaque }, &fields, out);
    }
}

#[cfg(test)]
mod tests {
    use ringmq_protocol::command::Command;
    use ringmq_protocol::frame::Serialize;

    use super::*;

    fn decoded(out: &[u8]) -> Command {
        Command::decode(Serialize::Json, &out[8..]).unwrap()
    }

    #[test]
    fn an_end_names_its_half() {
        let mut out = Vec::new();
        append_end(HeaderKind::Json, "PG", 7, End { position: 4_096, offset: 3, commit: false }, &mut out);
        let end = decoded(&out);
        assert_eq!((end.code, end.opaque), (37, 7));
        let ext = |name| end.ext(name).unwrap();
        assert_eq!((ext("commitLogOffset"), ext("tranStateTableOffset")), ("4096", "3"));
        assert_eq!((ext("commitOrRollback"), ext("producerGroup")), ("12", "PG"));
    }

    #[test]
    fn a_commit_names_its_group() {
        let commits = Commits { kind: HeaderKind::Json, topic: "T".to_owned(), group: "G".to_owned(), one_way: true };
        let mut out = Vec::new();
        commits.append(9, 42, 5, &mut out);
        let commit = decoded(&out);
        assert_eq!((commit.code, commit.flag), (15, 2));
        assert_eq!((commit.ext("consumerGroup"), commit.ext("commitOffset")), (Some("G-000042"), Some("5")));
    }
}
