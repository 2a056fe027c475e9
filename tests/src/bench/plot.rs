//! The ratios as a picture: for each figure a bar for each opponent, with its bounds, on a scale on which plain routing is 1.

use std::fmt::Write as _;

use super::opponents::Way;
use super::report::Report;
use super::workloads::FIGURES;

const WIDTH: f64 = 860.0;
/// Where bars begin, and how wide they may become.
const LEFT: f64 = 190.0;
const ROOM: f64 = WIDTH - LEFT - 90.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 34.0;
const TOP: f64 = 64.0;

/// The picture, as SVG.
pub fn ratios(report: &Report) -> String {
    let figures = FIGURES.map(|figure| (figure, report.rows(figure)));
    let rows: usize = figures.iter().map(|(_, rows)| rows.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "few rows")]
    let height = TOP + HEAD * figures.len() as f64 + ROW * rows as f64 + 20.0;
    let widest = figures
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|(_, _, ratio)| ratio.high))
        .fold(1.2, f64::max);
    let x = |ratio: f64| LEFT + ROOM * ratio / widest;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        20.0,
        28.0,
        "Ratio to plain routing through the director",
        "font-size=\"18\" font-weight=\"600\"",
    );
    text(&mut svg, 20.0, 48.0, &report.caption(), "fill=\"#666666\"");
    let mut y = TOP;
    for (figure, rows) in figures {
        y += HEAD;
        let better = if figure.more_is_better {
            "more is better"
        } else {
            "less is better"
        };
        text(
            &mut svg,
            20.0,
            y - 10.0,
            &format!("{} ({better})", figure.name),
            "font-weight=\"600\"",
        );
        for (way, _, ratio) in rows {
            let colour = if way == Way::Bpvs {
                "#1f6f8b"
            } else {
                "#b8c4cc"
            };
            let middle = y + ROW / 2.0;
            text(
                &mut svg,
                LEFT - 8.0,
                middle + 4.5,
                way.name(),
                "text-anchor=\"end\"",
            );
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\"/>",
                y + 3.0,
                x(ratio.median) - LEFT,
                ROW - 6.0
            );
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#333333\" stroke-width=\"1.5\"/>",
                x(ratio.low),
                x(ratio.high)
            );
            text(
                &mut svg,
                x(ratio.high) + 8.0,
                middle + 4.5,
                &format!("{:.2}", ratio.median),
                "fill=\"#333333\"",
            );
            y += ROW;
        }
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP:.0}\" y2=\"{y:.0}\" stroke=\"#999999\" stroke-dasharray=\"3 3\"/>",
        x(1.0)
    );
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, words: &str, attributes: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{words}</text>"
    );
}
