//! How often something was looked at that could be many: counted in tests alone, which hold it to the length of the text.

/// One more.
#[inline(always)]
pub(crate) fn count() {
    count_all(1);
}

/// So many more.
#[inline(always)]
pub(crate) fn count_all(more: usize) {
    #[cfg(test)]
    COUNT.set(COUNT.get().saturating_add(more));
    #[cfg(not(test))]
    let _ = more;
}

#[cfg(test)]
thread_local! {
    static COUNT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many there were on this thread.
#[cfg(test)]
pub(crate) fn counted() -> usize {
    COUNT.get()
}

#[cfg(test)]
mod tests;
