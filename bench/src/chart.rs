//! The chart of ratios: one bar per workload, and where its target lies. Written by hand, because it is all lines.

use std::fmt::Write as _;

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// Ours over theirs: more is better.
    pub(crate) ratio: f64,
    pub(crate) target: f64,
}

const ROW_PX: usize = 24;
const BAR_PX: usize = 15;
const LABELS_PX: usize = 330;
const BARS_PX: usize = 420;
const FIGURES_PX: usize = 70;
const HEAD_PX: usize = 58;
const FOOT_PX: usize = 30;

/// Even a chart of slow systems shows where "as fast as" lies.
const SCALE_MIN: f64 = 1.5;

/// A longer bar would squeeze all others.
const SCALE_MAX: f64 = 5.0;

const MET: &str = "#2f7d4f";
const MISSED: &str = "#b5542f";
const FONT: &str = "font-family='system-ui, sans-serif' font-size='12'";

/// The chart as an SVG document.
pub(crate) fn svg(title: &str, bars: &[Bar]) -> String {
    let (width, height) = (LABELS_PX + BARS_PX + FIGURES_PX, HEAD_PX + bars.len() * ROW_PX + FOOT_PX);
    let largest = bars.iter().map(|bar| bar.ratio.max(bar.target)).fold(SCALE_MIN, f64::max);
    let px = BARS_PX as f64 / largest.min(SCALE_MAX);
    let mut out = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
         viewBox='0 0 {width} {height}' {FONT} fill='#222'>\n\
         <rect width='{width}' height='{height}' fill='#fff'/>\n\
         <text x='16' y='24' font-size='15' font-weight='600'>{}</text>\n\
         <text x='16' y='42' fill='#666'>Ratio; longer is better. The dark line is the target, the pale one is 1.0.</text>\n",
        escaped(title)
    );
    let one = LABELS_PX as f64 + px;
    line(&mut out, one, (HEAD_PX, height - FOOT_PX), "#bbb", 1);
    for (at, bar) in bars.iter().enumerate() {
        row(&mut out, bar, HEAD_PX + at * ROW_PX, px);
    }
    out.push_str("</svg>\n");
    out
}

fn row(out: &mut String, bar: &Bar, top: usize, px: f64) {
    let length = bar.ratio.clamp(0.0, SCALE_MAX) * px;
    let colour = if bar.ratio >= bar.target { MET } else { MISSED };
    let (text, mark) = (top + 12, bar.target.min(SCALE_MAX) * px + LABELS_PX as f64);
    let _ = writeln!(
        out,
        "<text x='{}' y='{text}' text-anchor='end'>{}</text>\n\
         <rect x='{LABELS_PX}' y='{top}' width='{length:.1}' height='{BAR_PX}' rx='2' fill='{colour}'/>\n\
         <text x='{:.1}' y='{text}' font-weight='600'>{:.2}</text>",
        LABELS_PX - 10,
        escaped(&bar.label),
        LABELS_PX as f64 + length.max(bar.target.min(SCALE_MAX) * px) + 8.0,
        bar.ratio
    );
    line(out, mark, (top - 2, top + BAR_PX + 2), "#222", 2);
}

fn line(out: &mut String, x: f64, (top, bottom): (usize, usize), colour: &str, width: u8) {
    let _ = writeln!(
        out,
        "<line x1='{x:.1}' y1='{top}' x2='{x:.1}' y2='{bottom}' stroke='{colour}' stroke-width='{width}'/>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element that is opened is closed, in order; enough for a document without CDATA and comments.
    fn is_well_formed(document: &str) -> bool {
        let mut open = vec![];
        for tag in document.split('<').skip(1) {
            let Some((tag, _)) = tag.split_once('>') else { return false };
            let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or_default();
            let quotes = tag.matches('\'').count();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) if open.pop() != Some(name) => return false,
                (false, false) => open.push(name),
                _ => {}
            }
            if quotes % 2 == 1 {
                return false;
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_chart_is_well_formed_whatever_the_labels_say() {
        let bar = |label: &str, ratio| Bar { label: label.into(), ratio, target: 1.2 };
        let chart =
            svg("a < b & c", &[bar("reads <all> & more", 1.7), bar("writes", 0.4), bar("huge", 90.0)]);
        assert!(is_well_formed(&chart), "{chart}");
        assert!(chart.contains("a &lt; b &amp; c") && chart.contains(">90.00<"), "{chart}");
        assert_eq!((chart.matches(MET).count(), chart.matches(MISSED).count()), (2, 1));
        assert!(is_well_formed(&svg("nothing", &[])));
    }

    #[test]
    fn the_check_itself_finds_what_is_not_well_formed() {
        assert!(!is_well_formed("<svg><text></svg>"));
        assert!(!is_well_formed("<svg a='1></svg>"));
    }
}
