//! The extension module behind the Python package `decidable`.
//!
//! It converts values and maps errors; it decides nothing itself.

use pyo3::prelude::*;

/// The native half of `decidable`; everything public is exported by the package.
#[pymodule]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods as _, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
