//! The ratios as a picture: for each figure a row for each opponent, its median and its bounds on a scale on which no balancer
//! is 1, and where the goal is.

use super::canvas::{Anchor, Canvas, Colour, Style};
use super::opponents::{Group, Way};
use super::report::Report;
use super::statistics::Ratio;
use super::workloads::FIGURES;

const WIDTH: f32 = 900.0;
/// Where the scale begins, and how long it is.
const LEFT: f32 = 200.0;
const ROOM: f32 = 520.0;
const ROW: f32 = 24.0;
const HEAD: f32 = 44.0;
const TITLE: f32 = 66.0;
/// The ratios at the ends of the scale. What lies beyond is drawn at its end, and told in figures.
const LOWEST: f64 = 0.4;
const HIGHEST: f64 = 1.8;

const INK: Colour = [0x22, 0x2b, 0x33];
const FAINT: Colour = [0x77, 0x80, 0x88];
const LINE: Colour = [0xd8, 0xdd, 0xe1];
const STRIPE: Colour = [0xee, 0xf5, 0xf8];
const BETTER: Colour = [0x1b, 0x7f, 0x4d];
const WORSE: Colour = [0xc2, 0x3b, 0x22];
const OPEN: Colour = [0x6b, 0x75, 0x7d];
const GOAL: Colour = [0xd9, 0x8a, 0x00];

fn style(size: f32, colour: Colour) -> Style {
    Style {
        size,
        bold: false,
        colour,
        anchor: Anchor::Start,
    }
}

/// Where a ratio is on the scale.
#[expect(clippy::cast_possible_truncation, reason = "a place on a picture")]
fn x(ratio: f64) -> f32 {
    let share = (ratio.clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST);
    LEFT + ROOM * share as f32
}

/// The picture of one network's opponents; `None` where it has but one.
pub fn ratios(report: &Report, group: Group) -> Option<Canvas> {
    let figures = FIGURES.map(|figure| (figure, report.rows(figure, group)));
    let rows: usize = figures.iter().map(|(_, rows)| rows.len()).sum();
    if rows <= figures.len() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "few rows")]
    let height = TITLE + HEAD * figures.len() as f32 + ROW * rows as f32 + 48.0;
    let mut canvas = Canvas::new(WIDTH, height);
    let title = format!("bpvs and others, {}", group.name());
    let heading = Style {
        bold: true,
        ..style(18.0, INK)
    };
    canvas.words((20.0, 30.0), &title, heading);
    canvas.words((20.0, 50.0), &report.caption(), style(11.0, FAINT));
    let mut y = TITLE;
    for (figure, rows) in figures {
        y += HEAD;
        let better = if figure.more_is_better {
            "more is better"
        } else {
            "less is better"
        };
        let heading = Style {
            bold: true,
            ..style(13.0, INK)
        };
        canvas.words((20.0, y - 12.0), figure.name, heading);
        let right = Style {
            anchor: Anchor::End,
            ..style(11.0, FAINT)
        };
        canvas.words((WIDTH - 20.0, y - 12.0), better, right);
        let top = y;
        for (way, _, ratio) in rows {
            row(&mut canvas, y, way, ratio, figure.more_is_better);
            y += ROW;
        }
        canvas.dashes((x(1.0), top), y - top, FAINT);
        if let Some(goal) = figure.goal_of(group) {
            canvas.rectangle((x(goal) - 1.0, top - 4.0), (2.0, y - top + 4.0), GOAL);
            let word = Style {
                anchor: Anchor::Middle,
                ..style(10.0, GOAL)
            };
            canvas.words((x(goal), top - 6.0), &format!("goal {goal:.2}"), word);
        }
    }
    for mark in [0.5, 0.75, 1.0, 1.25, 1.5, 1.75] {
        let word = Style {
            anchor: Anchor::Middle,
            ..style(11.0, FAINT)
        };
        canvas.rectangle((x(mark) - 0.5, y), (1.0, 5.0), FAINT);
        canvas.words((x(mark), y + 18.0), &format!("{mark}"), word);
    }
    let legend = format!(
        "ratio to {}: median of the rounds, and between what it lies with 95 % confidence",
        group.base().name()
    );
    canvas.words((LEFT, y + 36.0), &legend, style(11.0, FAINT));
    Some(canvas)
}

fn row(canvas: &mut Canvas, y: f32, way: Way, ratio: Ratio, more_is_better: bool) {
    let middle = y + ROW / 2.0;
    if way.is_bpvs() {
        canvas.rectangle((12.0, y), (WIDTH - 24.0, ROW), STRIPE);
    }
    canvas.level((LEFT, middle), ROOM, 1.0, LINE);
    let name = Style {
        anchor: Anchor::End,
        bold: way.is_bpvs(),
        ..style(12.0, INK)
    };
    canvas.words((LEFT - 10.0, middle + 4.0), way.name(), name);
    let colour = match (ratio.low > 1.0, ratio.high < 1.0) {
        (true, _) if more_is_better => BETTER,
        (_, true) if !more_is_better => BETTER,
        (true, _) | (_, true) => WORSE,
        _ => OPEN,
    };
    let (low, high, median) = (x(ratio.low), x(ratio.high), x(ratio.median));
    canvas.level((low, middle), high - low, 3.0, colour);
    canvas.rectangle((median - 4.0, middle - 6.0), (8.0, 12.0), colour);
    let figures = format!(
        "{:.2}  ({:.2} to {:.2})",
        ratio.median, ratio.low, ratio.high
    );
    canvas.words(
        (LEFT + ROOM + 16.0, middle + 4.0),
        &figures,
        style(12.0, INK),
    );
}
