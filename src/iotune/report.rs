//! A measurement as a page for people.

use std::fmt::Write as _;

use ringmq_rt::CommitMethod;

use super::figures::{CommitFigure, Cores, StreamFigure};
use super::file::Document;
use crate::run::place;

/// The page. Times are microseconds, throughput is in units of 1,000,000 bytes a second.
pub(crate) fn page(document: &Document) -> String {
    let Document { device, kernel, cores, chosen, .. } = document;
    let mut text = String::new();
    let (plural, cores) = (if cores.len() == 1 { "" } else { "s" }, place::ranges(cores));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} · Linux {kernel} · core{plural} {cores}\n", device.line());
    let _ = writeln!(text, "batches made durable, one in flight on each core, us");
    let _ = writeln!(text, "  {:<18} {:>8}  {:^36}   {:^27}", "", "", Cores::Idle.to_string(), Cores::Busy.to_string());
    let _ = writeln!(
        text,
        "  {:<18} {:>8}  {:>8} {:>8} {:>8} {:>9}   {:>8} {:>8} {:>9}",
        "method", "batch", "p50", "p99", "p99.9", "CPU each", "p50", "p99", "p99.9"
    );
    let mut sizes: Vec<u32> = document.commit.iter().map(|figure| figure.bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for bytes in sizes {
        for method in CommitMethod::ALL {
            let find = |cores| find(&document.commit, method, bytes, cores);
            let (Some(idle), Some(busy)) = (find(Cores::Idle), find(Cores::Busy)) else { continue };
            let cpu = idle.cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
            let (i, b) = (idle.latency, busy.latency);
            let _ = writeln!(
                text,
                "  {method:<18} {:>8}  {:>8.0} {:>8.0} {:>8.0} {cpu:>9}   {:>8.0} {:>8.0} {:>9.0}",
                size(bytes),
                i.p50_us,
                i.p99_us,
                i.p999_us,
                b.p50_us,
                b.p99_us,
                b.p999_us
            );
        }
    }
    streams(&mut text, "written in order on one core, MB/s (p99 in us)", &document.write);
    streams(&mut text, "read in order on one core, MB/s (p99 in us)", &document.read);
    let _ = writeln!(text, "\nchosen");
    let _ = writeln!(text, "  commit      {}", chosen.commit_method);
    let _ = writeln!(text, "  writes      {} x {} in flight", size(chosen.write_bytes), chosen.write_depth);
    let _ = writeln!(text, "  reads       {} x {} in flight", size(chosen.read_bytes), chosen.read_depth);
    text
}

fn find(figures: &[CommitFigure], method: CommitMethod, bytes: u32, cores: Cores) -> Option<&CommitFigure> {
    figures.iter().find(|f| f.method == method && f.bytes == bytes && f.cores == cores)
}

/// A row for each size, a column for each depth, both in the order measured.
fn streams(text: &mut String, title: &str, figures: &[StreamFigure]) {
    let _ = writeln!(text, "\n{title}");
    let (mut sizes, mut depths): (Vec<u32>, Vec<u32>) = figures.iter().map(|f| (f.bytes, f.depth)).unzip();
    for list in [&mut sizes, &mut depths] {
        list.sort_unstable();
        list.dedup();
    }
    let _ = write!(text, "  {:<9}", "in flight");
    for depth in &depths {
        let _ = write!(text, "  {depth:>15}");
    }
    text.push('\n');
    for bytes in sizes {
        let _ = write!(text, "  {:<9}", size(bytes));
        for depth in &depths {
            let cell = figures.iter().find(|f| f.bytes == bytes && f.depth == *depth);
            let cell = cell.map_or_else(String::new, |f| format!("{:.0} ({:.0})", f.mb_per_second, f.latency.p99_us));
            let _ = write!(text, "  {cell:>15}");
        }
        text.push('\n');
    }
}

fn size(bytes: u32) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::document;
    use super::*;

    #[test]
    fn a_page_has_what_was_measured_and_chosen() {
        let mut document = document(std::path::Path::new("/"), CommitMethod::RingDsync);
        let idle = CommitFigure { cores: Cores::Idle, cpu_us: Some(7.25), ..document.commit[0].clone() };
        document.commit.push(idle);
        let page = page(&document);
        let row = page.lines().find(|line| line.contains("ringDsync  ")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words, ["ringDsync", "4", "KiB", "1", "4", "4", "7.2", "1", "4", "4"]);
        assert!(page.lines().any(|line| line.starts_with("  128 KiB") && line.ends_with("2000 (4)")), "{page}");
        assert!(page.contains("  commit      ringDsync\n") && page.contains("256 KiB x 2 in flight"), "{page}");
        assert_eq!((size(4096), size(1 << 20)), ("4 KiB".to_owned(), "1 MiB".to_owned()));
    }
}
