//! One picture: latency, throughput and memory over the time of the phases, one after the other.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Results;
use crate::load::{Outcome, Second};
use crate::phase::{Measured, Phase};
use crate::requests::Kind;
use crate::watch::Sample;

const SIZE: (u32, u32) = (960, 900);
/// Between two phases, in seconds on the axis, as a share of a phase.
const GAP: f64 = 0.06;
const ASSERTS: RGBColor = RGBColor(0, 114, 178);
const QUERIES: RGBColor = RGBColor(213, 94, 0);
const MEMORY: RGBColor = RGBColor(0, 0, 0);
const OUTSIDE: RGBColor = RGBColor(0, 158, 115);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Points = Vec<(f64, f64)>;

/// Lines of one panel.
struct Panel {
    title: &'static str,
    logarithmic: bool,
    lines: Vec<Line>,
}

/// One stream of one phase.
struct Line {
    name: &'static str,
    colour: RGBColor,
    points: Points,
}

/// A phase on the axis.
struct Place<'a> {
    phase: &'a Phase,
    full: &'a Measured,
    begin: f64,
    end: f64,
}

/// Draws what was run to its full length into an SVG file; nothing if nothing was.
pub(crate) fn draw(path: &Path, results: &Results) -> Result<()> {
    let mut places = Vec::new();
    let mut begin = 0.0;
    for phase in &results.phases {
        let Some(full) = phase.full.last() else { continue };
        let end = begin + (full.to - full.from);
        places.push(Place { phase, full, begin, end });
        begin = end + phase.seconds * GAP;
    }
    let Some(last) = places.last() else { return Ok(()) };
    let end = last.end;
    let panels = [
        Panel {
            title: "latency in ms, of the requests due in each second: p50 and p99",
            logarithmic: true,
            lines: lines(&places, &[|second| second.p50 / 1e3, |second| second.p99 / 1e3]),
        },
        Panel {
            title: "answers a second (claims, queries)",
            logarithmic: false,
            lines: rates(&places),
        },
        Panel {
            title: "resident memory of the server in MiB",
            logarithmic: false,
            lines: vec![
                memory(&places, "memory", MEMORY, |sample| sample.resident),
                memory(&places, "outside of caches", OUTSIDE, Sample::outside),
            ],
        },
    ];
    let failed = |error: &dyn std::fmt::Display| anyhow!("the chart: {error}");
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let areas = root.split_evenly((panels.len(), 1));
    for (panel, area) in panels.iter().zip(&areas) {
        panel.draw(area, &places, end)?;
    }
    root.present().map_err(|error| failed(&error))
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Assert | Kind::Batch => ASSERTS,
        Kind::Question => QUERIES,
    }
}

/// A line for each stream of each phase and each value.
fn lines(places: &[Place<'_>], values: &[fn(&Second) -> f64]) -> Vec<Line> {
    let mut lines = Vec::new();
    for place in places {
        for (kind, outcome) in &place.full.streams {
            for value in values {
                lines.push(line(place, *kind, outcome, value));
            }
        }
    }
    lines
}

fn rates(places: &[Place<'_>]) -> Vec<Line> {
    let streams = places.iter().flat_map(|place| {
        place.full.streams.iter().map(move |(kind, outcome)| (place, *kind, outcome))
    });
    let answered = |(place, kind, outcome): (&Place<'_>, Kind, &Outcome)| {
        line(place, kind, outcome, |second| (second.answered * kind.size()) as f64)
    };
    streams.map(answered).collect()
}

fn line(place: &Place<'_>, kind: Kind, outcome: &Outcome, value: impl Fn(&Second) -> f64) -> Line {
    let name = if kind == Kind::Question { "queries" } else { "asserts" };
    // What comes after the time is the rest of a second.
    let whole = outcome.over_time.iter().take(place.phase.seconds as usize).enumerate();
    let points = whole.map(|(n, second)| (place.begin + n as f64, value(second)));
    // A second without a request has no latency.
    let points = points.filter(|(_, value)| *value > 0.0).collect();
    Line { name, colour: colour(kind), points }
}

fn memory(
    places: &[Place<'_>],
    name: &'static str,
    colour: RGBColor,
    bytes: impl Fn(&Sample) -> f64,
) -> Line {
    let mut points = Vec::new();
    for place in places {
        let during = |at: f64| (place.full.from..=place.full.to).contains(&at);
        for sample in place.phase.watch.iter().filter(|sample| during(sample.at)) {
            let mebibytes = bytes(sample) / f64::from(1 << 20);
            points.push((place.begin + sample.at - place.full.from, mebibytes));
        }
    }
    Line { name, colour, points }
}

impl Panel {
    /// Where a value is on the axis.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value }
    }

    fn label(&self, place: f64) -> String {
        match if self.logarithmic { 10_f64.powf(place) } else { place } {
            value if value < 10.0 && self.logarithmic => format!("{value:.1}"),
            value => format!("{value:.0}"),
        }
    }

    fn draw(&self, area: &Area<'_>, places: &[Place<'_>], end: f64) -> Result<()> {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let high = self.place(values.clone().fold(1.0, f64::max) * 1.4);
        let low = values.fold(f64::INFINITY, f64::min).min(1.0);
        let low = if self.logarithmic { self.place(low) } else { 0.0 };
        let failed = |error: &dyn std::fmt::Display| anyhow!("the chart: {error}");
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..end.max(1.0), low..high)
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .x_desc("seconds, phases one after the other")
            .y_label_formatter(&|place| self.label(*place))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| failed(&error))?;
        // Each name once.
        let mut named: Vec<&str> = Vec::new();
        for line in &self.lines {
            let style = ShapeStyle { color: line.colour.to_rgba(), filled: true, stroke_width: 1 };
            let points = line.points.iter().map(|(at, value)| (*at, self.place(*value)));
            let drawn = chart
                .draw_series(LineSeries::new(points, style))
                .map_err(|error| failed(&error))?;
            if !named.contains(&line.name) {
                named.push(line.name);
                drawn
                    .label(line.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
        }
        // A line ends each phase, its name stands where it begins.
        let words = places.iter().map(|place| {
            let text = place.phase.part.short();
            Text::new(text, (place.begin, high - (high - low) * 0.02), ("sans-serif", 12))
        });
        chart.draw_series(words).map_err(|error| failed(&error))?;
        let ends = places
            .iter()
            .map(|place| PathElement::new([(place.end, low), (place.end, high)], BLACK.mix(0.25)));
        chart.draw_series(ends).map_err(|error| failed(&error))?;
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 11))
            .draw()
            .map_err(|error| failed(&error))
    }
}
