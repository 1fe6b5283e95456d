//! How often each caller may ask: a rate and a burst for every class of endpoints.
//!
//! A caller is an API key or, where there is none, an address. Each class fills up by itself at its
//! rate, to its burst at most (GCRA, the leaky bucket by another name). A request takes one, whatever
//! becomes of it.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::Clock;
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::auth::Caller;
use crate::client::Client;
use crate::config::{Rate, RateLimits};
use crate::error::{ApiError, ApiResult};
use crate::wire::ErrorCode;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
/// Callers that one class knows apart, at about 100 bytes each. Whoever comes when there are so many
/// shares the allowance of one.
const CALLERS_MAX: usize = 100_000;
/// Callers over their rate that the log names, each once a minute. Of more it is silent: those whom it names must not be able to
/// fill a disk with it.
const NAMED_MAX: usize = 100;
/// Whoever can have one address of IPv6 can have the 2^64 beside it.
const NETWORK_BITS: u32 = 64;

/// What kind of work an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// One record.
    Write,
    /// Many records.
    Import,
    /// What is answered from what the index keeps.
    Read,
    /// What reads or computes much.
    Heavy,
    /// The node itself.
    Admin,
}

impl Class {
    pub(crate) const ALL: [Self; 5] =
        [Self::Write, Self::Import, Self::Read, Self::Heavy, Self::Admin];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Import => "import",
            Self::Read => "read",
            Self::Heavy => "heavy",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Key(String),
    Address(IpAddr),
    /// Whoever has neither, or came when there were too many.
    Others,
}

impl Who {
    fn of(caller: Option<&Caller>, client: Option<&Client>) -> Self {
        if let Some(key) = caller.and_then(|caller| caller.key.as_ref()) {
            return Self::Key(key.clone());
        }
        match client {
            Some(Client::Peer(address)) => Self::Address(network(address.ip())),
            Some(Client::Behind(address)) => Self::Address(network(*address)),
            Some(Client::Socket) | None => Self::Others,
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let kept = u128::MAX << (u128::BITS - NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & kept))
        }
        v4 => v4,
    }
}

/// The clock of the node, as the library wants it.
#[derive(Clone)]
struct Ticks(Arc<dyn stemedb_io::Clock>);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.monotonic().into()
    }
}

type Buckets = RateLimiter<Who, HashMapStateStore<Who>, Ticks, StateInformationMiddleware>;

/// One class: who has taken how much.
struct Bucket {
    rate: Rate,
    taken: Buckets,
}

/// What all callers have taken of each class; `None` where that has no bound.
#[derive(Default)]
struct Classes {
    write: Option<Arc<Bucket>>,
    import: Option<Arc<Bucket>>,
    read: Option<Arc<Bucket>>,
    heavy: Option<Arc<Bucket>>,
    admin: Option<Arc<Bucket>>,
}

impl Classes {
    fn get(&self, class: Class) -> Option<&Arc<Bucket>> {
        match class {
            Class::Write => self.write.as_ref(),
            Class::Import => self.import.as_ref(),
            Class::Read => self.read.as_ref(),
            Class::Heavy => self.heavy.as_ref(),
            Class::Admin => self.admin.as_ref(),
        }
    }
}

/// Who has taken how much.
pub(crate) struct Limiter {
    clock: Ticks,
    classes: RwLock<Classes>,
    /// Whom the log has named of late.
    named: RateLimiter<Who, HashMapStateStore<Who>, Ticks, NoOpMiddleware<Nanos>>,
}

/// What is left of a caller's allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    limit: u32,
    remaining: u32,
    /// Until all of it is there again.
    reset: Duration,
}

impl Allowance {
    /// Tells the caller.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(seconds(self.reset)));
    }
}

/// Rounded up: whoever waits so long has waited long enough.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Limiter {
    pub(crate) fn new(rates: &RateLimits, clock: Arc<dyn stemedb_io::Clock>) -> Self {
        let clock = Ticks(clock);
        let once = Quota::per_minute(NonZeroU32::MIN);
        let named = RateLimiter::new(once, HashMapStateStore::default(), clock.clone());
        let limiter = Self { clock, classes: RwLock::default(), named };
        limiter.set(rates);
        limiter
    }

    /// Other rates from now on. Where the rate of a class is the same, what was taken of it stays taken.
    pub(crate) fn set(&self, rates: &RateLimits) {
        let mut classes = self.classes.write().unwrap_or_else(PoisonError::into_inner);
        let bucket = |rate: Rate, class: Class| {
            let before = classes.get(class).filter(|before| before.rate == rate);
            before.cloned().or_else(|| self.bucket(rate))
        };
        *classes = Classes {
            write: bucket(rates.write, Class::Write),
            import: bucket(rates.import, Class::Import),
            read: bucket(rates.read, Class::Read),
            heavy: bucket(rates.heavy, Class::Heavy),
            admin: bucket(rates.admin, Class::Admin),
        };
    }

    fn bucket(&self, rate: Rate) -> Option<Arc<Bucket>> {
        let per_second = NonZeroU32::new(rate.per_second)?;
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::new(rate.burst)?);
        let taken = RateLimiter::new(quota, HashMapStateStore::default(), self.clock.clone());
        Some(Arc::new(Bucket { rate, taken }))
    }

    fn class(&self, class: Class) -> Option<Arc<Bucket>> {
        self.classes.read().unwrap_or_else(PoisonError::into_inner).get(class).cloned()
    }

    /// Takes one of the caller's allowance. `None` where the class has no bound.
    pub(crate) fn take(
        &self,
        class: Class,
        caller: Option<&Caller>,
        client: Option<&Client>,
    ) -> ApiResult<Option<Allowance>> {
        let Some(bucket) = self.class(class) else { return Ok(None) };
        let mut who = Who::of(caller, client);
        // There are only so many keys.
        if matches!(who, Who::Address(_)) && bucket.taken.len() >= CALLERS_MAX {
            who = Who::Others;
        }
        let Rate { per_second, burst } = bucket.rate;
        let allowance = |remaining: u32| Allowance {
            limit: burst,
            remaining,
            reset: Duration::from_secs(u64::from(burst.saturating_sub(remaining)))
                .checked_div(per_second)
                .unwrap_or_default(),
        };
        match bucket.taken.check_key(&who) {
            Ok(left) => Ok(Some(allowance(left.remaining_burst_capacity()))),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let whose = match &who {
                    Who::Key(key) => format!("the API key {key}"),
                    Who::Address(address) => address.to_string(),
                    Who::Others => "this caller".to_owned(),
                };
                let name = class.as_str();
                if self.may_name(&who) {
                    tracing::warn!(
                        caller = whose,
                        class = name,
                        per_second,
                        burst,
                        "over its rate limit"
                    );
                }
                let detail = format!(
                    "{whose} may make {per_second} requests a second of the class {name}, {burst} \
                     at once (rate_limit.{name}); the next one in {} ms",
                    wait.as_millis().max(1)
                );
                let mut error = ApiError::new(ErrorCode::RateLimited, detail);
                error.retry_after = Some(Duration::from_secs(seconds(wait)));
                error.allowance = Some(Allowance { reset: wait, ..allowance(0) });
                Err(error)
            }
        }
    }

    /// Whether the log names this caller now.
    fn may_name(&self, who: &Who) -> bool {
        self.named.len() < NAMED_MAX && self.named.check_key(who).is_ok()
    }

    /// Forgets callers whose allowance is whole again.
    pub(crate) fn forget(&self) {
        self.named.retain_recent();
        for bucket in Class::ALL.into_iter().filter_map(|class| self.class(class)) {
            bucket.taken.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stemedb_io::sim::world;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SLOW: Rate = Rate { per_second: 2, burst: 3 };

    fn limiter() -> (Limiter, Arc<dyn stemedb_io::Clock>) {
        let (_, _, env) = world(7, 0);
        let rates = RateLimits { read: SLOW, ..RateLimits::default() };
        (Limiter::new(&rates, Arc::clone(&env.clock)), env.clock)
    }

    fn from(address: &str) -> Client {
        Client::Peer(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (limiter, clock) = limiter();
        let client = from("192.0.2.1");
        let take = || limiter.take(Class::Read, None, Some(&client));
        for remaining in [2, 1, 0] {
            let allowance = take().unwrap().unwrap();
            assert_eq!((allowance.limit, allowance.remaining), (3, remaining));
            assert_eq!(allowance.reset.as_millis(), 500 * u128::from(3 - remaining));
        }
        let refused = take().unwrap_err();
        assert_eq!(refused.problem.code, ErrorCode::RateLimited);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(1)), "rounded up");
        assert!(refused.problem.detail.contains("192.0.2.1"), "{}", refused.problem.detail);
        assert!(refused.problem.detail.contains("rate_limit.read"), "{}", refused.problem.detail);
        clock.sleep(Duration::from_millis(499));
        assert!(take().is_err(), "a refused request takes nothing, and brings nothing nearer");
        clock.sleep(Duration::from_millis(1));
        assert!(take().is_ok());
        assert!(take().is_err());
    }

    #[test]
    fn the_log_names_each_caller_once_a_minute_and_not_too_many() {
        let (limiter, clock) = limiter();
        let who = |n: u32| Who::Address(IpAddr::V4(n.into()));
        assert!(limiter.may_name(&who(0)));
        assert!(!limiter.may_name(&who(0)));
        clock.sleep(MINUTE);
        assert!(limiter.may_name(&who(0)));
        let named = (1..1_000).filter(|n| limiter.may_name(&who(*n))).count();
        assert_eq!(named, NAMED_MAX - 1);
        clock.sleep(2 * MINUTE);
        limiter.forget();
        assert!(limiter.may_name(&who(5_000)));
    }

    #[test]
    fn callers_and_classes_do_not_share() {
        let (limiter, _) = limiter();
        let exhaust = |client: &Client| {
            (0..10).take_while(|_| limiter.take(Class::Read, None, Some(client)).is_ok()).count()
        };
        assert_eq!(exhaust(&from("192.0.2.1")), 3);
        assert_eq!(exhaust(&from("::ffff:192.0.2.1")), 0, "the same in other words");
        assert_eq!(exhaust(&from("192.0.2.2")), 3);
        assert_eq!(exhaust(&from("2001:db8::1")), 3);
        assert_eq!(exhaust(&from("2001:db8::2")), 0, "one network");
        assert_eq!(exhaust(&from("2001:db8:0:1::1")), 3);
        assert_eq!(exhaust(&Client::Behind("192.0.2.1".parse().unwrap())), 0, "by address alone");
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Read) {
            assert!(limiter.take(class, None, Some(&from("192.0.2.1"))).is_ok(), "{class:?}");
        }
    }

    #[test]
    fn no_rate_is_no_bound() {
        let (_, _, env) = world(7, 0);
        let rates = RateLimits { read: Rate { per_second: 0, burst: 1 }, ..RateLimits::default() };
        let limiter = Limiter::new(&rates, env.clock);
        for _ in 0..100 {
            assert_eq!(limiter.take(Class::Read, None, Some(&from("::1"))).unwrap(), None);
        }
    }

    #[test]
    fn those_that_are_whole_again_are_forgotten() {
        let (limiter, clock) = limiter();
        for n in 0..1_000u32 {
            let client = Client::Behind(IpAddr::V4(n.into()));
            assert!(limiter.take(Class::Read, None, Some(&client)).is_ok());
        }
        let known = || limiter.class(Class::Read).unwrap().taken.len();
        limiter.forget();
        assert_eq!(known(), 1_000);
        clock.sleep(Duration::from_secs(3));
        limiter.forget();
        assert_eq!(known(), 0);
    }

    #[test]
    fn other_rates_hold_at_once_and_the_same_forget_nothing() {
        let (limiter, _) = limiter();
        let client = from("192.0.2.1");
        let take = || limiter.take(Class::Read, None, Some(&client)).is_ok();
        assert_eq!([take(), take(), take(), take()], [true, true, true, false]);
        limiter.set(&RateLimits { read: SLOW, ..RateLimits::default() });
        assert!(!take());
        limiter
            .set(&RateLimits { read: Rate { per_second: 2, burst: 4 }, ..RateLimits::default() });
        assert!(take());
        limiter
            .set(&RateLimits { read: Rate { per_second: 0, burst: 4 }, ..RateLimits::default() });
        assert!((0..100).all(|_| take()));
    }

    /// Addresses beyond the bound take from one allowance, so that memory is bounded.
    #[test]
    fn a_crowd_shares() {
        let (limiter, _) = limiter();
        let taken = (0..CALLERS_MAX as u32 + 100)
            .filter(|n| {
                let client = Client::Behind(IpAddr::V4((*n).into()));
                limiter.take(Class::Read, None, Some(&client)).is_ok()
            })
            .count();
        assert_eq!(taken, CALLERS_MAX + SLOW.burst as usize);
    }
}
