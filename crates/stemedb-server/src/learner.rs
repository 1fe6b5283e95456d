//! Learns whom to trust in the background, and puts what was learned in force.
//!
//! Only in the default space, where the key by which the node signs is registered, and only if that
//! key may: with the role `trust` or `registrar`.

use std::sync::Arc;
use std::time::Duration;

use stemedb_engine::{Submission, View};
use stemedb_model::{Body, Position, Record, Role, Signed, SigningKey, Space};

use crate::app::App;

/// Fewer new records than this change little...
const NEW_MIN: u64 = 1_000;
/// ... and so does less than a twentieth of all.
const NEW_PART: u64 = 20;

/// Looks every `trust.learn_every` whether there is enough that is new, for as long as it is polled.
pub(crate) async fn run(app: Arc<App>) {
    let may = |role: &Role| matches!(role, Role::Trust | Role::Registrar);
    let Some(every) = app.config.learn_every else { return };
    // What a standby learns, nobody may put in force.
    if app.replica.is_some() {
        return;
    }
    if app.custodial.is_none() || !app.config.signing.roles.iter().any(may) {
        return;
    }
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = learn(&app).await {
            tracing::warn!("whom to trust was not learned again: {error}");
        }
    }
}

async fn learn(app: &Arc<App>) -> Result<(), String> {
    let view =
        app.engine.view(Position::NONE, Duration::ZERO).map_err(|error| error.to_string())?;
    let Some(key) = app.custodial.clone().filter(|_| due(&view)) else { return Ok(()) };
    let learned = tokio::task::spawn_blocking(move || view.learn_trust(&Space::default()))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let signed = sign(app, &key, Body::TrustSnapshot(learned.snapshot))?;
    let submission = Submission {
        signed,
        principal: app.principal.clone(),
        custodial: true,
        idempotency: None,
        deadline: None,
    };
    app.submit(submission).await.map(drop).map_err(|error| error.problem.detail)
}

fn sign(app: &App, key: &SigningKey, body: Body) -> Result<Signed, String> {
    let record = Record {
        space: Space::default(),
        agent: key.agent_id(),
        at: app.engine.now(),
        log_id: Some(app.engine.log_id()),
        body,
    };
    Signed::seal(record, key).map_err(|error| error.to_string())
}

/// Whether there is enough since the snapshot in force.
fn due(view: &View) -> bool {
    let newest = view.position().0;
    let last = view.trust_snapshot(&Space::default()).map_or(0, |in_force| in_force.position.0);
    is_due(newest, last)
}

fn is_due(newest: u64, last: u64) -> bool {
    newest.saturating_sub(last) >= NEW_MIN.max(newest / NEW_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_records_or_a_twentieth_are_enough() {
        for (newest, last, due) in [
            (999, 0, false),
            (1_000, 0, true),
            (2_000, 1_500, false),
            (20_000, 19_000, true),
            (100_000, 96_000, false),
            (100_000, 95_000, true),
            (5, 10, false),
        ] {
            assert_eq!(is_due(newest, last), due, "{newest} after {last}");
        }
    }
}
