//! What is told of a drill.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::course::{Course, Step};
use crate::failure::Failure;
use crate::files;
use crate::plot::{self, Line, Panel, SeriesLabelPosition};

/// What came back, and what the node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pair {
    restored: String,
    node: String,
}

impl Pair {
    pub(super) fn of(restored: &impl ToString, node: &impl ToString) -> Self {
        Self { restored: restored.to_string(), node: node.to_string() }
    }

    pub(super) fn same(&self) -> bool {
        self.restored == self.node
    }
}

/// A drill that is over.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Which.
    pub(super) drill: &'static str,
    /// Whether what came back is what the node has.
    pub(super) same: bool,
    /// When the loss is thought to be.
    pub(super) at: String,
    pub(super) log_id: String,
    pub(super) branch: String,
    /// Where it came back from.
    pub(super) place: String,
    pub(super) backup: Option<String>,
    /// The last position that came back, and when it was recorded.
    pub(super) position: u64,
    pub(super) recorded_at: String,
    /// The newest one of the node at the loss.
    pub(super) durable: u64,
    pub(super) records: u64,
    pub(super) keys: u64,
    /// What would be lost.
    pub(super) rpo_positions: u64,
    /// How old the oldest of it was.
    pub(super) rpo_seconds: f64,
    /// From nothing to a database that answers.
    pub(super) rto_seconds: f64,
    /// What was fetched.
    pub(super) bytes: u64,
    pub(super) bytes_per_second: f64,
    pub(super) steps: Vec<Step>,
    pub(super) log_root: Pair,
    pub(super) answer_root: Pair,
    pub(super) version: &'static str,
}

impl Report {
    fn verdict(&self) -> &'static str {
        if self.same { "came back, and is the same" } else { "came back, and is NOT the same" }
    }

    fn source(&self) -> String {
        match &self.backup {
            Some(id) => format!("backup {id} at {}", self.place),
            None => format!("the archive at {}", self.place),
        }
    }

    fn rpo(&self) -> String {
        format!("{} positions, {:.1} s", self.rpo_positions, self.rpo_seconds)
    }

    fn rto(&self) -> String {
        let (bytes, rate) = (self.bytes, self.bytes_per_second / 1e6);
        format!("{:.1} s; {bytes} bytes fetched at {rate:.1} MB/s", self.rto_seconds)
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let steps: Vec<String> =
            self.steps.iter().map(|step| format!("{} {:.1} s", step.name, step.seconds)).collect();
        format!(
            "position {} of {} {}, from {}\n  RPO  {}\n  RTO  {}\n       {}\n  log root     {}\n  \
             answer root  {}\n",
            self.position,
            self.log_id,
            self.verdict(),
            self.source(),
            self.rpo(),
            self.rto(),
            steps.join(", "),
            self.log_root.restored,
            self.answer_root.restored,
        )
    }

    /// `AT-drill-NAME.md`, `.json` and `.svg` in a folder.
    pub(super) fn write(&self, dir: &Path, course: &Course) -> Result<(), Failure> {
        let name = format!("{}-drill-{}", self.at.replace(':', "-"), self.drill);
        plot::write(dir, &name, (1, 1), &[self.chart(course)])?;
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::error("cannot write JSON").because(error))?;
        files::replace(&dir.join(format!("{name}.json")), &(json + "\n"))?;
        files::replace(&dir.join(format!("{name}.md")), &self.page(&name))
    }

    fn chart(&self, course: &Course) -> Panel<'static> {
        let line = |name: &'static str, points: &[plot::Point], number| Line {
            name,
            points: points.to_vec(),
            colour: plot::colour(number),
            width: 2,
        };
        Panel {
            title: format!("drill {}: the way back", self.drill),
            across: "seconds",
            up: "part that is done",
            // A chart of no width cannot be drawn.
            x: 0.0..self.rto_seconds.max(0.001),
            y: 0.0..1.01,
            places: Vec::new(),
            diagonal: false,
            lines: vec![line("log", &course.log, 2), line("index", &course.index, 1)],
            legend: Some(SeriesLabelPosition::LowerRight),
        }
    }

    fn page(&self, name: &str) -> String {
        let mut text =
            format!("# Drill {}, {}\n\nThe database {}.\n\n", self.drill, self.at, self.verdict());
        text.push_str("| | |\n|---|---|\n");
        let came = format!("position {}, of {}", self.position, self.recorded_at);
        let pair = |pair: &Pair| match pair.same() {
            true => format!("`{}`, as the node's", pair.restored),
            false => format!("`{}`; the node has `{}`", pair.restored, pair.node),
        };
        for (what, is) in [
            ("database", format!("`{}`, branch `{}`", self.log_id, self.branch)),
            ("from", self.source()),
            ("up to", came),
            ("records, keys", format!("{}, {}", self.records, self.keys)),
            ("the node was at", format!("position {}", self.durable)),
            ("RPO", self.rpo()),
            ("RTO", self.rto()),
            ("log root", pair(&self.log_root)),
            ("answer root", pair(&self.answer_root)),
            ("version", self.version.to_owned()),
        ] {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "| {what} | {is} |");
        }
        text.push_str("\n| step | seconds |\n|---|---:|\n");
        for step in &self.steps {
            let _ = writeln!(text, "| {} | {:.2} |", step.name, step.seconds);
        }
        let _ = writeln!(text, "\n![How far it was, by seconds]({name}.svg)");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stemedb_io::sim::SimClock;

    use super::*;

    fn report(node: &str) -> Report {
        Report {
            drill: "restore",
            same: node == "a",
            at: "2026-01-01T00:00:00Z".into(),
            log_id: "1".into(),
            branch: "2".into(),
            place: "/mnt/archive".into(),
            backup: None,
            position: 7,
            recorded_at: "2026-01-01T00:00:00Z".into(),
            durable: 9,
            records: 7,
            keys: 3,
            rpo_positions: 2,
            rpo_seconds: 1.5,
            rto_seconds: 4.0,
            bytes: 8_000_000,
            bytes_per_second: 4e6,
            steps: vec![Step { name: "fetch", seconds: 2.0 }],
            log_root: Pair::of(&"a", &node),
            answer_root: Pair::of(&"b", &"b"),
            version: "1",
        }
    }

    #[test]
    fn a_page_a_chart_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let mut course = Course::begin(Arc::new(SimClock::new(0)));
        course.log(0.5);
        report("a").write(dir.path(), &course).unwrap();
        let read = |ending: &str| {
            let name = format!("2026-01-01T00-00-00Z-drill-restore.{ending}");
            files::read_text(&dir.path().join(name)).unwrap()
        };
        let page = read("md");
        assert!(page.contains("| RPO | 2 positions, 1.5 s |"), "{page}");
        assert!(page.contains("8000000 bytes fetched at 4.0 MB/s"), "{page}");
        assert!(page.contains("(2026-01-01T00-00-00Z-drill-restore.svg)"), "{page}");
        assert!(read("svg").contains("the way back"));
        let json: serde_json::Value = serde_json::from_str(&read("json")).unwrap();
        assert_eq!((&json["same"], &json["rto_seconds"]), (&true.into(), &4.0.into()));
    }

    #[test]
    fn what_differs_is_said() {
        let text = report("x").text();
        assert!(text.contains("is NOT the same"), "{text}");
        assert!(report("x").page("n").contains("`a`; the node has `x`"));
    }
}
