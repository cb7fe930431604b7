//! The words of an account as the tests of this crate have them: before every access, something else can happen.
//!
//! What races in a program is in order here: a test says what other threads do at which access, and it does so in every
//! run. In any other build the words are `AtomicU64` itself, and this file is not there.
//!
//! With `cfg(loom)` the words are loom's, which tries the orders that memory allows.

use std::{cell::RefCell, sync::atomic::Ordering};

#[cfg(loom)]
use loom::sync::atomic;
#[cfg(not(loom))]
use std::sync::atomic;

type Happening = Box<dyn FnMut()>;

thread_local! {
    static HAPPENING: RefCell<Option<Happening>> = const { RefCell::new(None) };
}

/// What `act` answers if `happening` happens before every access of this thread to a word. The accesses of `happening`
/// itself are not counted.
pub(crate) fn with<T>(happening: impl FnMut() + 'static, act: impl FnOnce() -> T) -> T {
    HAPPENING.set(Some(Box::new(happening)));
    let answer = act();
    HAPPENING.set(None);
    answer
}

fn happen() {
    if let Some(mut happening) = HAPPENING.take() {
        happening();
        HAPPENING.set(Some(happening));
    }
}

#[derive(Debug)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(word: u64) -> Self {
        Self(atomic::AtomicU64::new(word))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        happen();
        self.0.load(order)
    }

    pub(crate) fn store(&self, word: u64, order: Ordering) {
        happen();
        self.0.store(word, order);
    }

    pub(crate) fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        happen();
        self.0.fetch_add(more, order)
    }

    pub(crate) fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        happen();
        self.0.fetch_sub(less, order)
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        before: u64,
        after: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        happen();
        self.0.compare_exchange_weak(before, after, success, failure)
    }
}
