//! What the measurements have in common.

pub mod budget;
pub mod cluster;
pub mod machine;
pub mod page;
pub mod random;
pub mod server;
pub mod stats;

/// That of the shipped binaries.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
