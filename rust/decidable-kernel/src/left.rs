//! What is left of requests that are decided side by side.

/// How many rows a piece has at most: one bit each.
pub(crate) const PIECE: usize = 64;

/// What the rows of a piece still need, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// To be decided one after the other.
    pub(crate) beyond: u64,
    /// The reason of a rejection.
    pub(crate) rejected: u64,
}
