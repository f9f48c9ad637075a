//! The picture: one HTML file that needs nothing else, neither network nor server. This side writes the sentences and
//! tables, which stand without a script; `page/page.js` draws the charts from the data that is embedded as JSON.

use std::fmt::Write as _;

use crate::flush::args::Kind;
use crate::flush::outcome::{Mode, Outcome, Summary};
use crate::flush::text::{self, Row, grouped, ratio};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// How the two modes are told apart, besides their colour: the dash of their lines.
const CLASSES: [&str; 2] = ["one", "two"];

pub(crate) fn render(outcome: &Outcome, json: &str) -> String {
    let when = iso(outcome.began_ms);
    let labels: Vec<&str> = outcome.modes.iter().map(|mode| mode.label.as_str()).collect();
    let parts = [
        ("title", escaped(&format!("What durability costs: {}", labels.join(" and ")))),
        ("css", STYLE.to_owned()),
        ("js", SCRIPT.to_owned()),
        // No text of the data can end its element.
        ("json", json.replace('<', "\\u003c")),
        ("version", escaped(outcome.host.ringmq)),
        ("when", when.replace('T', " ").replace('Z', " UTC")),
        ("iso", when),
        ("lead", lead(outcome)),
        ("status", status(outcome)),
        ("tiles", tiles(outcome)),
        ("rate", grouped(outcome.setup.rate, 0)),
        ("legend", legend(outcome)),
        ("figures", figures(outcome)),
        ("device", device(outcome)),
        ("facts", facts(outcome)),
        ("command", escaped(&command(&outcome.command))),
        ("servers", servers(outcome)),
        ("schema", outcome.schema.to_owned()),
    ];
    fill(PAGE, &parts)
}

/// Puts each part where the page names it, in one pass: what a part contains is never looked at again.
fn fill(page: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(page.len() + parts.iter().map(|part| part.1.len()).sum::<usize>());
    let mut rest = page;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, after) = behind.split_once("}}").unwrap_or((behind, ""));
        match parts.iter().find(|part| part.0 == name) {
            Some((_, text)) => out.push_str(text),
            None => {
                let _ = write!(out, "{{{{{name}}}}}");
            }
        }
        rest = after;
    }
    out + rest
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `2026-01-31T08:09:10Z`, by the civil calendar.
fn iso(ms: u64) -> String {
    let (days, second) = ((ms / 86_400_000) as i64, ms / 1000 % 86_400);
    // Howard Hinnant's civil_from_days, for days after 1970.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Microseconds as people say them.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", grouped(us / 1e6, 2)),
        us if us >= 1e4 => format!("{} ms", grouped(us / 1e3, 1)),
        us if us >= 1e3 => format!("{} ms", grouped(us / 1e3, 2)),
        us if us >= 100.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}

/// A figure of both modes, if both have it.
fn both(outcome: &Outcome, kind: Kind, figure: impl Fn(&Summary) -> f64) -> Option<(f64, f64)> {
    let [one, two] = outcome.modes.as_slice() else { return None };
    Some((figure(one.summary(kind)?), figure(two.summary(kind)?)))
}

fn lead(outcome: &Outcome) -> String {
    let [one, two] = outcome.modes.as_slice() else { return String::new() };
    let (first, second) = (escaped(&one.label), escaped(&two.label));
    let mut text = String::new();
    match (both(outcome, Kind::Open, |s| s.latency_us.p50), both(outcome, Kind::Open, |s| s.latency_us.p99)) {
        (Some(p50), Some(p99)) => {
            let _ = write!(
                text,
                "At {} messages a second, half of all messages were acknowledged within <b>{}</b> under {second}, \
                 against <b>{}</b> under {first}, and 99 of 100 within <b>{}</b> against <b>{}</b>.",
                grouped(outcome.setup.rate, 0),
                time(p50.1),
                time(p50.0),
                time(p99.1),
                time(p99.0)
            );
        }
        _ => text.push_str("This run ended before both could be measured."),
    }
    if let Some((one, two)) = both(outcome, Kind::Closed, |s| s.messages_per_second).filter(|pair| pair.0 > 0.0) {
        let _ = write!(text, " As fast as it goes, {second} reached <b>{:.0}%</b> of {first}.", two / one * 100.0);
    }
    if let Some(device) = &outcome.device {
        let _ = write!(text, " One durable write took this disk <b>{}</b>.", time(device.durable_write_us.p50));
    }
    text
}

fn status(outcome: &Outcome) -> String {
    let mut text = String::new();
    let list = |class: &str, head: &str, sentences: &[String]| {
        let items: String = sentences.iter().map(|one| format!("<li>{}</li>", escaped(one))).collect();
        format!("<div class=\"status {class}\"><strong>{head}</strong><ul>{items}</ul></div>\n")
    };
    if outcome.findings.is_empty() {
        let kept_up = if outcome.rejected.is_empty() { ", and the generator kept up" } else { "" };
        let _ = writeln!(
            text,
            "<p class=\"status good\"><strong>Audited.</strong> Every message is there, once and in order{kept_up}.</p>"
        );
    } else {
        let head = if outcome.is_partial { "This run is partial." } else { "This run failed." };
        text.push_str(&list("bad", head, &outcome.findings));
    }
    if !outcome.rejected.is_empty() {
        text.push_str(&list("bad", "Rejected: these figures are partly the generator's.", &outcome.rejected));
    }
    if !outcome.notes.is_empty() {
        text.push_str(&list("note", "To know when reading", &outcome.notes));
    }
    text
}

fn tiles(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut tile = |name: &str, big: &str, rows: &[(&str, String)]| {
        let rows: String =
            rows.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{value}</dd>", escaped(name))).collect();
        let _ = writeln!(text, "<div class=\"tile\"><h2>{name}</h2><p class=\"big\">{big}</p><dl>{rows}</dl></div>");
    };
    let [one, two] = outcome.modes.as_slice() else { return text };
    let mut pair = |name: &str, kind, figure: fn(&Summary) -> f64, say: &dyn Fn(f64) -> String| {
        if let Some((a, b)) = both(outcome, kind, figure).filter(|pair| pair.0 > 0.0) {
            tile(name, &ratio(b / a).replace('x', "×"), &[(&one.label, say(a)), (&two.label, say(b))]);
        }
    };
    let a_second = |value: f64| format!("{}/s", grouped(value, 0));
    pair("p50 latency at the rate", Kind::Open, |s| s.latency_us.p50, &time);
    pair("p99 latency at the rate", Kind::Open, |s| s.latency_us.p99, &time);
    pair("Throughput as fast as it goes", Kind::Closed, |s| s.messages_per_second, &a_second);
    pair("One sender that waits, p50", Kind::Single, |s| s.latency_us.p50, &time);
    text
}

fn legend(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut entry = |class: &str, label: &str| {
        let _ = write!(
            text,
            "<span class=\"{class}\"><svg aria-hidden=\"true\"><path class=\"key {class}\" d=\"M0 5H34\"/></svg>{}</span>",
            escaped(label)
        );
    };
    for (mode, class) in outcome.modes.iter().zip(CLASSES) {
        entry(class, &mode.label);
    }
    if outcome.device.is_some() {
        entry("dev", "the disk: one durable 4 KiB write");
    }
    text
}

fn figures(outcome: &Outcome) -> String {
    let mut text = String::from("<table class=\"figures\">\n<thead><tr><th scope=\"col\"></th>");
    for mode in &outcome.modes {
        // On a narrow screen a label breaks where its words do.
        let label = escaped(&mode.label).replace('_', "_<wbr>");
        let _ = write!(text, "<th scope=\"col\">{label}</th>");
    }
    text.push_str("<th scope=\"col\">Ratio</th></tr></thead>\n");
    for (title, rows) in text::rows(outcome) {
        let _ = writeln!(
            text,
            "<tbody><tr><th scope=\"rowgroup\" colspan=\"{}\">{}</th></tr>",
            outcome.modes.len() + 2,
            escaped(&sentence_case(&title).replace(" us", " µs"))
        );
        for row in rows {
            let cell = |mode: &Mode| cell(&row, mode);
            let cells: String = outcome.modes.iter().map(cell).collect();
            let between = row.ratio(&outcome.modes).map_or_else(String::new, |found| ratio(found).replace('x', "×"));
            let name = escaped(&row.name.replace(" us ", " µs "));
            let _ = writeln!(text, "<tr><th scope=\"row\">{name}</th>{cells}<td>{between}</td></tr>");
        }
        text.push_str("</tbody>\n");
    }
    text + "</table>\n"
}

fn cell(row: &Row, mode: &Mode) -> String {
    let text = row.text(mode);
    let is_figure = text.starts_with(|c: char| c.is_ascii_digit());
    format!("<td{}>{}</td>", if is_figure { "" } else { " class=\"missing\"" }, escaped(&text))
}

fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn device(outcome: &Outcome) -> String {
    let Some(device) = &outcome.device else { return String::new() };
    let p = &device.durable_write_us;
    let row = |name: &str, value: String| format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n");
    let rows = [
        row("p50", time(p.p50)),
        row("p90", time(p.p90)),
        row("p99", time(p.p99)),
        row("p99.9", time(p.p999)),
        row("max", time(p.max)),
        row("writes measured", grouped(p.count as f64, 0)),
        row(
            &format!(
                "sequential writes of {} KiB, {} under way",
                device.sequential_block_bytes / 1024,
                device.sequential_depth
            ),
            format!("{} MB/s", grouped(device.sequential_bytes_per_second / 1e6, 0)),
        ),
    ];
    format!(
        "<h3>The disk itself, in the same run</h3>\n<table class=\"figures disk\">\n<thead><tr><th scope=\"col\">one durable \
         write of 4 KiB at a time (O_DIRECT, RWF_DSYNC)</th><th scope=\"col\"></th></tr></thead>\n<tbody>{}</tbody></table>\n",
        rows.concat()
    )
}

fn facts(outcome: &Outcome) -> String {
    let list = |facts: &[(&str, Option<String>)]| {
        let known = facts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let rows: String =
            known.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escaped(value))).collect();
        format!("<dl>{rows}</dl>\n")
    };
    let (host, setup) = (&outcome.host, &outcome.setup);
    let cpus = |cpus: &Option<Vec<usize>>| {
        cpus.as_ref().map(|cpus| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let storage = outcome.storage.as_ref();
    let device = storage.and_then(|storage| storage.device.as_ref());
    let machine = list(&[
        ("kernel", Some(format!("{}, {}", host.kernel, host.architecture))),
        ("processor", Some(format!("{} × {}", host.cpus, host.cpu))),
        ("kind", Some(if host.virtual_machine { "virtual machine" } else { "no hypervisor seen" }.to_owned())),
        ("governor", Some(host.governor.clone().unwrap_or_else(|| "not told by this host".to_owned()))),
        ("memory", Some(gib(host.memory_bytes))),
        ("store", storage.map(|storage| storage.folder.display().to_string())),
        ("file system", storage.map(|storage| format!("{} on {}", storage.file_system, storage.mount_point))),
        ("mount options", storage.map(|storage| storage.mount_options.replace(',', ", "))),
        (
            "disk",
            device.map(|device| {
                let model = device.model.as_deref().unwrap_or("no model told");
                format!("{} ({model}), {}", device.name, gib(device.size_bytes))
            }),
        ),
        ("rotational", device.map(|device| if device.rotational { "yes" } else { "no" }.to_owned())),
        ("scheduler", device.and_then(|device| device.scheduler.clone())),
        ("write cache", device.and_then(|device| device.write_cache.clone())),
        (
            "FUA",
            device
                .and_then(|device| device.fua)
                .map(|fua| if fua { "yes" } else { "no: each flush empties the cache" }.to_owned()),
        ),
    ]);
    let load = list(&[
        ("rate", Some(format!("{} messages a second, open loop", grouped(setup.rate, 0)))),
        ("body", Some(format!("{} bytes", grouped(f64::from(setup.size), 0)))),
        ("queues", Some(setup.queues.to_string())),
        ("connections", Some(format!("{}, {} requests under way on each at most", setup.connections, setup.in_flight))),
        ("headers", Some(setup.header.clone())),
        (
            "rounds",
            Some(format!("{} of {} s for each, after {} s of warm-up", setup.rounds, setup.seconds, setup.warmup)),
        ),
        (
            "brokers",
            Some(
                outcome
                    .modes
                    .iter()
                    .map(|mode| format!("{} at {}", mode.label, mode.broker))
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        ),
        ("broker CPUs", cpus(&setup.broker_cpus)),
        (
            "load CPUs",
            cpus(&setup.load_cpus).map(|cpus| format!("{cpus} ({})", if setup.spins { "polling" } else { "sleeping" })),
        ),
        ("took", Some(format!("{:.0} s in all", outcome.took_seconds))),
    ]);
    machine + &load
}

/// The words of a command line, quoted where a shell needs it.
fn command(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+%@".contains(c);
    let quoted = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn servers(outcome: &Outcome) -> String {
    let rounds: Vec<&str> = outcome.rounds.iter().map(|round| round.command.as_str()).collect();
    let lines: Vec<&str> = outcome.setup.servers.iter().map(String::as_str).chain(rounds).collect();
    if lines.is_empty() {
        return String::new();
    }
    let config = outcome.setup.config.as_ref().map_or_else(String::new, |config| {
        format!("<p class=\"sub\">Configuration file of both brokers:</p><pre class=\"code\">{}</pre>", escaped(config))
    });
    format!(
        "<details><summary>What it ran: {} servers, {} rounds</summary>\n<pre class=\"code\">{}</pre>{config}</details>\n",
        outcome.setup.servers.len(),
        outcome.rounds.len(),
        escaped(&lines.join("\n"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_page_is_filled_once() {
        let parts = [("a", "{{b}}".to_owned()), ("b", "x".to_owned())];
        assert_eq!(fill("1{{a}}2{{b}}3{{c}}", &parts), "1{{b}}2x3{{c}}");
        assert_eq!(fill("no place", &parts), "no place");
    }

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(iso(1_767_225_599_999), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn times_and_words() {
        assert_eq!(
            [time(3.05), time(312.4), time(4321.0), time(54_321.0), time(2e6)].join(" "),
            "3.0 µs 312 µs 4.32 ms 54.3 ms 2.00 s"
        );
        assert_eq!(command(&["a".to_owned(), "b c".to_owned(), "it's".to_owned()]), "a 'b c' 'it'\\''s'");
        assert_eq!(escaped("<a href=\"&\">"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }
}
