//! What a subscription lets through: tags, or an SQL92 expression over properties.

use ringmq_protocol::body::SubscriptionData;
use ringmq_protocol::filter::{SQL92, SUB_ALL, TAG, TagFilter};

use crate::error::{Error, Result};
use crate::identity::now_ms;

/// Which messages of a topic are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// `*`, or tags joined by `||`.
    Tags(String),
    /// An expression over the messages' properties, for brokers with `enablePropertyFilter=true`.
    Sql(String),
}

impl Filter {
    /// Every message.
    pub fn all() -> Filter {
        Filter::Tags(SUB_ALL.to_owned())
    }

    /// What an SQL92 expression over properties lets through. Brokers need `enablePropertyFilter=true` for it.
    pub fn sql(expression: impl Into<String>) -> Filter {
        Filter::Sql(expression.into())
    }
}

impl From<&str> for Filter {
    /// A tag expression.
    fn from(expression: &str) -> Filter {
        Filter::Tags(expression.to_owned())
    }
}

impl From<&String> for Filter {
    /// A tag expression.
    fn from(expression: &String) -> Filter {
        Filter::Tags(expression.clone())
    }
}

/// A filter as brokers are told of it.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) expression: String,
    pub(crate) expression_type: &'static str,
    pub(crate) version: i64,
    tags: TagFilter,
}

impl Subscription {
    pub(crate) fn new(filter: &Filter) -> Result<Subscription> {
        let version = now_ms();
        match filter {
            Filter::Tags(expression) => {
                let bad = |_| Error::Filter { expression: expression.clone() };
                let tags = TagFilter::parse(Some(expression)).map_err(bad)?;
                Ok(Subscription { expression: expression.clone(), expression_type: TAG, version, tags })
            }
            Filter::Sql(expression) => {
                let tags = TagFilter::default();
                Ok(Subscription { expression: expression.clone(), expression_type: SQL92, version, tags })
            }
        }
    }

    pub(crate) fn is_sql(&self) -> bool {
        self.expression_type == SQL92
    }

    /// The check that is left to the consumer: a broker compares hashes of tags, and two tags may share one.
    pub(crate) fn matches_tag(&self, tag: Option<&str>) -> bool {
        self.tags.matches_tag(tag)
    }

    pub(crate) fn data(&self, topic: &str) -> SubscriptionData {
        SubscriptionData {
            topic: topic.to_owned(),
            sub_string: self.expression.clone(),
            sub_version: self.version,
            expression_type: self.expression_type.to_owned(),
            tags_set: self.tags.tags().to_vec(),
            code_set: self.tags.codes().to_vec(),
            ..SubscriptionData::default()
        }
    }
}
