//! What the read commands have in common: which records count, and as of when.

use clap::Args;

use crate::remote::RemoteArgs;
use crate::time;

/// Names of the built-in lenses.
pub const LENSES: [&str; 8] =
    ["recency", "consensus", "confidence", "authority", "trust", "votes", "skeptic", "layered"];

/// Filters and times of a read.
#[derive(Debug, Clone, Args)]
pub struct ReadArgs {
    /// The namespace.
    #[arg(
        long,
        env = "STEMEDB_SPACE",
        hide_env_values = true,
        default_value = "default",
        help_heading = "Read"
    )]
    pub space: String,
    /// As the database would have answered then: a position, an answer's snapshot, or a time.
    #[arg(long, value_name = "WHEN", value_parser = when, help_heading = "Read")]
    pub as_of: Option<String>,
    /// Keep only what was claimed before this time.
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Read")]
    pub asserted_before: Option<String>,
    /// Judge validity in the world at this time.
    #[arg(long, value_name = "TIME", value_parser = moment, help_heading = "Read")]
    pub valid_at: Option<String>,
    /// Wait until this position is readable.
    #[arg(long, value_name = "POSITION", help_heading = "Read")]
    pub at_least: Option<String>,
    /// Only claims of this agent.
    #[arg(long, value_name = "PUBLIC_KEY", help_heading = "Read")]
    pub agent: Option<String>,
    /// Only claims of this source.
    #[arg(long, value_name = "URI", help_heading = "Read")]
    pub source: Option<String>,
    /// Only claims in these states, with commas between.
    #[arg(long, value_name = "STATES", help_heading = "Read")]
    pub lifecycle: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Options of a lens.
#[derive(Debug, Clone, Default, Args)]
pub struct LensArgs {
    /// How weights fade: off, per_class, or a half-life in milliseconds.
    #[arg(long, help_heading = "Lens")]
    pub decay: Option<String>,
    /// Only claims at least this certain.
    #[arg(long, value_name = "0..1", help_heading = "Lens")]
    pub min_confidence: Option<f64>,
    /// Only claims of these tiers, 0 to 5, with commas between.
    #[arg(long, help_heading = "Lens")]
    pub tiers: Option<String>,
    /// Claims of replaced epochs count too.
    #[arg(long, help_heading = "Lens")]
    pub all_epochs: bool,
    /// With too many claims say so and name no winner, instead of failing.
    #[arg(long, help_heading = "Lens")]
    pub partial: bool,
}

fn moment(text: &str) -> Result<String, String> {
    time::parse(text).map(time::format)
}

/// A position, a snapshot or a time, as the server takes it: a day is its midnight, anything else is
/// for the server to judge. A number is a position, never milliseconds.
pub fn when(text: &str) -> Result<String, std::convert::Infallible> {
    let day = text.contains('-').then(|| moment(text).ok()).flatten();
    Ok(day.unwrap_or_else(|| text.to_owned()))
}

/// A URL's parameters.
pub type Parameters = Vec<(&'static str, String)>;

impl ReadArgs {
    /// As parameters of a URL.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Vec::new();
        if self.space != "default" {
            parameters.push(("space", self.space.clone()));
        }
        for (name, value) in [
            ("as_of", &self.as_of),
            ("asserted_before", &self.asserted_before),
            ("valid_at", &self.valid_at),
            ("at_least", &self.at_least),
            ("agent", &self.agent),
            ("source", &self.source),
            ("lifecycle", &self.lifecycle),
        ] {
            if let Some(value) = value {
                parameters.push((name, value.clone()));
            }
        }
        parameters
    }
}

impl LensArgs {
    /// As parameters of a URL.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Vec::new();
        let mut put = |name, value: Option<String>| {
            if let Some(value) = value {
                parameters.push((name, value));
            }
        };
        put("decay", self.decay.clone());
        put("min_confidence", self.min_confidence.map(|value| value.to_string()));
        put("tiers", self.tiers.clone());
        put("epoch_aware", self.all_epochs.then(|| "false".to_owned()));
        put("partial", self.partial.then(|| "true".to_owned()));
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::when;

    #[test]
    fn a_day_is_a_time_and_a_number_a_position() {
        for (text, expected) in [
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("2026-01-01T12:00:00+02:00", "2026-01-01T10:00:00Z"),
            ("1207", "1207"),
            (
                "76239aa418abf333d39c779b8c747dfb000000000000000d",
                "76239aa418abf333d39c779b8c747dfb000000000000000d",
            ),
            ("2026-13-01", "2026-13-01"),
        ] {
            assert_eq!(when(text).unwrap(), expected);
        }
    }
}
