//! When a value is good enough, and what to write when it is not.

/// What a value should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// This and nothing else.
    Exactly(&'static str),
    /// One of these; the first is what is set.
    OneOf(&'static [&'static str]),
    /// No more than this.
    AtMost(u64),
    /// No less than this.
    AtLeast(u64),
    /// From one and to a limit, which is what is set; zero would switch it off.
    Within(u64),
    /// Of several numbers the last no less than this: the largest size that the kernel may choose.
    LastAtLeast(u64),
    /// It is not set by us.
    Any,
}

impl Rule {
    /// Whether a value does. What is no number does not.
    pub fn holds(&self, now: &str) -> bool {
        let number = now.trim().parse::<u64>();
        match self {
            Rule::Exactly(wanted) => now == *wanted,
            Rule::OneOf(wanted) => wanted.contains(&now),
            Rule::AtMost(most) => number.is_ok_and(|now| now <= *most),
            Rule::AtLeast(least) => number.is_ok_and(|now| now >= *least),
            Rule::Within(most) => number.is_ok_and(|now| (1..=*most).contains(&now)),
            Rule::LastAtLeast(least) => {
                let last = now.split_whitespace().next_back().and_then(|last| last.parse::<u64>().ok());
                last.is_some_and(|last| last >= *least)
            }
            Rule::Any => true,
        }
    }

    /// What to write in place of `now`. `None` where nothing is.
    pub fn wanted(&self, now: &str) -> Option<String> {
        match self {
            Rule::Exactly(wanted) => Some((*wanted).to_owned()),
            Rule::OneOf(wanted) => wanted.first().map(|first| (*first).to_owned()),
            Rule::AtMost(number) | Rule::AtLeast(number) | Rule::Within(number) => Some(number.to_string()),
            Rule::LastAtLeast(least) => {
                let mut parts: Vec<&str> = now.split_whitespace().collect();
                let last = least.to_string();
                parts.pop();
                parts.push(&last);
                Some(parts.join(" "))
            }
            Rule::Any => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_better_value_is_left_alone() {
        assert!(Rule::AtLeast(4096).holds("65535") && !Rule::AtLeast(4096).holds("128"));
        assert!(Rule::AtMost(1).holds("0") && !Rule::AtMost(1).holds("60"));
        assert!(Rule::Within(500).holds("100") && !Rule::Within(500).holds("0") && !Rule::Within(500).holds("360000"));
        assert!(Rule::OneOf(&["madvise", "never"]).holds("never"));
        assert!(!Rule::AtLeast(1).holds("max"), "what is no number is not good enough");
        let memory = Rule::LastAtLeast(16 << 20);
        assert!(memory.holds("4096 131072 33554432") && !memory.holds("4096 16384 4194304"));
        assert_eq!(memory.wanted("4096 16384 4194304").as_deref(), Some("4096 16384 16777216"));
        assert!(Rule::Any.holds("1") && Rule::Any.wanted("1").is_none());
    }
}
