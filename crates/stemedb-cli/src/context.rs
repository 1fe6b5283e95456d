//! What every command is given: how to print, and the doors to the outside.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use stemedb_io::Env;

use crate::failure::Failure;

/// Built once by `main`.
#[derive(Debug)]
pub struct Context {
    /// Data goes out as JSON, one object a line.
    pub json: bool,
    /// Time, chance, files.
    pub env: Env,
}

impl Context {
    /// Prints data for a person. Styles are dropped where they cannot be shown.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Prints one JSON object on a line of its own.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::error("cannot write JSON").because(error))?;
        self.print(&(text + "\n"))
    }

    /// Says something to the person; never data.
    pub fn say(&self, text: &str) {
        // Nobody is told when stderr is closed, and the work goes on.
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// A progress bar on stderr if it is a terminal, else one that shows nothing. Without `total`
    /// it counts up.
    pub fn progress(&self, total: Option<u64>, unit: &str) -> ProgressBar {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => format!(
                "{{msg}} {{bar:24}} {{percent:>3}} %  {{pos}}/{{len}} {unit}  {{per_sec}}  \
                 ETA {{eta}}"
            ),
            None => format!("{{msg}} {{spinner}} {{pos}} {unit}  {{per_sec}}  {{elapsed}}"),
        };
        match ProgressStyle::with_template(&template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
