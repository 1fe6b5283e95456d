//! HTTP: wire types, handlers, limits, error mapping, metrics.

pub mod wire;
