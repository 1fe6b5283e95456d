//! The endpoints, and who may use each: the one place that says so.
//!
//! What is not in the table is not there: the guard answers 404 or 405 before any handler runs, so
//! a route that was forgotten here is closed, not open. A test holds the table to the router.

use axum::http::Method;

use crate::limiter::Class;
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

/// Nothing keeps a probe or a scrape from its answer.
const NEVER: Option<Class> = None;
const WRITE: Option<Class> = Some(Class::Write);
const IMPORT: Option<Class> = Some(Class::Import);
const READ: Option<Class> = Some(Class::Read);
const HEAVY: Option<Class> = Some(Class::Heavy);
const ADMINISTER: Option<Class> = Some(Class::Admin);

/// Method, path, who, and whose allowance it takes from.
pub(crate) const TABLE: &[(&str, &str, Access, Option<Class>)] = &[
    // Probes, scrapes, and the specification, which is public anyway.
    ("GET", "/livez", Access::Open, NEVER),
    ("GET", "/readyz", Access::Open, NEVER),
    ("GET", "/metrics", Access::Scrape, NEVER),
    ("GET", "/openapi.json", Access::Open, READ),
    ("GET", "/docs", Access::Open, READ),
    // Questions.
    ("GET", "/v1/health", READER, READ),
    ("GET", "/v1/assertions/{id}", READER, READ),
    ("GET", "/v1/records/{id}", READER, READ),
    ("GET", "/v1/positions/{position}", READER, READ),
    ("GET", "/v1/trace/{id}", READER, READ),
    ("GET", "/v1/export", READER, HEAVY),
    ("GET", "/v1/feed", READER, READ),
    ("GET", "/v1/query", READER, READ),
    ("POST", "/v1/resolve", READER, HEAVY),
    ("GET", "/v1/skeptic", READER, READ),
    ("GET", "/v1/layered", READER, READ),
    ("GET", "/v1/explain", READER, HEAVY),
    ("POST", "/v1/replay", READER, HEAVY),
    ("GET", "/v1/conflicts", READER, READ),
    ("GET", "/v1/lenses", READER, READ),
    ("GET", "/v1/lenses/{name}", READER, READ),
    ("POST", "/v1/whatif", READER, HEAVY),
    ("GET", "/v1/trust/{agent}", READER, READ),
    // Records.
    ("POST", "/v1/assert", WRITER, WRITE),
    ("POST", "/v1/cosign", WRITER, WRITE),
    ("POST", "/v1/vote", WRITER, WRITE),
    ("POST", "/v1/epoch", WRITER, WRITE),
    ("POST", "/v1/source", WRITER, WRITE),
    ("POST", "/v1/retract", WRITER, WRITE),
    ("POST", "/v1/supersede", WRITER, WRITE),
    ("POST", "/v1/predicate", WRITER, WRITE),
    ("POST", "/v1/alias", WRITER, WRITE),
    ("POST", "/v1/agent", WRITER, WRITE),
    ("POST", "/v1/lens", WRITER, WRITE),
    ("POST", "/v1/gold", WRITER, WRITE),
    ("POST", "/v1/trust_snapshot", WRITER, WRITE),
    ("POST", "/v1/lifecycle", WRITER, WRITE),
    ("PUT", "/v1/assertions/{id}", WRITER, WRITE),
    ("PUT", "/v1/records/{id}", WRITER, WRITE),
    ("POST", "/v1/import", WRITER, IMPORT),
    ("POST", "/v1/trust/learn", WRITER, HEAVY),
    // The node, and what others asked of it.
    ("GET", "/v1/audit/queries", OPERATOR, ADMINISTER),
    ("GET", "/v1/audit/query/{id}", OPERATOR, ADMINISTER),
    ("GET", "/v1/admin/node", OPERATOR, ADMINISTER),
    ("GET", "/v1/admin/root", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/node/drain", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/node/undrain", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/promote", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/checkpoint", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/reindex", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/wal/seal", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/wal/detach", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/wal/attach", OPERATOR, ADMINISTER),
    ("POST", "/v1/admin/wal/acknowledge", OPERATOR, ADMINISTER),
    // Keys, and what was done with them.
    ("GET", "/v1/admin/keys", ADMIN, ADMINISTER),
    ("POST", "/v1/admin/keys", ADMIN, ADMINISTER),
    ("DELETE", "/v1/admin/keys/{id}", ADMIN, ADMINISTER),
    ("POST", "/v1/admin/keys/{id}/rotate", ADMIN, ADMINISTER),
    ("GET", "/v1/audit/admin", ADMIN, ADMINISTER),
];

/// The line of a method of a path; `None` if there is no such endpoint.
fn line(method: &Method, path: &str) -> Option<(Access, Option<Class>)> {
    // The head of an answer is for whom the answer is.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(known, at, ..)| *at == path && *known == method.as_str());
    found.map(|(_, _, access, class)| (*access, *class))
}

/// Who may use a method of a path; `None` if there is no such endpoint.
pub(crate) fn access(method: &Method, path: &str) -> Option<Access> {
    line(method, path).map(|(access, _)| access)
}

/// Whose allowance a request takes from. What leads nowhere is as good as a read.
pub(crate) fn class(method: &Method, path: &str) -> Option<Class> {
    line(method, path).map_or(READ, |(_, class)| class)
}

/// The methods that a path has, for `Allow`.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let mut methods: Vec<&'static str> =
        TABLE.iter().filter(|(_, at, ..)| *at == path).map(|(method, ..)| *method).collect();
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
            TABLE.iter().map(|(method, path, ..)| ((*method).into(), (*path).into())).collect();
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

    #[test]
    fn only_probes_and_scrapes_are_without_bound() {
        let without: Vec<&str> =
            TABLE.iter().filter(|(.., class)| class.is_none()).map(|(_, path, ..)| *path).collect();
        assert_eq!(without, ["/livez", "/readyz", "/metrics"]);
        assert_eq!(class(&Method::HEAD, "/v1/export"), HEAVY);
        assert_eq!(class(&Method::GET, "/v1/nothing"), READ);
    }
}
