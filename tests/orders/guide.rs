//! The guide shows the code that is tested: each excerpt in `docs/guide/orders.md` stands so in the file that it names.

use std::fs;

use super::support::root;

/// An excerpt is a block of code behind `<!-- from FILE -->`, where FILE lies in the services' folder.
const MARK: &str = "<!-- from ";
const SOURCES: &str = "tests/java/orders/src/main/java/ringmq/orders";

/// Lines without what they are indented by.
fn bare(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_excerpts_are_the_sources() {
    let guide = fs::read_to_string(root().join("docs/guide/orders.md")).unwrap();
    let mut excerpts = 0;
    for part in guide.split(MARK).skip(1) {
        let (file, rest) = part.split_once(" -->\n```java\n").unwrap_or_else(|| panic!("no code behind {part}"));
        let (excerpt, _) = rest.split_once("\n```").unwrap_or_else(|| panic!("no end of the code from {file}"));
        let source = fs::read_to_string(root().join(SOURCES).join(file)).unwrap();
        let (source, excerpt) = (bare(&source), bare(excerpt));
        let there = source.windows(excerpt.len()).any(|lines| lines == excerpt);
        assert!(there, "the guide's excerpt from {file} is not in it:\n{}", excerpt.join("\n"));
        excerpts += 1;
    }
    assert!(excerpts > 0, "the guide has no excerpts");
    assert_eq!(guide.matches("```java").count(), excerpts, "a block of Java without its source");
}
