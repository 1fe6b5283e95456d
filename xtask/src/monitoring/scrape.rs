//! What a server exports, in the text form that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

/// Labels of one series.
pub(crate) type Labels = BTreeMap<String, String>;

/// How the numbers of a series are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A metric as its `HELP` and `TYPE` lines tell it.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) kind: Kind,
    pub(crate) help: String,
}

/// One scrape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    pub(crate) families: BTreeMap<String, Family>,
    /// By the name of the series: a histogram has three.
    series: BTreeMap<String, Vec<Labels>>,
}

impl Scrape {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self::default();
        let mut helps = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or((help, ""));
                helps.insert(name.to_owned(), help.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a type without a kind")?;
                let kind = match kind {
                    "counter" => Kind::Counter,
                    "gauge" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    "summary" => Kind::Summary,
                    other => bail!("{name} is a {other}, which is none of the four kinds"),
                };
                let help = helps.get(name).cloned().unwrap_or_default();
                if scrape.families.insert(name.to_owned(), Family { kind, help }).is_some() {
                    bail!("{name} is announced twice");
                }
            } else if !line.starts_with('#') {
                let (name, labels) =
                    series(line).with_context(|| format!("not a series: {line}"))?;
                let all = scrape.series.entry(name.clone()).or_default();
                if all.contains(&labels) {
                    bail!("{name} {labels:?} is exported twice");
                }
                all.push(labels);
            }
        }
        Ok(scrape)
    }

    /// Adds series that Prometheus makes by itself.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, series: Vec<Labels>) {
        self.families.insert(name.to_owned(), Family { kind, help: String::new() });
        self.series.insert(name.to_owned(), series);
    }

    /// Adds what another server exports and this one does not.
    pub(crate) fn add_all(&mut self, other: Self) {
        for (name, family) in other.families {
            self.families.entry(name).or_insert(family);
        }
        for (name, series) in other.series {
            let all = self.series.entry(name).or_default();
            all.extend(series.into_iter().filter(|one| !all.contains(one)).collect::<Vec<_>>());
        }
    }

    /// Every label set under this name; empty if there is none.
    pub(crate) fn series(&self, name: &str) -> &[Labels] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// The metric that a series belongs to, and what the series' own numbers are.
    pub(crate) fn kind_of_series(&self, name: &str) -> Option<Kind> {
        if let Some(family) = self.families.get(name) {
            // The bare name of a summary is that of its quantiles, which go up and down.
            return Some(match family.kind {
                Kind::Summary => Kind::Gauge,
                other => other,
            });
        }
        let parts =
            [("_bucket", Kind::Histogram), ("_sum", Kind::Counter), ("_count", Kind::Counter)];
        parts.into_iter().find_map(|(suffix, kind)| {
            let family = self.families.get(name.strip_suffix(suffix)?)?;
            match family.kind {
                Kind::Histogram => Some(kind),
                Kind::Summary if suffix != "_bucket" => Some(kind),
                _ => None,
            }
        })
    }

    /// Labels of a metric, without those that its kind brings.
    pub(crate) fn labels_of_family(&self, name: &str) -> BTreeSet<&str> {
        let names = ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        let series = names.iter().flat_map(|name| self.series(name));
        let labels = series.flat_map(|labels| labels.keys().map(String::as_str));
        labels.filter(|label| !matches!(*label, "le" | "quantile")).collect()
    }
}

/// Name and labels of a line.
fn series(line: &str) -> Option<(String, Labels)> {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, _) = line.split_once(' ')?;
        return Some((name.to_owned(), Labels::new()));
    };
    let mut labels = Labels::new();
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if rest.starts_with('}') {
            return Some((name.to_owned(), labels));
        }
        let (label, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        loop {
            match characters.next()? {
                (at, '"') => {
                    rest = after.get(at + 1..)?;
                    break;
                }
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        }
        labels.insert(label.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_total what a is\n# TYPE a_total counter\n\
        a_total{path=\"/x\",said=\"a \\\"b\\\" {c}, d\"} 1\na_total{path=\"/y\"} 0\n\
        # TYPE h_seconds histogram\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 1\n\
        h_seconds_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 1\n";

    #[test]
    fn names_kinds_and_labels() {
        let scrape = Scrape::parse(TEXT).unwrap();
        assert_eq!(scrape.families["a_total"].help, "what a is");
        assert_eq!(scrape.series("a_total")[0]["said"], "a \"b\" {c}, d");
        assert_eq!(scrape.labels_of_family("a_total"), BTreeSet::from(["path", "said"]));
        let kinds = ["a_total", "h_seconds", "h_seconds_bucket", "h_seconds_sum", "s", "s_count"];
        let kinds = kinds.map(|name| scrape.kind_of_series(name));
        let [a, h, bucket, sum, s, count] = kinds.map(Option::unwrap);
        assert_eq!((a, h, bucket), (Kind::Counter, Kind::Histogram, Kind::Histogram));
        assert_eq!((sum, s, count), (Kind::Counter, Kind::Gauge, Kind::Counter));
        assert_eq!(scrape.kind_of_series("s_bucket"), None);
        assert_eq!(scrape.kind_of_series("a"), None);
    }

    #[test]
    fn what_two_servers_export_is_there_once() {
        let mut scrape = Scrape::parse("# TYPE a gauge\na{x=\"1\"} 1\n").unwrap();
        let other = "# TYPE a gauge\na{x=\"1\"} 0\na{x=\"2\"} 0\n# TYPE b gauge\nb 1\n";
        scrape.add_all(Scrape::parse(other).unwrap());
        assert_eq!((scrape.series("a").len(), scrape.series("b").len()), (2, 1));
        assert_eq!(scrape.families.len(), 2);
    }

    #[test]
    fn what_is_twice_is_refused() {
        assert!(Scrape::parse("a{x=\"1\"} 1\na{x=\"1\"} 2\n").is_err());
        assert!(Scrape::parse("# TYPE a gauge\n# TYPE a gauge\n").is_err());
        assert!(Scrape::parse("a{x=\"1} 1\n").is_err());
    }
}
