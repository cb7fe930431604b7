//! How often something was looked at that could be many: counted in tests alone, which hold it to the length of the text.

/// One more.
#[inline(always)]
pub(crate) fn count() {
    #[cfg(test)]
    COUNT.set(COUNT.get().saturating_add(1));
}

#[cfg(test)]
thread_local! {
    static COUNT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
