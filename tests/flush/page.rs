//! The page of `bench flush` as its readers meet it: on a desk and on a telephone, in light and dark, with a mouse, with
//! a keyboard, and without a script.
//!
//! `RINGMQ_PAGE_PICTURES=DIR` keeps a picture of each.

use std::path::Path;

use serde_json::Value;

use crate::browser::Browser;

const WIDTHS: [u32; 2] = [1280, 390];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// The smallest contrast for text of ordinary size (WCAG 2, level AA).
const CONTRAST_MIN: f64 = 4.5;

/// Contrast of text and what lies behind it, by the formula of WCAG 2: of all texts the smallest, with its text.
const CONTRAST: &str = r#"(() => {
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (numbers(color)[3] !== 0) return color;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  let worst = [99, "none"];
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("noscript") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const pair = [light(element instanceof SVGElement ? style.fill : style.color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < worst[0]) worst = [contrast, element.textContent.trim().slice(0, 40)];
  }
  return worst;
})()"#;

/// Elements that reach beyond the screen and are in no scrolling frame of their own.
const OVERFLOW: &str = r#"(() => {
  const wide = [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest(".scroll") && element.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
  return wide.map((element) => element.tagName + " " + element.textContent.trim().slice(0, 40))
    .concat(document.documentElement.scrollWidth > document.documentElement.clientWidth ? ["the page itself"] : []);
})()"#;

/// The chart's lines: which mode's, and how many points each has.
fn lines(browser: &mut Browser, chart: &str) -> Vec<(String, u64)> {
    let found = browser.ask(&format!(
        "[...document.querySelectorAll('#{chart} path.line')].map((line) => [line.dataset.label, line.getAttribute('d').split(/[ML]/).length - 1])"
    ));
    let pair = |line: &Value| (line[0].as_str().unwrap().to_owned(), line[1].as_u64().unwrap());
    found.as_array().unwrap().iter().map(pair).collect()
}

fn points(lines: &[(String, u64)], label: &str) -> u64 {
    lines.iter().filter(|line| line.0 == label).map(|line| line.1).sum()
}

pub(crate) fn check(browser: &mut Browser, file: &Path, labels: [&str; 2]) {
    for width in WIDTHS {
        for scheme in SCHEMES {
            browser.open(file, width, scheme);
            keep_picture(browser, width, scheme);
            let what = format!("{width} {scheme}");
            let beyond = browser.ask(OVERFLOW);
            assert_eq!(beyond, serde_json::json!([]), "{what}: wider than the screen");
            let contrast = browser.ask(CONTRAST);
            assert!(contrast[0].as_f64().unwrap() >= CONTRAST_MIN, "{what}: hard to read: {contrast}");
            for (chart, least) in [("percentiles", 10), ("latency", 4), ("throughput", 4)] {
                let lines = lines(browser, chart);
                for label in labels {
                    assert!(points(&lines, label) >= least, "{what}: no line of {label} in {chart}: {lines:?}");
                }
            }
            assert_eq!(
                browser.ask("document.querySelector('#percentiles svg').getAttribute('aria-label').length > 40"),
                true
            );
            let bars = browser.ask("document.querySelectorAll('#sizes .bar').length").as_u64().unwrap();
            assert!(bars >= 2, "{what}: no sizes of flushes");
            check_values(browser, &what, labels);
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
    let strange: Vec<_> =
        browser.requests.iter().filter(|url| !url.starts_with("file:") && !url.starts_with("data:")).collect();
    assert!(strange.is_empty(), "the page asks for something that is not in it: {strange:?}");
    check_without_script(browser, file, labels);
}

/// A pointer over a chart and the arrow keys in it show the values there.
fn check_values(browser: &mut Browser, what: &str, labels: [&str; 2]) {
    let tip = "(() => { const tip = document.getElementById('tip'), box = tip.getBoundingClientRect(); \
               return tip.hidden ? null : [tip.innerText, box.left, box.right <= document.documentElement.clientWidth]; })()";
    let middle = browser.ask(
        "(() => { const chart = document.querySelector('#percentiles svg'); chart.scrollIntoView({ block: 'center' }); \
         const box = chart.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; })()",
    );
    browser.point(middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap());
    let shown = browser.ask(tip);
    let text = shown[0].as_str().unwrap_or_else(|| panic!("{what}: the pointer shows nothing"));
    assert!(labels.iter().all(|label| text.contains(label)) && text.contains("ratio"), "{what}: {text}");
    assert!(shown[1].as_f64().unwrap() >= 0.0 && shown[2] == true, "{what}: the values are off the screen: {shown}");
    browser.point(1.0, 1.0);
    assert!(browser.ask(tip).is_null(), "{what}: the values stay");
    browser.ask("document.querySelector('#latency svg').focus()");
    browser.press("ArrowRight");
    let text = browser.ask(tip);
    assert!(text[0].as_str().is_some_and(|text| text.contains("p99")), "{what}: keys show nothing: {text}");
}

fn check_without_script(browser: &mut Browser, file: &Path, labels: [&str; 2]) {
    browser.scripts(false);
    browser.open(file, 1280, "light");
    let text = browser.ask("document.querySelector('main').innerText");
    let text = text.as_str().unwrap();
    for word in ["What durability costs", "p99.9", "Ratio", "kernel", "The disk itself", labels[0], labels[1]] {
        assert!(text.contains(word), "without a script there is no {word}:\n{text}");
    }
    assert!(text.contains("drawn by a script"), "{text}");
    browser.scripts(true);
}

fn keep_picture(browser: &mut Browser, width: u32, scheme: &str) {
    let Some(folder) = std::env::var_os("RINGMQ_PAGE_PICTURES") else { return };
    let picture = browser.picture();
    let name = Path::new(&folder).join(format!("flush-{width}-{scheme}.png"));
    std::fs::write(name, base64(&picture)).unwrap();
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
