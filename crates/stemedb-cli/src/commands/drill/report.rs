//! What is told of a drill.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::course::{Course, Step};
use super::failover::Watched;
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

    fn text(&self) -> String {
        match self.same() {
            true => format!("`{}`, as the node's", self.restored),
            false => format!("`{}`; the node has `{}`", self.restored, self.node),
        }
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
        format!(
            "position {} of {} {}, from {}\n  RPO  {}\n  RTO  {}\n       {}\n  log root     {}\n  \
             answer root  {}\n",
            self.position,
            self.log_id,
            self.verdict(),
            self.source(),
            self.rpo(),
            self.rto(),
            steps(&self.steps),
            self.log_root.restored,
            self.answer_root.restored,
        )
    }

    /// `AT-drill-NAME.md`, `.json` and `.svg` in a folder.
    pub(super) fn write(&self, dir: &Path, course: &Course) -> Result<(), Failure> {
        let name = file_name(&self.at, self.drill);
        write(dir, &name, self, &self.page(&name), self.chart(course))
    }

    fn chart(&self, course: &Course) -> Panel<'static> {
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
        let title = format!("Drill {}, {}", self.drill, self.at);
        let came = format!("position {}, of {}", self.position, self.recorded_at);
        let facts = [
            ("database", format!("`{}`, branch `{}`", self.log_id, self.branch)),
            ("from", self.source()),
            ("up to", came),
            ("records, keys", format!("{}, {}", self.records, self.keys)),
            ("the node was at", format!("position {}", self.durable)),
            ("RPO", self.rpo()),
            ("RTO", self.rto()),
            ("log root", self.log_root.text()),
            ("answer root", self.answer_root.text()),
            ("version", self.version.to_owned()),
        ];
        let verdict = format!("The database {}.", self.verdict());
        page(&title, &verdict, &facts, &self.steps, name)
    }
}

/// A drill of a failover that is over.
#[derive(Debug, Serialize)]
pub(super) struct Failover {
    /// Which drill.
    pub(super) drill: &'static str,
    /// Whether what took over is what the node has.
    pub(super) same: bool,
    /// When the loss is thought to be.
    pub(super) at: String,
    pub(super) log_id: String,
    pub(super) branch: String,
    /// The archive that was followed.
    pub(super) place: String,
    /// The last position of the standby.
    pub(super) position: u64,
    /// The newest one of the node at the loss.
    pub(super) durable: u64,
    pub(super) keys: u64,
    /// What would be lost.
    pub(super) rpo_positions: u64,
    /// How old the oldest of it was.
    pub(super) rpo_seconds: f64,
    /// From the order to promote to a database that takes writes.
    pub(super) rto_seconds: f64,
    /// Part of that: not measured, but as it is set. None: the node keeps no lease.
    pub(super) lease_seconds: Option<f64>,
    pub(super) skew_seconds: f64,
    /// How long the standby was watched, and how much was written meanwhile.
    pub(super) watched_seconds: f64,
    pub(super) written: u64,
    /// The most that it was behind.
    pub(super) lag_positions_max: u64,
    pub(super) lag_seconds_max: f64,
    /// From nothing to a standby that follows.
    pub(super) follow_seconds: f64,
    pub(super) steps: Vec<Step>,
    pub(super) log_root: Pair,
    pub(super) answer_root: Pair,
    pub(super) version: &'static str,
}

impl Failover {
    fn verdict(&self) -> &'static str {
        if self.same { "took over, and is the same" } else { "took over, and is NOT the same" }
    }

    fn rpo(&self) -> String {
        format!("{} positions, {:.1} s", self.rpo_positions, self.rpo_seconds)
    }

    fn lag(&self) -> String {
        format!(
            "at most {} positions and {:.1} s, in {:.0} s in which {} were written",
            self.lag_positions_max, self.lag_seconds_max, self.watched_seconds, self.written
        )
    }

    fn rto(&self) -> String {
        let waits = match self.lease_seconds {
            Some(lease) => {
                format!("lease {lease:.1} s and skew {:.1} s as they are set", self.skew_seconds)
            }
            None => "no lease: somebody has to see that the primary is off".to_owned(),
        };
        format!("{:.1} s; {waits}", self.rto_seconds)
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        format!(
            "a standby {} at position {} of {}, from the archive at {}\n  RPO  {}\n  lag  {}\n  RTO  {}\n       \
             {}\n  log root     {}\n  answer root  {}\n",
            self.verdict(),
            self.position,
            self.log_id,
            self.place,
            self.rpo(),
            self.lag(),
            self.rto(),
            steps(&self.steps),
            self.log_root.restored,
            self.answer_root.restored,
        )
    }

    /// As that of the other drills.
    pub(super) fn write(&self, dir: &Path, watched: &Watched) -> Result<(), Failure> {
        let name = file_name(&self.at, self.drill);
        write(dir, &name, self, &self.page(&name), self.chart(watched))
    }

    fn chart(&self, watched: &Watched) -> Panel<'static> {
        let positions =
            || watched.node.iter().chain(&watched.standby).map(|(_, position)| *position);
        let (least, most) =
            (positions().fold(f64::MAX, f64::min), positions().fold(f64::MIN, f64::max));
        Panel {
            title: "drill failover: how far node and standby were".into(),
            across: "seconds",
            up: "position",
            // A chart of no width or height cannot be drawn.
            x: 0.0..self.watched_seconds.max(0.001),
            y: least..most.max(least + 1.0),
            places: Vec::new(),
            diagonal: false,
            lines: vec![line("node", &watched.node, 2), line("standby", &watched.standby, 1)],
            legend: Some(SeriesLabelPosition::LowerRight),
        }
    }

    fn page(&self, name: &str) -> String {
        let facts = [
            ("database", format!("`{}`, branch `{}`", self.log_id, self.branch)),
            ("from", format!("the archive at {}", self.place)),
            ("up to", format!("position {}", self.position)),
            ("keys", self.keys.to_string()),
            ("the node was at", format!("position {}", self.durable)),
            ("RPO", self.rpo()),
            ("behind", self.lag()),
            ("RTO", self.rto()),
            ("a standby from nothing", format!("{:.1} s", self.follow_seconds)),
            ("log root", self.log_root.text()),
            ("answer root", self.answer_root.text()),
            ("version", self.version.to_owned()),
        ];
        let title = format!("Drill {}, {}", self.drill, self.at);
        let verdict = format!("A standby {}.", self.verdict());
        page(&title, &verdict, &facts, &self.steps, name)
    }
}

fn file_name(at: &str, drill: &str) -> String {
    format!("{}-drill-{drill}", at.replace(':', "-"))
}

fn write(
    dir: &Path,
    name: &str,
    report: &impl Serialize,
    page: &str,
    chart: Panel<'_>,
) -> Result<(), Failure> {
    plot::write(dir, name, (1, 1), &[chart])?;
    let json = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::error("cannot write JSON").because(error))?;
    files::replace(&dir.join(format!("{name}.json")), &(json + "\n"))?;
    files::replace(&dir.join(format!("{name}.md")), page)
}

fn line(name: &'static str, points: &[plot::Point], number: usize) -> Line<'static> {
    Line { name, points: points.to_vec(), colour: plot::colour(number), width: 2 }
}

fn steps(steps: &[Step]) -> String {
    let steps: Vec<String> =
        steps.iter().map(|step| format!("{} {:.1} s", step.name, step.seconds)).collect();
    steps.join(", ")
}

fn page(
    title: &str,
    verdict: &str,
    facts: &[(&str, String)],
    steps: &[Step],
    name: &str,
) -> String {
    let mut text = format!("# {title}\n\n{verdict}\n\n| | |\n|---|---|\n");
    for (what, is) in facts {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| {what} | {is} |");
    }
    text.push_str("\n| step | seconds |\n|---|---:|\n");
    for step in steps {
        let _ = writeln!(text, "| {} | {:.2} |", step.name, step.seconds);
    }
    let _ = writeln!(text, "\n![How far it was, by seconds]({name}.svg)");
    text
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

    fn failover(lease_seconds: Option<f64>) -> Failover {
        Failover {
            drill: "failover",
            same: true,
            at: "2026-01-01T00:00:00Z".into(),
            log_id: "1".into(),
            branch: "2".into(),
            place: "/mnt/archive".into(),
            position: 7,
            durable: 9,
            keys: 3,
            rpo_positions: 2,
            rpo_seconds: 1.5,
            rto_seconds: 14.0,
            lease_seconds,
            skew_seconds: 2.0,
            watched_seconds: 10.0,
            written: 5,
            lag_positions_max: 4,
            lag_seconds_max: 2.5,
            follow_seconds: 3.0,
            steps: vec![Step { name: "look", seconds: 2.0 }],
            log_root: Pair::of(&"a", &"a"),
            answer_root: Pair::of(&"b", &"b"),
            version: "1",
        }
    }

    #[test]
    fn a_failover_says_what_is_measured_and_what_is_set() {
        let dir = tempfile::tempdir().unwrap();
        // Also where nobody wrote, and all is one line.
        for node in [vec![(0.0, 7.0), (1.0, 9.0)], vec![(0.0, 7.0)]] {
            let watched = Watched { standby: vec![(0.0, 7.0)], node, ..Watched::default() };
            failover(Some(10.0)).write(dir.path(), &watched).unwrap();
        }
        let name = dir.path().join("2026-01-01T00-00-00Z-drill-failover.md");
        let page = files::read_text(&name).unwrap();
        assert!(
            page.contains("| RTO | 14.0 s; lease 10.0 s and skew 2.0 s as they are set |"),
            "{page}"
        );
        assert!(page.contains("| behind | at most 4 positions and 2.5 s, in 10 s"), "{page}");
        let text = failover(None).text();
        assert!(text.contains("no lease: somebody has to see"), "{text}");
    }

    #[test]
    fn what_differs_is_said() {
        let text = report("x").text();
        assert!(text.contains("is NOT the same"), "{text}");
        assert!(report("x").page("n").contains("`a`; the node has `x`"));
    }
}
