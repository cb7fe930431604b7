//! The one clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the engine reads the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970-01-01 UTC. It may step; the log makes its times non-decreasing.
    fn now_ns(&self) -> i64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        // A clock that stands before 1970 or after 2262 was never set, and says 0: the log then takes the time of its last
        // record, and nothing is decided by it.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_nanos()).ok())
            .unwrap_or(0)
    }
}

/// A clock that a caller moves, for replaying recorded traffic at its own times.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `time_ns`.
    #[must_use]
    pub const fn new(time_ns: i64) -> Self {
        Self(AtomicI64::new(time_ns))
    }
    /// Moves the clock forward; a time before the one it shows changes nothing.
    pub fn advance_to(&self, time_ns: i64) {
        self.0.fetch_max(time_ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}
