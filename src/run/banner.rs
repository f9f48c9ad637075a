//! What a server says on standard output when it serves; the last line is `ready`, for whoever waits for it.

use std::fmt::Write as _;

use crate::out;

/// Lines under a title.
#[derive(Debug)]
pub(crate) struct Banner {
    text: String,
}

impl Banner {
    /// The title: the version and what there is to say first.
    pub(crate) fn new(facts: &[String]) -> Banner {
        let mut text = format!("ringmq {}", env!("CARGO_PKG_VERSION"));
        for fact in facts {
            text.push_str(" · ");
            text.push_str(fact);
        }
        text.push('\n');
        Banner { text }
    }

    pub(crate) fn line(mut self, label: &str, text: &str) -> Banner {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "  {label:<14}{text}");
        self
    }

    /// A sentence that scripts around RocketMQ look for.
    pub(crate) fn plain(mut self, text: &str) -> Banner {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    pub(crate) fn text(&self) -> String {
        format!("{}ready\n", self.text)
    }

    pub(crate) fn print(&self) {
        out::print(&self.text());
    }
}

/// How many shards on which cores.
pub(crate) fn shards(shards: u16, cores: &[usize]) -> String {
    let plural = |many: usize| if many == 1 { "" } else { "s" };
    let on = super::place::ranges(cores);
    format!("{shards} shard{} on core{} {on}", plural(usize::from(shards)), plural(cores.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_ends_with_ready() {
        let banner =
            Banner::new(&[shards(4, &[0, 1, 2, 3]), "data /d".to_owned()]).line("name server", "127.0.0.1:9876");
        let title = format!("ringmq {} · 4 shards on cores 0-3 · data /d", env!("CARGO_PKG_VERSION"));
        assert_eq!(banner.text(), format!("{title}\n  name server   127.0.0.1:9876\nready\n"));
        assert_eq!(shards(1, &[5]), "1 shard on core 5");
    }
}
