//! The endpoints, and who may use each: the one place that says so.
//!
//! What is not in the table is not there: the guard answers 404 or 405 before any handler runs, so
//! a route that was forgotten here is closed, not open. A test holds the table to the router.

use axum::http::Method;

use crate::wire::KeyRole;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Everybody, unless the configuration wants a key for it.
    Scrape,
    /// Who has a key with this role or a higher one.
    Role(KeyRole),
}

impl Access {
    /// The role that a key needs where one is needed.
    pub(crate) fn role(self) -> Option<KeyRole> {
        match self {
            Self::Open => None,
            Self::Scrape => Some(KeyRole::Reader),
            Self::Role(role) => Some(role),
        }
    }
}

const READER: Access = Access::Role(KeyRole::Reader);
const WRITER: Access = Access::Role(KeyRole::Writer);
const OPERATOR: Access = Access::Role(KeyRole::Operator);
const ADMIN: Access = Access::Role(KeyRole::Admin);

/// Method, path, who.
pub(crate) const TABLE: &[(&str, &str, Access)] = &[
    // Probes, scrapes, and the specification, which is public anyway.
    ("GET", "/livez", Access::Open),
    ("GET", "/readyz", Access::Open),
    ("GET", "/metrics", Access::Scrape),
    ("GET", "/openapi.json", Access::Open),
    ("GET", "/docs", Access::Open),
    // Questions.
    ("GET", "/v1/health", READER),
    ("GET", "/v1/assertions/{id}", READER),
    ("GET", "/v1/records/{id}", READER),
    ("GET", "/v1/positions/{position}", READER),
    ("GET", "/v1/trace/{id}", READER),
    ("GET", "/v1/export", READER),
    ("GET", "/v1/feed", READER),
    ("GET", "/v1/query", READER),
    ("POST", "/v1/resolve", READER),
    ("GET", "/v1/skeptic", READER),
    ("GET", "/v1/layered", READER),
    ("GET", "/v1/explain", READER),
    ("POST", "/v1/replay", READER),
    ("GET", "/v1/conflicts", READER),
    ("GET", "/v1/lenses", READER),
    ("GET", "/v1/lenses/{name}", READER),
    ("POST", "/v1/whatif", READER),
    ("GET", "/v1/trust/{agent}", READER),
    // Records.
    ("POST", "/v1/assert", WRITER),
    ("POST", "/v1/cosign", WRITER),
    ("POST", "/v1/vote", WRITER),
    ("POST", "/v1/epoch", WRITER),
    ("POST", "/v1/source", WRITER),
    ("POST", "/v1/retract", WRITER),
    ("POST", "/v1/supersede", WRITER),
    ("POST", "/v1/predicate", WRITER),
    ("POST", "/v1/alias", WRITER),
    ("POST", "/v1/agent", WRITER),
    ("POST", "/v1/lens", WRITER),
    ("POST", "/v1/gold", WRITER),
    ("POST", "/v1/trust_snapshot", WRITER),
    ("POST", "/v1/lifecycle", WRITER),
    ("PUT", "/v1/assertions/{id}", WRITER),
    ("PUT", "/v1/records/{id}", WRITER),
    ("POST", "/v1/import", WRITER),
    ("POST", "/v1/trust/learn", WRITER),
    // The node, and what others asked of it.
    ("GET", "/v1/audit/queries", OPERATOR),
    ("GET", "/v1/audit/query/{id}", OPERATOR),
    ("GET", "/v1/admin/node", OPERATOR),
    ("GET", "/v1/admin/root", OPERATOR),
    ("POST", "/v1/admin/node/drain", OPERATOR),
    ("POST", "/v1/admin/node/undrain", OPERATOR),
    ("POST", "/v1/admin/wal/seal", OPERATOR),
    ("POST", "/v1/admin/wal/detach", OPERATOR),
    ("POST", "/v1/admin/wal/attach", OPERATOR),
    ("POST", "/v1/admin/wal/acknowledge", OPERATOR),
    // Keys, and what was done with them.
    ("GET", "/v1/admin/keys", ADMIN),
    ("POST", "/v1/admin/keys", ADMIN),
    ("DELETE", "/v1/admin/keys/{id}", ADMIN),
    ("POST", "/v1/admin/keys/{id}/rotate", ADMIN),
    ("GET", "/v1/audit/admin", ADMIN),
];

/// Who may use a method of a path; `None` if there is no such endpoint.
pub(crate) fn access(method: &Method, path: &str) -> Option<Access> {
    // The head of an answer is for whom the answer is.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(known, at, _)| *at == path && *known == method.as_str());
    found.map(|(_, _, access)| *access)
}

/// The methods that a path has, for `Allow`.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let mut methods: Vec<&'static str> =
        TABLE.iter().filter(|(_, at, _)| *at == path).map(|(method, _, _)| *method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A route without a line in the table fails here, and so does a line without a route.
    #[test]
    fn the_table_is_the_router() {
        let document: serde_json::Value = serde_json::from_str(&crate::openapi().unwrap()).unwrap();
        let mut routes: BTreeSet<(String, String)> = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                routes.insert((method.to_uppercase(), path.clone()));
            }
        }
        // Served beside the documented ones, in `routes`.
        for path in ["/openapi.json", "/docs"] {
            routes.insert(("GET".into(), path.into()));
        }
        let table: BTreeSet<(String, String)> =
            TABLE.iter().map(|(method, path, _)| ((*method).into(), (*path).into())).collect();
        assert_eq!(table.len(), TABLE.len(), "a line is there twice");
        assert_eq!(routes, table);
    }

    #[test]
    fn what_is_not_in_the_table_is_closed() {
        assert_eq!(access(&Method::GET, "/v1/nothing"), None);
        assert_eq!(access(&Method::DELETE, "/v1/assert"), None);
        assert_eq!(access(&Method::HEAD, "/v1/query"), Some(READER));
        assert_eq!(methods("/v1/admin/keys"), ["GET", "POST", "HEAD"]);
    }
}
