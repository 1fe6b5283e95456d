//! Settings of an engine. Times and bounds that nobody would set well are constants, each with
//! its reason.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stemedb_model::Policy;

/// How far a record's claimed time may lie ahead of the clock, in milliseconds.
pub const AT_AHEAD_MAX_MS: i64 = 5 * 60 * 1000;
/// How far the wall clock may leave the monotonic clock before writes stop.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(60);
/// An append that takes longer is a hang: its waiters are told `indeterminate`. Nobody is to wait
/// longer than ten seconds, and the answer takes a moment to arrive.
pub const APPEND_STALL_MAX: Duration = Duration::from_millis(9_500);
/// An append that takes longer is worth a warning.
pub const APPEND_SLOW: Duration = Duration::from_secs(1);
/// While the log refuses writes that it may take again later (no room for a new segment), one
/// write per this time is let through to try.
pub const RETRY_EVERY: Duration = Duration::from_secs(1);

/// While the log takes no writes it is asked this often whether it can again; it knows by itself
/// when that is too early.
pub(crate) const RESUME_EVERY: Duration = Duration::from_millis(250);

/// What must hold besides log and index for this node to acknowledge: a lease, where another node could
/// write the same log.
pub trait Fence: Send + Sync + std::fmt::Debug {
    /// Whether it holds now; if not, why. Asked after each sync and before each acknowledgement, so it
    /// must be quick.
    fn check(&self) -> Result<(), String>;
}

/// Settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Who may write at all. Default: any agent.
    pub policy: Policy,
    /// Records that may wait for admission; one more is refused `queue_full`. Default 16,384, at
    /// least 1.
    pub queue_records_max: usize,
    /// The same in bytes of their bodies. Default 64 MiB, at least 1 MiB.
    pub queue_bytes_max: usize,
    /// Records in one group, and so behind one sync. Default 4,096, at least 1.
    pub group_records_max: usize,
    /// Bytes of one group, as the sum of `NewEntry::encoded_len`. Default 2 MiB, at least 512 KiB.
    /// Where the log takes less (`Log::group_bytes_max`), it is that.
    pub group_bytes_max: usize,
    /// Rest after the last write before the log is sealed. Default 100 ms.
    pub idle_seal: Duration,
    /// Claims that one resolution may look at; more are `resolve_too_large`. Default 100,000.
    pub resolve_claims_max: usize,
    /// Claims and votes of one space that trust may be learned from, at about 400 bytes of memory
    /// each. Default 4,000,000.
    pub trust_statements_max: usize,
    /// Keeps learned tables, so that a start need not learn them again. Default: none does.
    pub trust_dir: Option<PathBuf>,
    /// What must hold for this node to acknowledge. Default: nothing but log and index.
    pub fence: Option<Arc<dyn Fence>>,
    /// Whether the log is that of another node, which is followed: no write is taken, and the index
    /// goes on with [`Engine::catch_up`](crate::Engine::catch_up). Default false.
    pub standby: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            queue_records_max: 16 << 10,
            queue_bytes_max: 64 << 20,
            group_records_max: 4 << 10,
            group_bytes_max: 2 << 20,
            idle_seal: Duration::from_millis(100),
            resolve_claims_max: 100_000,
            trust_statements_max: 4_000_000,
            trust_dir: None,
            fence: None,
            standby: false,
        }
    }
}

impl EngineConfig {
    /// Reports every bound that fails, each naming its field, and changes nothing.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (field, value, least) in [
            ("queue_records_max", self.queue_records_max, 1),
            ("queue_bytes_max", self.queue_bytes_max, 1 << 20),
            ("group_records_max", self.group_records_max, 1),
            ("group_bytes_max", self.group_bytes_max, 512 << 10),
            ("resolve_claims_max", self.resolve_claims_max, 1),
            ("trust_statements_max", self.trust_statements_max, 1),
        ] {
            if value < least {
                problems.push(format!("{field} is {value}, expected at least {least}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}
