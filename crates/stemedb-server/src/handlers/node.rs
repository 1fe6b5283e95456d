//! The node: probes, health, drain.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::json;
use stemedb_engine::{AsOf, NodeState, NodeStatus, SnapshotToken};
use stemedb_model::Position;

use super::json as answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::openapi::{
    DrainProblems, NodeProblems, ProbeProblems, PromoteProblems, ReadyProblems, RootProblems,
    UndrainProblems,
};
use crate::question::{params, view};
use crate::replica::ReplicaStatus;
use crate::wire::{
    self, AgentKey, Drain, DrainParams, ErrorCode, HashHex, Health, KeyRole, LogIdHex, Node,
    NodeArchive, NodeReason, PositionRange, PromoteParams, ReadyFor, ReadyParams, Rebuild,
    RootParams, Roots, Time, TimelineHex,
};

const DRAIN_MS_MAX: u64 = 600_000;
/// Every key is answered for it.
const ROOT_MAX: Duration = Duration::from_secs(3_600);

pub(super) fn node(status: &NodeStatus) -> Node {
    Node {
        state: status.state.as_str().to_owned(),
        reason: status.reason.as_ref().map(|reason| NodeReason {
            code: reason.code.to_owned(),
            detail: reason.detail.clone(),
        }),
        degraded: status.degraded.clone(),
        wal: status.log.as_str().to_owned(),
        log_id: LogIdHex(status.log_id),
        timeline: TimelineHex(status.timeline),
        position: status.progress.applied.0,
        durable: status.progress.durable.0,
        in_flight: u64::try_from(status.in_flight).unwrap_or(u64::MAX),
        archive: status.archive.as_ref().map(|archive| NodeArchive {
            sync: archive.sync,
            state: archive.view.state.to_owned(),
            position: archive.view.position.0,
            problem: archive.view.problem.clone(),
        }),
        replica: None,
        rebuild: status.rebuild.as_ref().map(|rebuild| Rebuild {
            state: rebuild.state.as_str().to_owned(),
            began_at: Time(rebuild.began_at),
            position: rebuild.position.0,
            problem: rebuild.problem.clone(),
        }),
    }
}

/// The same with what it follows.
fn whole(app: &App, status: &NodeStatus) -> Node {
    let replica = app.replica.as_ref().map(|replica| {
        let ReplicaStatus { of, state, problem, primary, primary_position, lag_positions, lag } =
            replica.status();
        wire::Replica {
            of,
            state: state.to_owned(),
            problem,
            primary,
            primary_position,
            lag_positions,
            lag_seconds: lag.as_secs_f64(),
        }
    });
    Node { replica, ..node(status) }
}

fn why(status: &NodeStatus) -> String {
    let state = status.state.as_str();
    match &status.reason {
        Some(reason) => format!("the node is {state}: {}: {}", reason.code, reason.detail),
        None => format!("the node is {state}"),
    }
}

/// Whether the process runs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "node",
    responses((status = 200, description = "It does", body = serde_json::Value), ProbeProblems)
)]
pub(crate) async fn livez() -> ApiResult<Response> {
    answer(StatusCode::OK, &json!({ "status": "alive" }))
}

/// Whether the node should get traffic.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "node",
    params(ReadyParams),
    responses((status = 200, description = "It should", body = serde_json::Value), ReadyProblems)
)]
pub(crate) async fn readyz(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: ReadyParams = params(&uri)?;
    let status = app.engine.node();
    let ready = match (status.state, asked.what) {
        (NodeState::Ready, _) => true,
        (NodeState::ReadOnly | NodeState::Standby, Some(ReadyFor::Read)) => true,
        (NodeState::ReadOnly | NodeState::Standby, Some(ReadyFor::Write) | None) => false,
        (
            NodeState::Starting
            | NodeState::Recovering
            | NodeState::Draining
            | NodeState::Drained
            | NodeState::Stopped,
            _,
        ) => false,
    };
    if ready {
        return answer(StatusCode::OK, &json!({ "status": "ready" }));
    }
    let code = match status.state {
        NodeState::Draining | NodeState::Drained | NodeState::Stopped => ErrorCode::Draining,
        NodeState::Standby => ErrorCode::Standby,
        NodeState::Starting | NodeState::Recovering | NodeState::Ready | NodeState::ReadOnly => {
            ErrorCode::NotReady
        }
    };
    Err(ApiError::new(code, why(&status)))
}

/// Details, for people and dashboards.
#[utoipa::path(
    get,
    path = "/v1/health",
    tag = "node",
    responses(
        (status = 200, description = "Ready", body = Health),
        (status = 503, description = "Not ready; the reasons are in the body", body = Health),
        NodeProblems
    )
)]
pub(crate) async fn health(State(app): State<Arc<App>>, caller: Caller) -> ApiResult<Response> {
    let status = app.engine.node();
    let audit = app.audit.health();
    let degraded = status.degraded.is_some() || matches!(&*audit.state, "failing" | "damaged");
    let (code, word) = match (status.state, degraded) {
        (NodeState::Ready, false) => (StatusCode::OK, "ok"),
        (NodeState::Ready, true) => (StatusCode::OK, "degraded"),
        (NodeState::ReadOnly, _) => (StatusCode::SERVICE_UNAVAILABLE, "read_only"),
        (NodeState::Standby, _) => (StatusCode::OK, "standby"),
        (
            NodeState::Starting
            | NodeState::Recovering
            | NodeState::Draining
            | NodeState::Drained
            | NodeState::Stopped,
            _,
        ) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let token = SnapshotToken { timeline: status.timeline, position: status.progress.applied };
    let custodial_agent = match caller.role {
        KeyRole::Reader => None,
        KeyRole::Writer | KeyRole::Operator | KeyRole::Admin => {
            app.known_custodian(&caller.principal).map(|key| AgentKey(key.agent_id()))
        }
    };
    let health = Health {
        status: word.to_owned(),
        node: whole(&app, &status),
        root_public_key: app.root().map(AgentKey),
        custodial_agent,
        audit,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: app.config.commit.clone(),
        snapshot: token.to_string(),
        history_lost: !status.lost.ranges().is_empty(),
        lost: status
            .lost
            .ranges()
            .iter()
            .map(|(first, last)| PositionRange { first: first.0, last: last.0 })
            .collect(),
    };
    answer(code, &health)
}

/// State of the node, and why.
#[utoipa::path(
    get,
    path = "/v1/admin/node",
    tag = "admin",
    responses((status = 200, description = "The node", body = Node), NodeProblems)
)]
pub(crate) async fn show(State(app): State<Arc<App>>) -> ApiResult<Response> {
    answer(StatusCode::OK, &whole(&app, &app.engine.node()))
}

/// Begins to take the place of the primary, on a branch of its own. The answer comes at once; `replica` in
/// the answer of `GET /v1/admin/node` tells how that goes. Once it is done the node begins anew, as the
/// primary: connections break, and the next ones find it.
#[utoipa::path(
    post,
    path = "/v1/admin/promote",
    tag = "admin",
    params(PromoteParams),
    responses((status = 202, description = "The node; it has begun", body = Node), PromoteProblems)
)]
pub(crate) async fn promote(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: PromoteParams = params(&uri)?;
    let Some(replica) = app.replica.clone() else {
        let state = app.engine.node().state;
        let detail = format!("the node is {}, not a standby", state.as_str());
        return Err(ApiError::new(ErrorCode::WrongState, detail));
    };
    let begun =
        tokio::task::spawn_blocking(move || replica.promote(asked.force.unwrap_or_default()))
            .await
            .map_err(|error| ApiError::internal(format!("the request broke off: {error}")))?;
    begun.map_err(|problem| ApiError::new(ErrorCode::WrongState, problem))?;
    answer(StatusCode::ACCEPTED, &whole(&app, &app.engine.node()))
}

/// The answer root and the log root. Resolves every key under every lens: for comparing nodes, not
/// for watching one.
#[utoipa::path(
    get,
    path = "/v1/admin/root",
    tag = "admin",
    params(RootParams),
    responses((status = 200, description = "The roots", body = Roots), RootProblems)
)]
pub(crate) async fn root(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: RootParams = params(&uri)?;
    let mut view = view(&app, None, None).await?;
    let roots = app
        .read_within(ROOT_MAX, move || {
            let position = asked.position.map_or(view.position(), Position);
            let ahead = |error| ApiError::from(error).field("position");
            view = view.as_of(AsOf::Position(position)).map_err(ahead)?;
            if let Some(time) = asked.evaluated_at {
                view = view.evaluated(time.0);
            }
            let (log_root_position, log_root) = view.log_root();
            let answers = view.answer_root()?;
            Ok(Roots {
                position: answers.position.0,
                evaluated_at: Time(answers.evaluated_at),
                keys: answers.keys,
                answer_root: HashHex(answers.root),
                log_root: HashHex(log_root),
                log_root_position: log_root_position.0,
            })
        })
        .await?;
    answer(StatusCode::OK, &roots)
}

/// Takes no new writes, finishes those on their way, seals the log, archives what is left. Reads go on.
#[utoipa::path(
    post,
    path = "/v1/admin/node/drain",
    tag = "admin",
    params(DrainParams),
    responses((status = 200, description = "What it came to", body = Drain), DrainProblems)
)]
pub(crate) async fn drain(State(app): State<Arc<App>>, uri: Uri) -> ApiResult<Response> {
    let asked: DrainParams = params(&uri)?;
    let bound = match asked.timeout_ms {
        None => app.config.drain_timeout,
        Some(ms) if ms <= DRAIN_MS_MAX => Duration::from_millis(ms),
        Some(ms) => {
            let problem = format!("{ms}, expected at most {DRAIN_MS_MAX}");
            return Err(ApiError::parameter("timeout_ms", problem));
        }
    };
    let state = app.engine.node().state;
    if matches!(state, NodeState::Starting | NodeState::Recovering | NodeState::Stopped) {
        let detail = format!("the node is {}: there is nothing to drain", state.as_str());
        return Err(ApiError::new(ErrorCode::WrongState, detail));
    }
    let engine = Arc::clone(&app.engine);
    let report = tokio::task::spawn_blocking(move || engine.drain(bound))
        .await
        .map_err(|error| ApiError::internal(format!("the drain broke off: {error}")))?;
    let mut left = report.problems;
    if report.unfinished > 0 {
        left.insert(0, format!("{} records are still on their way", report.unfinished));
    }
    let complete = report.state == NodeState::Drained && left.is_empty();
    answer(StatusCode::OK, &Drain { node: node(&app.engine.node()), complete, left })
}

/// Takes writes again.
#[utoipa::path(
    post,
    path = "/v1/admin/node/undrain",
    tag = "admin",
    responses((status = 200, description = "The node afterwards", body = Node), UndrainProblems)
)]
pub(crate) async fn undrain(State(app): State<Arc<App>>) -> ApiResult<Response> {
    match app.engine.undrain() {
        NodeState::Ready | NodeState::ReadOnly | NodeState::Standby => {
            answer(StatusCode::OK, &node(&app.engine.node()))
        }
        state @ (NodeState::Starting
        | NodeState::Recovering
        | NodeState::Draining
        | NodeState::Drained
        | NodeState::Stopped) => {
            let detail = format!("the node is {}: it cannot take writes", state.as_str());
            Err(ApiError::new(ErrorCode::WrongState, detail))
        }
    }
}
