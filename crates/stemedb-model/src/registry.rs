//! Placeholder of the fold that rights and resolution look things up in.
/// Versioned registries.
#[derive(Debug, Clone, Default)]
pub struct Registry {}
