/// A function that is compiled for the instructions that [`fearless_simd::Avx512`] proves, and may use them. Only what is
/// compiled for them too, or holds that proof (`fearless_simd::kernel!`), can call it.
macro_rules! with_features {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        $(#[$meta])*
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,avx512vbmi,avx512vl")]
        #[inline]
        $vis fn $($rest)*
    };
}
