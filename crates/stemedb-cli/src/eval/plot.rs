//! Charts of an evaluation.

use std::path::Path;

use crate::failure::Failure;
use crate::plot::{self, Line, Panel, Point, SeriesLabelPosition};

use super::Score;
use super::generate::Moment;

/// Lenses in the order of their colours, the same in every chart.
const LENSES: [&str; 8] =
    ["trust", "consensus", "authority", "recency", "confidence", "votes", "skeptic", "layered"];

fn line(name: &str, points: Vec<Point>) -> Line<'_> {
    let number = LENSES.iter().position(|lens| *lens == name).unwrap_or_default();
    let width = if name == "trust" { 3 } else { 1 };
    Line { name, points, colour: plot::colour(number), width }
}

/// `TITLE.svg` in `folder`: accuracy of the clearest answers, and accuracy by share.
pub fn calibration(folder: &Path, title: &str, scores: &[Score]) -> Result<(), Failure> {
    let covered = |score: &Score| {
        score.coverage.iter().map(|point| (point.coverage, point.accuracy)).collect::<Vec<_>>()
    };
    let reliability = |score: &Score| {
        score.reliability.iter().map(|bin| (bin.share, bin.accuracy)).collect::<Vec<_>>()
    };
    let lines = |points: &dyn Fn(&Score) -> Vec<Point>| -> Vec<Line<'_>> {
        scores.iter().map(|score| line(&score.lens, points(score))).collect()
    };
    let covered = lines(&covered);
    let panels = [
        Panel {
            title: format!("{title}: the clearest answers"),
            across: "part of the answers, largest shares first",
            up: "accuracy",
            x: 0.0..1.0,
            y: lowest(&covered)..1.01,
            places: Vec::new(),
            diagonal: false,
            lines: covered,
            legend: Some(SeriesLabelPosition::LowerLeft),
        },
        Panel {
            title: format!("{title}: reliability"),
            across: "share of the answer under the lens",
            up: "accuracy",
            x: 0.0..1.0,
            y: 0.0..1.01,
            places: Vec::new(),
            diagonal: true,
            lines: lines(&reliability),
            legend: None,
        },
    ];
    plot::write(folder, title, (1, 2), &panels)
}

/// `TITLE-amounts.svg` in `folder`: accuracy as copies, or sybils, become more; a panel a world.
/// Nothing is drawn if no world has more than one moment.
pub fn amounts(
    folder: &Path,
    title: &str,
    lenses: &[String],
    moments: &[Moment],
) -> Result<(), Failure> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for of_world in moments.chunk_by(|a, b| a.world == b.world) {
        let Some(first) = of_world.first().filter(|_| of_world.len() > 1) else { continue };
        let of_lens = |(n, name): (usize, _)| {
            let accuracy = |moment: &Moment| moment.scores.get(n).map(|score| score.accuracy);
            let points = of_world.iter().enumerate();
            let points = points.filter_map(|(at, moment)| Some((at as f64, accuracy(moment)?)));
            line(name, points.collect())
        };
        let names = lenses.iter().map(String::as_str);
        panels.push(Panel {
            title: first.world.to_owned(),
            across: "amount",
            up: "accuracy",
            x: 0.0..(of_world.len() - 1) as f64,
            y: 0.0..1.01,
            places: of_world.iter().map(|moment| moment.amount.to_string()).collect(),
            diagonal: false,
            lines: names.enumerate().map(of_lens).collect(),
            legend: panels.is_empty().then_some(SeriesLabelPosition::LowerLeft),
        });
    }
    if panels.is_empty() {
        return Ok(());
    }
    let rows = panels.len().div_ceil(2);
    plot::write(folder, &format!("{title}-amounts"), (rows, 2), &panels)
}

/// Where a vertical axis begins that shows all lines, in tenths.
fn lowest(lines: &[Line<'_>]) -> f64 {
    let points = lines.iter().flat_map(|line| &line.points);
    let lowest = points.map(|point| point.1).fold(0.9, f64::min);
    (lowest * 10.0).floor() / 10.0
}
