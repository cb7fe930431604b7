use fearless_simd::Level;

/// The instructions that a batch is decided with. All of them give the same decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vectors {
    /// None: one request after the other, one candidate after the other.
    Plain,
    /// 128 bits: SSE4.2 on x86, NEON on Arm.
    Bits128,
    /// 256 bits: AVX2.
    Bits256,
    /// 512 bits: AVX-512 with its 52-bit multiplication.
    Bits512,
}

impl Vectors {
    /// Those that there are, the narrowest first.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Bits128, Self::Bits256, Self::Bits512];

    /// The name of the instructions on this architecture, such as `avx2`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Bits128 if cfg!(target_arch = "aarch64") => "neon",
            Self::Bits128 => "sse4.2",
            Self::Bits256 => "avx2",
            Self::Bits512 => "avx512",
        }
    }

    /// Those that have this name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vectors| vectors.label() == label)
    }

    /// Those that this machine has, the narrowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|vectors| *vectors == Self::Plain || vectors.level().is_some())
    }

    /// The widest that this machine has. On x86 each was measured to be faster than a narrower one; on Arm nothing was measured.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::Plain)
    }

    /// The proof that this machine has them; `None` if it does not, or for none.
    pub(crate) fn level(self) -> Option<Level> {
        match self {
            Self::Plain => None,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Bits128 => Level::new().as_sse4_2().map(Level::Sse4_2),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Self::Bits256 => Level::new().as_avx2().map(Level::Avx2),
            #[cfg(target_arch = "x86_64")]
            Self::Bits512 => Level::new().as_avx512().map(Level::Avx512),
            #[cfg(target_arch = "aarch64")]
            Self::Bits128 => Level::new().as_neon().map(Level::Neon),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}
