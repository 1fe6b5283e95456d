//! Charts of lines, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::failure::Failure;
use crate::files;

pub use plotters::prelude::SeriesLabelPosition;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 400;

/// Of colours that stay apart for most eyes (Okabe and Ito), one by its number.
pub fn colour(number: usize) -> RGBColor {
    const COLOURS: [RGBColor; 8] = [
        RGBColor(0, 0, 0),
        RGBColor(213, 94, 0),
        RGBColor(0, 114, 178),
        RGBColor(86, 180, 233),
        RGBColor(204, 121, 167),
        RGBColor(0, 158, 115),
        RGBColor(230, 159, 0),
        RGBColor(120, 120, 120),
    ];
    COLOURS.get(number % COLOURS.len()).copied().unwrap_or(BLACK)
}

/// A place in a panel, across and up.
pub type Point = (f64, f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a panel.
pub struct Line<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Where it goes.
    pub points: Vec<Point>,
    /// Its colour.
    pub colour: RGBColor,
    /// How thick it is.
    pub width: u32,
}

/// One chart of a picture.
pub struct Panel<'a> {
    /// What it shows.
    pub title: String,
    /// What its axes are.
    pub across: &'a str,
    /// See `across`.
    pub up: &'a str,
    /// From where to where they go.
    pub x: std::ops::Range<f64>,
    /// See `x`.
    pub y: std::ops::Range<f64>,
    /// Names of the places on the horizontal axis, if they are no numbers.
    pub places: Vec<String>,
    /// From corner to corner, to compare with.
    pub diagonal: bool,
    /// What is drawn.
    pub lines: Vec<Line<'a>>,
    /// Where the names of the lines are, if they are told.
    pub legend: Option<SeriesLabelPosition>,
}

/// Draws panels side by side and below each other into `NAME.svg` in `folder`.
pub fn write(
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
            let (color, stroke_width) = (line.colour.to_rgba(), line.width);
            let style = ShapeStyle { color, filled: true, stroke_width };
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
