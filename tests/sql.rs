//! The SQL92 filter against Apache's own, over generated expressions and messages: what is refused, and what each message
//! comes to, down to null and exception.
//!
//! `RINGMQ_SQL_EXPRESSIONS` says how many expressions (3,000 unless told), `RINGMQ_SQL_SEED` repeats a run. They need
//! `java` and `mvn`; without them a test says so and passes, but fails where `CI` is set.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "sql/generate.rs"]
mod generate;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use ringmq_protocol::sql::{Outcome, SqlFilter};

use generate::{Generator, Question};

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    number_from("RINGMQ_SQL_SEED").unwrap_or_else(now)
}

/// What our filter makes of a question, in the letters of the Java program.
fn ours(question: &Question) -> String {
    match SqlFilter::parse(&question.expression) {
        Err(_) => "X".to_owned(),
        Ok(filter) => {
            let letter = |properties: &String| match filter.evaluate(properties) {
                Outcome::True => 'T',
                Outcome::False => 'F',
                Outcome::Unknown => 'U',
                Outcome::Raised => 'R',
            };
            question.messages.iter().map(letter).collect()
        }
    }
}

/// What Apache's filter makes of the questions.
fn apache(version: &str, questions: &[Question]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (asked, answered) = (folder.path().join("questions"), folder.path().join("answers"));
    let mut bytes = Vec::new();
    let put = |bytes: &mut Vec<u8>, number: usize| bytes.extend(u32::try_from(number).unwrap().to_be_bytes());
    put(&mut bytes, questions.len());
    for question in questions {
        put(&mut bytes, question.expression.len());
        bytes.extend(question.expression.as_bytes());
        put(&mut bytes, question.messages.len());
        for message in &question.messages {
            put(&mut bytes, message.len());
            bytes.extend(message.as_bytes());
        }
    }
    fs::write(&asked, bytes).unwrap();
    let result = support::java::filter(version, folder.path()).args([&asked, &answered]).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    let letters = fs::read_to_string(&answered).unwrap();
    let mut letters = letters.chars();
    let answer = |question: &Question| match letters.next().unwrap() {
        'X' => "X".to_owned(),
        first => std::iter::once(first).chain(letters.by_ref().take(question.messages.len() - 1)).collect(),
    };
    let answers = questions.iter().map(answer).collect();
    assert_eq!(letters.next(), None, "an answer too many");
    answers
}

/// How often each answer was given.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    accepted: usize,
    outcomes: [usize; 4],
}

impl Tally {
    fn count(&mut self, answer: &str) {
        if answer == "X" {
            self.refused += 1;
            return;
        }
        self.accepted += 1;
        for (count, letter) in self.outcomes.iter_mut().zip("TFUR".chars()) {
            *count += answer.chars().filter(|found| *found == letter).count();
        }
    }
}

fn compare(version: &str, speaks: impl Fn(&str) -> bool) {
    if let Some(reason) = support::java::missing() {
        return support::skip(&reason);
    }
    let (seed, count) = (seed(), number_from("RINGMQ_SQL_EXPRESSIONS").unwrap_or(3_000));
    println!("RINGMQ_SQL_SEED={seed}");
    let mut generator = Generator::new(seed);
    let mut tally = Tally::default();
    let mut differences = Vec::new();
    let mut left = usize::try_from(count).unwrap();
    while left > 0 {
        let mut questions: Vec<_> = (0..left.min(50_000)).map(|_| generator.question()).collect();
        questions.retain(|question| speaks(&question.expression));
        left -= questions.len();
        for (question, theirs) in questions.iter().zip(apache(version, &questions)) {
            tally.count(&theirs);
            let ours = ours(question);
            if ours != theirs {
                let why = SqlFilter::parse(&question.expression).err();
                differences.push(format!("{question:?}\n  apache {theirs}\n  ours   {ours} {why:?}"));
            }
        }
    }
    println!("rocketmq-filter {version}: {tally:?}, {} differences", differences.len());
    let all = tally.refused.min(tally.accepted).min(tally.outcomes.into_iter().min().unwrap_or(0));
    assert!(all > 0, "the generator no longer reaches every answer: {tally:?}");
    let shown = &differences[..differences.len().min(20)];
    assert!(differences.is_empty(), "seed {seed}: {} differences\n{}", differences.len(), shown.join("\n"));
}

#[test]
fn expressions_mean_what_they_mean_in_5_3_3() {
    compare("5.3.3", |_| true);
}

/// 4.9 takes the three words for names of properties.
#[test]
fn expressions_without_the_words_of_5_mean_what_they_mean_in_4_9_7() {
    let words = ["contains", "startswith", "endswith"];
    compare("4.9.7", |expression| {
        let lower = expression.to_ascii_lowercase();
        words.iter().all(|word| !lower.contains(word))
    });
}
