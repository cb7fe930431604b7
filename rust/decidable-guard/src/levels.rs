//! For tests: every width of vectors that this machine has.

use fearless_simd::Level;

/// The instructions that this machine has.
pub(crate) fn levels() -> Vec<Level> {
    let found = Level::new();
    #[cfg(target_arch = "x86_64")]
    let all = [
        found.as_sse2().map(Level::Sse2),
        found.as_sse4_2().map(Level::Sse4_2),
        found.as_avx2().map(Level::Avx2),
        found.as_avx512().map(Level::Avx512),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let all = [Some(found)];
    all.into_iter().flatten().collect()
}
