//! The tag expression of a subscription: `*` or tags joined by `||`.
//!
//! A broker compares hashes, the consumer compares tags; both sets come from here. SQL expressions are [`crate::sql`]'s.

use thiserror::Error;

use crate::message::java_hash;

/// The expression type of tags; null and the empty string mean it too.
pub const TAG: &str = "TAG";
pub const SQL92: &str = "SQL92";
/// Subscribes to every message.
pub const SUB_ALL: &str = "*";

/// Whether an expression of this type is a tag expression.
pub fn is_tag_type(expression_type: Option<&str>) -> bool {
    matches!(expression_type, None | Some("" | TAG))
}

/// The expression has bars and blanks only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("subString split error")]
pub struct FilterError;

/// A tag expression, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilter {
    /// Empty: every message matches.
    tags: Vec<String>,
    codes: Vec<i32>,
}

impl TagFilter {
    /// Takes an expression apart; `None`, the empty string and `*` match everything.
    pub fn parse(expression: Option<&str>) -> Result<TagFilter, FilterError> {
        let expression = match expression {
            None | Some("" | SUB_ALL) => return Ok(TagFilter::default()),
            Some(expression) => expression,
        };
        let mut filter = TagFilter::default();
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            if !filter.tags.iter().any(|known| known == tag) {
                filter.tags.push(tag.to_owned());
            }
        }
        if filter.tags.is_empty() {
            return Err(FilterError);
        }
        filter.codes = filter.tags.iter().map(|tag| java_hash(tag)).collect();
        filter.codes.sort_unstable();
        filter.codes.dedup();
        Ok(filter)
    }

    /// A filter of hashes only, as a heartbeat's `codeSet` gives them; none match everything.
    pub fn from_codes(mut codes: Vec<i32>) -> TagFilter {
        codes.sort_unstable();
        codes.dedup();
        TagFilter { tags: Vec::new(), codes }
    }

    pub const fn matches_all(&self) -> bool {
        self.codes.is_empty()
    }

    /// The broker's check, against the hash in the consume queue. Another tag with the same hash passes.
    pub fn matches_code(&self, tags_code: i64) -> bool {
        self.codes.is_empty() || self.codes.binary_search(&(tags_code as i32)).is_ok()
    }

    /// The consumer's check, against the tag itself.
    pub fn matches_tag(&self, tag: Option<&str>) -> bool {
        self.codes.is_empty() || tag.is_some_and(|tag| self.tags.iter().any(|wanted| wanted == tag))
    }

    /// In the order of the expression, each once.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Sorted, each once.
    pub fn codes(&self) -> &[i32] {
        &self.codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_split_at_double_bars_only() {
        let cases: [(&str, &[&str]); 5] = [
            ("A||B", &["A", "B"]),
            (" A || B ||A", &["A", "B"]),
            ("A|B", &["A|B"]),
            ("A B", &["A B"]),
            ("||A||", &["A"]),
        ];
        for (expression, tags) in cases {
            assert_eq!(TagFilter::parse(Some(expression)).unwrap().tags(), tags, "{expression}");
        }
        assert_eq!(TagFilter::parse(Some(" || ")), Err(FilterError));
        for all in [None, Some(""), Some("*")] {
            assert!(TagFilter::parse(all).unwrap().matches_all());
        }
    }

    #[test]
    fn the_hash_decides_at_the_broker_and_the_tag_at_the_consumer() {
        let filter = TagFilter::parse(Some("Aa")).unwrap();
        assert!(filter.matches_code(crate::message::tags_code("BB")), "Aa and BB have the same hash");
        assert!(!filter.matches_tag(Some("BB")) && filter.matches_tag(Some("Aa")) && !filter.matches_tag(None));
        assert!(!filter.matches_code(0));
        assert!(TagFilter::default().matches_code(0) && TagFilter::default().matches_tag(None));
        let negative = TagFilter::parse(Some("TagABCDEFGH")).unwrap();
        assert!(negative.matches_code(crate::message::tags_code("TagABCDEFGH")));
    }
}
