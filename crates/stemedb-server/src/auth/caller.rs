//! Who makes a request.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use stemedb_model::{AgentId, Hash, Principal, Signed, Space};

use super::store::Key;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::question;
use crate::wire::{ErrorCode, KeyRole, Quota, SpaceText};

/// Who makes a request, as the guard found out. Handlers take it as an argument; there is none on
/// endpoints that are open to everybody.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Who>);

#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) principal: Principal,
    pub(crate) role: KeyRole,
    /// The id of the API key; `None` without one.
    pub(crate) key: Option<String>,
    /// Hash of the secret that was shown.
    shown: Option<Hash>,
    /// `None`: all.
    pub(crate) spaces: Option<Vec<Space>>,
    /// The one agent whose own records are taken.
    agent: Option<AgentId>,
    /// How much its holder may write in a day.
    pub(crate) quota: Option<Quota>,
}

impl Deref for Caller {
    type Target = Who;

    fn deref(&self) -> &Who {
        &self.0
    }
}

impl Caller {
    /// Whoever reaches a server without authentication, or its socket.
    pub(crate) fn local(principal: Principal) -> Self {
        let role = KeyRole::Admin;
        Self(Arc::new(Who {
            principal,
            role,
            key: None,
            shown: None,
            spaces: None,
            agent: None,
            quota: None,
        }))
    }

    /// The holder of a key, who showed the secret with this hash.
    pub(crate) fn holder(key: &Key, shown: Hash) -> Self {
        Self(Arc::new(Who {
            principal: key.principal.clone(),
            role: key.role(),
            key: Some(key.id().to_owned()),
            shown: Some(shown),
            spaces: key.spaces.clone(),
            agent: key.agent(),
            quota: key.quota(),
        }))
    }

    /// Refuses a caller whose key was revoked, rotated out or has expired since it was shown: for
    /// answers that go on. Some hundred nanoseconds.
    pub(crate) fn still(&self, app: &App) -> ApiResult<()> {
        let (Some(keys), Some(key), Some(shown)) = (&app.keys, &self.key, &self.shown) else {
            return Ok(());
        };
        if keys.still(key, shown) {
            return Ok(());
        }
        let detail = format!("the API key {key} is no longer valid");
        Err(ApiError::new(ErrorCode::ApiKeyExpired, detail))
    }

    /// Whether records of this space are for it to see. Others are as if they were not there.
    pub(crate) fn sees(&self, space: &Space) -> bool {
        self.spaces.as_ref().is_none_or(|spaces| spaces.contains(space))
    }

    /// Refuses a space that the key is not for.
    pub(crate) fn allow(&self, space: &Space) -> ApiResult<()> {
        let Some(spaces) = self.spaces.as_ref().filter(|_| !self.sees(space)) else {
            return Ok(());
        };
        let names: Vec<&str> = spaces.iter().map(Space::as_str).collect();
        let detail = format!("space {space}: the API key is for {}", names.join(", "));
        Err(ApiError::new(ErrorCode::SpaceForbidden, detail).field("space"))
    }

    /// The space that a question names, if the key is for it.
    pub(crate) fn space(&self, named: Option<&SpaceText>) -> ApiResult<Space> {
        let space = question::space(named)?;
        self.allow(&space)?;
        Ok(space)
    }

    /// Refuses a record that the key must not send: in another space, or by another agent than the
    /// one it is bound to. What the server signs for its holder is its holder's.
    pub(crate) fn may_send(&self, signed: &Signed, custodial: bool) -> ApiResult<()> {
        let record = signed.record();
        self.allow(&record.space)?;
        match self.agent {
            Some(bound) if !custodial && bound != record.agent => {
                let detail = format!(
                    "agent {}: the API key is bound to {bound}, and sends records that it signed \
                     or that the server signs for it",
                    record.agent
                );
                Err(ApiError::new(ErrorCode::AgentNotBound, detail).field("agent"))
            }
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let found = parts.extensions.get::<Self>().cloned();
        found.ok_or_else(|| ApiError::internal("an open endpoint asks who its caller is"))
    }
}
