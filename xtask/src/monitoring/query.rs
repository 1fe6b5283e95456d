//! Queries held against a scrape: every metric, label and value in them must be there, and each
//! function must be given the kind of numbers that it is for.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Call, Expr, LabelModifier, VectorSelector};

use super::scrape::{Kind, Scrape};

/// Labels that Prometheus gives every series that it scrapes.
const OF_TARGET: [&str; 2] = ["instance", "job"];
/// What may be done with counters only.
const OF_COUNTERS: [&str; 4] = ["increase", "irate", "rate", "resets"];
/// What may be done with gauges only.
const OF_GAUGES: [&str; 6] =
    ["avg_over_time", "delta", "deriv", "idelta", "max_over_time", "predict_linear"];

/// What queries are held against.
pub(crate) struct World {
    pub(crate) scrape: Scrape,
    /// The name of the scrape job.
    pub(crate) job: String,
}

/// A query that was looked at.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) problems: Vec<String>,
    /// Labels that its result may have.
    pub(crate) labels: BTreeSet<String>,
}

impl World {
    /// Looks at a query.
    pub(crate) fn look(&self, text: &str) -> Looked {
        match parser::parse(text) {
            Ok(expression) => {
                let mut problems = Vec::new();
                let labels = self.walk(&expression, None, &mut problems);
                Looked { problems, labels }
            }
            Err(error) => Looked {
                problems: vec![format!("it is not a query: {error}")],
                ..Looked::default()
            },
        }
    }

    /// Looks at a series as a test of rules names it: the metric must exist, and each label with
    /// this value. Names of nodes and jobs are free.
    pub(crate) fn look_at_series(&self, text: &str) -> Vec<String> {
        let Ok(Expr::VectorSelector(selector)) = parser::parse(text) else {
            return vec![format!("{text} is not a series")];
        };
        let mut problems = Vec::new();
        let mut selector = selector;
        let name = selector.name.clone().unwrap_or_default();
        if self.scrape.series(&name).is_empty() {
            return vec![format!("the server exports no {name}")];
        }
        selector.matchers.matchers.retain(|one| !OF_TARGET.contains(&one.name.as_str()));
        self.selector(&selector, &mut problems);
        problems
    }

    /// Labels of the result.
    fn walk(
        &self,
        expression: &Expr,
        function: Option<&str>,
        problems: &mut Vec<String>,
    ) -> BTreeSet<String> {
        match expression {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => BTreeSet::new(),
            Expr::Paren(inner) => self.walk(&inner.expr, function, problems),
            Expr::Unary(inner) => self.walk(&inner.expr, function, problems),
            Expr::Subquery(inner) => self.walk(&inner.expr, None, problems),
            Expr::VectorSelector(selector) => {
                self.kind(selector, function, problems);
                self.selector(selector, problems)
            }
            Expr::MatrixSelector(matrix) => {
                self.kind(&matrix.vs, function, problems);
                self.selector(&matrix.vs, problems)
            }
            Expr::Call(call) => self.call(call, problems),
            Expr::Aggregate(aggregate) => {
                let inner = self.walk(&aggregate.expr, None, problems);
                match &aggregate.modifier {
                    None => BTreeSet::new(),
                    Some(LabelModifier::Include(labels)) => {
                        labels_are_there(&labels.labels, &inner, problems);
                        labels.labels.iter().cloned().collect()
                    }
                    Some(LabelModifier::Exclude(labels)) => {
                        labels_are_there(&labels.labels, &inner, problems);
                        inner.into_iter().filter(|one| !labels.labels.contains(one)).collect()
                    }
                }
            }
            Expr::Binary(binary) => {
                let left = self.walk(&binary.lhs, None, problems);
                let right = self.walk(&binary.rhs, None, problems);
                let matching = binary.modifier.as_ref().and_then(|one| one.matching.as_ref());
                if let Some(matching) = matching {
                    for side in [&left, &right] {
                        labels_are_there(&matching.labels().labels, side, problems);
                    }
                }
                left.union(&right).cloned().collect()
            }
        }
    }

    fn call(&self, call: &Call, problems: &mut Vec<String>) -> BTreeSet<String> {
        let name = call.func.name;
        let mut labels = BTreeSet::new();
        for argument in &call.args.args {
            labels.extend(self.walk(argument, Some(name), problems));
        }
        let text = |at: usize| match call.args.args.get(at).map(|argument| &**argument) {
            Some(Expr::StringLiteral(literal)) => literal.val.clone(),
            _ => String::new(),
        };
        match name {
            "histogram_quantile" => {
                if !labels.remove("le") {
                    problems.push("histogram_quantile needs the label le".into());
                }
                if let Some(argument) = call.args.args.get(1) {
                    self.buckets_only(argument, problems);
                }
            }
            "label_replace" => {
                labels_are_there(&[text(3)], &labels, problems);
                labels.insert(text(1));
            }
            _ => {}
        }
        labels
    }

    fn buckets_only(&self, expression: &Expr, problems: &mut Vec<String>) {
        match expression {
            Expr::Aggregate(inner) => self.buckets_only(&inner.expr, problems),
            Expr::Paren(inner) => self.buckets_only(&inner.expr, problems),
            Expr::Call(call) => {
                call.args.args.iter().for_each(|one| self.buckets_only(one, problems));
            }
            Expr::MatrixSelector(matrix) => {
                let name = matrix.vs.name.clone().unwrap_or_default();
                if !name.ends_with("_bucket") {
                    problems.push(format!("histogram_quantile takes buckets, not {name}"));
                }
            }
            _ => problems.push("histogram_quantile takes rates of buckets".into()),
        }
    }

    /// Whether the function may be given these numbers.
    fn kind(&self, selector: &VectorSelector, function: Option<&str>, problems: &mut Vec<String>) {
        let (Some(name), Some(function)) = (&selector.name, function) else { return };
        let Some(kind) = self.scrape.kind_of_series(name) else { return };
        let counts = matches!(kind, Kind::Counter | Kind::Histogram);
        if OF_COUNTERS.contains(&function) && !counts
            || OF_GAUGES.contains(&function) && kind != Kind::Gauge
        {
            problems.push(format!("{function} of {name}, which is a {}", kind.as_str()));
        }
    }

    /// Labels of what it selects.
    fn selector(&self, selector: &VectorSelector, problems: &mut Vec<String>) -> BTreeSet<String> {
        let mut labels: BTreeSet<String> = OF_TARGET.map(str::to_owned).into();
        let Some(name) = &selector.name else {
            problems.push("a selector without the name of a metric".into());
            return labels;
        };
        let all = self.scrape.series(name);
        if all.is_empty() {
            problems.push(match self.scrape.families.get(name) {
                Some(family) => format!("{name} is a {}, and has no series", family.kind.as_str()),
                None => format!("the server exports no {name}"),
            });
            return labels;
        }
        labels.extend(all.iter().flat_map(|one| one.keys().cloned()));
        if !selector.matchers.or_matchers.is_empty() {
            problems.push(format!("{name}: alternatives of matchers are not checked here"));
        }
        for matcher in &selector.matchers.matchers {
            self.matcher(name, matcher, problems);
        }
        let ours = |matcher: &&Matcher| !OF_TARGET.contains(&matcher.name.as_str());
        let matchers: Vec<&Matcher> = selector.matchers.matchers.iter().filter(ours).collect();
        let matches = |series: &super::scrape::Labels| {
            matchers
                .iter()
                .all(|one| one.is_match(series.get(&one.name).map_or("", String::as_str)))
        };
        if !all.iter().any(matches) && problems.is_empty() {
            problems.push(format!("{name}: no series has all these labels together"));
        }
        labels
    }

    fn matcher(&self, name: &str, matcher: &Matcher, problems: &mut Vec<String>) {
        let label = matcher.name.as_str();
        if label == "instance" {
            return;
        }
        let values: BTreeSet<&str> = if label == "job" {
            BTreeSet::from([self.job.as_str()])
        } else {
            let all = self.scrape.series(name).iter();
            all.filter_map(|series| series.get(label).map(String::as_str)).collect()
        };
        if values.is_empty() {
            problems.push(format!("{name} has no label {label}"));
            return;
        }
        // What is excluded must be there, too: a misspelt exclusion excludes nothing.
        match &matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => {
                if !values.contains(matcher.value.as_str()) {
                    problems.push(format!("{name} has no {label}=\"{}\"", matcher.value));
                }
            }
            MatchOp::Re(_) | MatchOp::NotRe(_) => {
                for alternative in alternatives(&matcher.value) {
                    let alone = Matcher::new_matcher(
                        parser::token::T_EQL_REGEX,
                        label.to_owned(),
                        alternative.to_owned(),
                    );
                    let found =
                        alone.is_ok_and(|alone| values.iter().any(|value| alone.is_match(value)));
                    if !found {
                        problems.push(format!("{name}: no {label} matches {alternative:?}"));
                    }
                }
            }
        }
    }
}

/// The parts of a regular expression that is a choice of words; else the whole.
fn alternatives(pattern: &str) -> Vec<&str> {
    if pattern.contains(['(', '[', '\\']) { vec![pattern] } else { pattern.split('|').collect() }
}

fn labels_are_there(wanted: &[String], there: &BTreeSet<String>, problems: &mut Vec<String>) {
    for label in wanted.iter().filter(|label| !there.contains(*label)) {
        problems.push(format!("there is no label {label} to group or match by"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let text = "# TYPE a_total counter\na_total{status=\"200\",path=\"/x\"} 1\n\
            a_total{status=\"503\",path=\"/y\"} 1\n# TYPE g gauge\ng 1\n# TYPE h histogram\n\
            h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n# TYPE s summary\ns{quantile=\"0.99\"} 1\n";
        World { scrape: Scrape::parse(text).unwrap(), job: "stemedb".into() }
    }

    #[test]
    fn what_is_there_is_taken() {
        for query in [
            "sum by (job, status) (rate(a_total{status=~\"2..|5..\", job=\"stemedb\"}[5m])) > 0.1",
            "histogram_quantile(0.99, sum by (le) (rate(h_bucket[5m])))",
            "predict_linear(g[1h], 24 * 3600) < 0 and g / g < 0.5",
            "s{quantile=\"0.99\"} > 0.1 or absent(g)",
            "sum by (to) (label_replace(a_total, \"to\", \"$1\", \"path\", \"(.+)\"))",
            "rate(h_sum[5m]) / rate(h_count[5m])",
        ] {
            assert_eq!(world().look(query).problems, Vec::<String>::new(), "{query}");
        }
        let labels = world().look("sum by (status) (rate(a_total[5m]))").labels;
        assert_eq!(labels, BTreeSet::from(["status".to_owned()]));
    }

    #[test]
    fn what_is_not_there_is_named() {
        for (query, problem) in [
            ("rate(b_total[5m])", "exports no b_total"),
            ("h > 1", "h is a histogram, and has no series"),
            ("a_total{state=\"ok\"}", "no label state"),
            ("a_total{status=\"404\"}", "no status=\"404\""),
            ("a_total{status!=\"404\"}", "no status=\"404\""),
            ("a_total{status=~\"2..|4..\"}", "no status matches \"4..\""),
            ("a_total{path!~\"/x|/z\"}", "no path matches \"/z\""),
            ("a_total{status=\"200\", path=\"/y\"}", "together"),
            ("a_total{job=\"stemdb\"}", "no job=\"stemdb\""),
            ("sum by (method) (a_total)", "no label method"),
            ("a_total / on (method) a_total", "no label method"),
            ("rate(g[5m])", "rate of g, which is a gauge"),
            ("predict_linear(a_total[1h], 60)", "which is a counter"),
            ("histogram_quantile(0.9, sum by (job) (rate(h_bucket[5m])))", "label le"),
            ("histogram_quantile(0.9, rate(a_total[5m]))", "takes buckets, not a_total"),
            ("label_replace(g, \"to\", \"$1\", \"path\", \"(.+)\")", "no label path"),
            ("{job=\"stemedb\"}", "without the name"),
            ("rate(a_total)", "not a query"),
        ] {
            let problems = world().look(query).problems.join("; ");
            assert!(problems.contains(problem), "{query}: {problems:?}");
        }
    }

    #[test]
    fn series_of_tests() {
        let world = world();
        let good = "a_total{job=\"x\", instance=\"a:1\", status=\"503\"}";
        assert_eq!(world.look_at_series(good), Vec::<String>::new());
        for bad in ["b_total", "a_total{status=\"500\"}", "h_bucket{le=\"2\"}", "a_total + 1"] {
            assert_ne!(world.look_at_series(bad), Vec::<String>::new(), "{bad}");
        }
    }
}
