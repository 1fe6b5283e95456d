//! Charts of an evaluation, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::failure::Failure;
use crate::files;

use super::Score;
use super::generate::Moment;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 400;

/// Colours that stay apart for most eyes (Okabe and Ito), one a lens, the same in every chart.
const COLOURS: [(&str, RGBColor); 8] = [
    ("trust", RGBColor(0, 0, 0)),
    ("consensus", RGBColor(213, 94, 0)),
    ("authority", RGBColor(0, 114, 178)),
    ("recency", RGBColor(86, 180, 233)),
    ("confidence", RGBColor(204, 121, 167)),
    ("votes", RGBColor(0, 158, 115)),
    ("skeptic", RGBColor(230, 159, 0)),
    ("layered", RGBColor(120, 120, 120)),
];

type Point = (f64, f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a panel.
struct Line<'a> {
    name: &'a str,
    points: Vec<Point>,
}

struct Panel<'a> {
    title: String,
    across: &'a str,
    up: &'a str,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    /// Names of the places on the horizontal axis, if they are no numbers.
    places: Vec<String>,
    /// From corner to corner, to compare with.
    diagonal: bool,
    lines: Vec<Line<'a>>,
    legend: Option<SeriesLabelPosition>,
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
        scores.iter().map(|score| Line { name: &score.lens, points: points(score) }).collect()
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
    write(folder, title, (1, 2), &panels)
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
        let line = |(n, name): (usize, _)| {
            let accuracy = |moment: &Moment| moment.scores.get(n).map(|score| score.accuracy);
            let points = of_world.iter().enumerate();
            let points = points.filter_map(|(at, moment)| Some((at as f64, accuracy(moment)?)));
            Line { name, points: points.collect() }
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
            lines: names.enumerate().map(line).collect(),
            legend: panels.is_empty().then_some(SeriesLabelPosition::LowerLeft),
        });
    }
    if panels.is_empty() {
        return Ok(());
    }
    let rows = panels.len().div_ceil(2);
    write(folder, &format!("{title}-amounts"), (rows, 2), &panels)
}

/// Where a vertical axis begins that shows all lines, in tenths.
fn lowest(lines: &[Line<'_>]) -> f64 {
    let points = lines.iter().flat_map(|line| &line.points);
    let lowest = points.map(|point| point.1).fold(0.9, f64::min);
    (lowest * 10.0).floor() / 10.0
}

fn write(
    folder: &Path,
    name: &str,
    (rows, columns): (usize, usize),
    panels: &[Panel<'_>],
) -> Result<(), Failure> {
    let mut svg = String::new();
    {
        let size = (WIDTH, HEIGHT * rows as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
            panel.draw(area)?;
        }
        root.present().map_err(|error| failed(&error))?;
    }
    files::create_folder(folder)?;
    files::replace(&folder.join(format!("{name}.svg")), &svg)
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::error(format!("cannot draw: {error}"))
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<(), Failure> {
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(|error| failed(&error))?;
        let place = |x: &f64| match self.places.get(x.round() as usize) {
            _ if self.places.is_empty() => format!("{x:.1}"),
            Some(place) if (x - x.round()).abs() < 0.01 => place.clone(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .x_labels(if self.places.is_empty() { 11 } else { self.places.len() })
            .x_label_formatter(&place)
            .y_label_formatter(&|y| format!("{y:.2}"))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| failed(&error))?;
        if self.diagonal {
            let line = [(self.x.start, self.x.start), (self.x.end, self.x.end)];
            chart
                .draw_series(LineSeries::new(line, RGBColor(190, 190, 190).stroke_width(1)))
                .map_err(|error| failed(&error))?;
        }
        for line in &self.lines {
            let known = COLOURS.iter().find(|(name, _)| *name == line.name);
            let colour = known.map_or(BLACK, |(_, colour)| *colour);
            let width = if line.name == "trust" { 3 } else { 1 };
            let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: width };
            chart
                .draw_series(LineSeries::new(line.points.clone(), style).point_size(3))
                .map_err(|error| failed(&error))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        if let Some(position) = &self.legend {
            chart
                .configure_series_labels()
                .position(position.clone())
                .background_style(WHITE.mix(0.8))
                .label_font(("sans-serif", 11))
                .draw()
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}
