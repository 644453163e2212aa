//! The chart for the README: bars of seconds for each main work.

use crate::report::ratio;
use crate::rounds::{Measured, Runs};
use crate::ways::Way;
use crate::work::{KEY_BYTES, Kind};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 200.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
/// Room for the words behind the longest bar.
const WORDS: f64 = 150.0;

/// Bars for each main work: how many times as long as cutover each way takes, on a scale that gives
/// each doubling the same length.
pub fn chart(measured: &Measured) -> String {
    let mains: Vec<_> = measured.works.iter().filter(|(work, _)| work.kind == Kind::Main).collect();
    let most = mains
        .iter()
        .flat_map(|(_, all)| all.iter().filter_map(|runs| ratio(all, runs)))
        .fold(2.0, f64::max);
    let mut body = String::new();
    let mut y = 24.0;
    for (work, all) in mains {
        let title =
            format!("{} pairs of {KEY_BYTES} + {} bytes", thousands(work.pairs), work.value_bytes);
        let _ = writeln!(body, r#"<text x="8" y="{y}" font-weight="bold">{title}</text>"#);
        y += GAP;
        for runs in all {
            y += bar(&mut body, y, runs, ratio(all, runs).unwrap_or(1.0), most);
        }
        y += 34.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// One bar; returns how much room it took.
fn bar(body: &mut String, y: f64, runs: &Runs, ratio: f64, most: f64) -> f64 {
    let color = match runs.way {
        Way::Cutover => "#1a7f5a",
        Way::Floor | Way::FloorMany | Way::FloorIds | Way::Plain => "#9aa5b1",
        Way::Hour | Way::Lndinit | Way::Ldk => "#c2703d",
    };
    // From a tenth of cutover's time on; every doubling is as long.
    let share = (ratio * 10.0).max(1.0).log2() / (most * 10.0).log2();
    let length = ((WIDTH - NAMES - WORDS) * share).max(1.0);
    let middle = y + BAR - 5.0;
    let _ = writeln!(
        body,
        r#"<text x="{:.0}" y="{middle:.0}" text-anchor="end">{}</text><rect x="{NAMES}" y="{y:.0}" width="{length:.0}" height="{BAR}" fill="{color}"/><text x="{:.0}" y="{middle:.0}">{:.2} µs a pair ({ratio:.2}×)</text>"#,
        NAMES - 8.0,
        runs.way.name(),
        NAMES + length + 6.0,
        runs.pair_microseconds(),
    );
    BAR + GAP
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
