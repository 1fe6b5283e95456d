//! One picture: throughput and tail latency by clients, both as ratios to the bare device.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::commits::{Cell, Row};
use crate::contender::{BARE, OURS};

const SIZE: (u32, u32) = (960, 760);

/// Colours that stay apart for most eyes; ours comes first and is drawn thicker.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

/// A panel: what is on its vertical axis, and of which records.
struct Panel<'a> {
    title: String,
    cells: Vec<&'a Cell>,
    value: fn(&Row) -> f64,
}

/// Draws `cells` into an SVG file.
pub(crate) fn draw(path: &Path, cells: &[Cell]) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("the chart: {error}");
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut bodies: Vec<usize> = cells.iter().map(|cell| cell.body_bytes).collect();
    bodies.dedup();
    let areas = root.split_evenly((2, bodies.len()));
    let values: [(&str, fn(&Row) -> f64); 2] = [
        ("records/s ÷ bare device", |row| row.throughput.median),
        ("p99 ÷ bare device", |row| row.p99.median),
    ];
    for (n, (what, value)) in values.into_iter().enumerate() {
        for (m, body) in bodies.iter().enumerate() {
            let panel = Panel {
                title: format!("{what}, {body} B"),
                cells: cells.iter().filter(|cell| cell.body_bytes == *body).collect(),
                value,
            };
            let first = (n, m) == (0, 0);
            panel.draw(&areas[n * bodies.len() + m], first).map_err(|error| failed(&error))?;
        }
    }
    root.present().map_err(|error| failed(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>, legend: bool) -> Result<()> {
        let mut names: Vec<&str> = vec![OURS, BARE];
        for row in self.cells.iter().flat_map(|cell| &cell.rows) {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        let line = |name: &str| -> Vec<(f64, f64)> {
            let points = self.cells.iter().enumerate();
            points
                .filter_map(|(n, cell)| Some((n as f64, (self.value)(cell.best(name)?))))
                .collect()
        };
        let all: Vec<f64> = names.iter().flat_map(|name| line(name)).map(|(_, y)| y).collect();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min) * 0.8;
        let high = all.iter().copied().fold(0.0, f64::max) * 1.25;
        let last = self.cells.len().saturating_sub(1) as f64;
        let failed = |error: &dyn std::fmt::Display| anyhow!("the chart: {error}");
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(44)
            .build_cartesian_2d(-0.1..last + 0.1, (low..high).log_scale())
            .map_err(|error| failed(&error))?;
        let clients = |x: &f64| {
            let cell = self.cells.get(x.round() as usize);
            let on_it = (x - x.round()).abs() < 0.01;
            cell.filter(|_| on_it).map_or_else(String::new, |cell| cell.clients.to_string())
        };
        chart
            .configure_mesh()
            .x_desc("clients")
            .x_labels(self.cells.len() + 1)
            .x_label_formatter(&clients)
            .y_label_formatter(&|y| format!("{}", (y * 1000.0).round() / 1000.0))
            .light_line_style(WHITE)
            .draw()
            .map_err(|error| failed(&error))?;
        for (name, colour) in names.iter().zip(COLOURS) {
            let width = if *name == OURS { 3 } else { 1 };
            let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: width };
            chart
                .draw_series(LineSeries::new(line(name), style).point_size(3))
                .map_err(|error| failed(&error))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        if legend {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerLeft)
                .background_style(WHITE.mix(0.8))
                .label_font(("sans-serif", 11))
                .draw()
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}
