//! The guide shows the code that is tested: each excerpt in `docs/guide/orders.md` stands so in the file that it names.

use std::fs;

use super::support::root;

/// An excerpt is a block of code behind `<!-- from FILE -->`, where FILE lies in the folder of its language.
const MARK: &str = "<!-- from ";
const SOURCES: [(&str, &str); 2] =
    [("java", "tests/java/orders/src/main/java/ringmq/orders"), ("rust", "net/client/examples/orders")];

/// Lines without what they are indented by.
fn bare(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_excerpts_are_the_sources() {
    let guide = fs::read_to_string(root().join("docs/guide/orders.md")).unwrap();
    let mut excerpts = 0;
    for part in guide.split(MARK).skip(1) {
        let (file, rest) = part.split_once(" -->\n```").unwrap_or_else(|| panic!("no code behind {part}"));
        let (language, rest) = rest.split_once('\n').unwrap();
        let folder = SOURCES.iter().find(|(known, _)| *known == language);
        let (_, folder) = folder.unwrap_or_else(|| panic!("{file} is in {language:?}"));
        let (excerpt, _) = rest.split_once("\n```").unwrap_or_else(|| panic!("no end of the code from {file}"));
        let source = fs::read_to_string(root().join(folder).join(file)).unwrap();
        let (source, excerpt) = (bare(&source), bare(excerpt));
        let there = source.windows(excerpt.len()).any(|lines| lines == excerpt);
        assert!(there, "the guide's excerpt from {file} is not in it:\n{}", excerpt.join("\n"));
        excerpts += 1;
    }
    assert!(excerpts > 0, "the guide has no excerpts");
    let blocks: usize = SOURCES.iter().map(|(language, _)| guide.matches(&format!("```{language}\n")).count()).sum();
    assert_eq!(blocks, excerpts, "a block of code without its source");
}
