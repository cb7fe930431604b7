use std::sync::Arc;

use decidable_canon::Canonical as _;
use decidable_ledger::{AccountId, Commit, Denial, HoldId, Reserve};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors::{self, Class, raise};
use crate::model::repr;
use crate::values::{integer, optional, text};

/// The figures of an account at one moment, in microunits: remaining + reserved + committed = initial.
#[pyclass(frozen, eq, hash, module = "decidable")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Balance {
    #[pyo3(get)]
    account: String,
    #[pyo3(get)]
    initial: i64,
    #[pyo3(get)]
    remaining: i64,
    #[pyo3(get)]
    reserved: i64,
    #[pyo3(get)]
    committed: i64,
    #[pyo3(get)]
    debt: i64,
    #[pyo3(get)]
    cap: Option<i64>,
}

impl Balance {
    pub(crate) fn new(account: String, balance: decidable_ledger::Balance) -> Self {
        let decidable_ledger::Balance {
            initial,
            remaining,
            reserved,
            committed,
            debt,
            cap,
        } = balance;
        Self {
            account,
            initial,
            remaining,
            reserved,
            committed,
            debt,
            cap,
        }
    }
}

#[pymethods]
impl Balance {
    #[classattr]
    const fn __match_args__() -> (&'static str, &'static str, &'static str, &'static str) {
        ("account", "remaining", "reserved", "committed")
    }
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    #[new]
    #[pyo3(signature = (*, account, initial, remaining, reserved, committed, debt, cap))]
    fn __new__(
        account: &Bound<'_, PyAny>,
        initial: &Bound<'_, PyAny>,
        remaining: &Bound<'_, PyAny>,
        reserved: &Bound<'_, PyAny>,
        committed: &Bound<'_, PyAny>,
        debt: &Bound<'_, PyAny>,
        cap: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            account: text("account", account)?,
            initial: integer("initial", initial)?,
            remaining: integer("remaining", remaining)?,
            reserved: integer("reserved", reserved)?,
            committed: integer("committed", committed)?,
            debt: integer("debt", debt)?,
            cap: optional("cap", cap)?,
        })
    }
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let Self {
            account,
            initial,
            remaining,
            reserved,
            committed,
            debt,
            cap,
        } = self;
        let keywords = PyDict::new(py);
        keywords.set_item("account", account)?;
        keywords.set_item("initial", initial)?;
        keywords.set_item("remaining", remaining)?;
        keywords.set_item("reserved", reserved)?;
        keywords.set_item("committed", committed)?;
        keywords.set_item("debt", debt)?;
        keywords.set_item("cap", cap)?;
        Ok((PyTuple::empty(py), keywords))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        repr("Balance", &self.__getnewargs_ex__(py)?.1)
    }
}

/// A ledger in memory: accounts, holds, settlement. Every method may be called from any thread.
#[pyclass(frozen, module = "decidable")]
pub(crate) struct Ledger(Arc<decidable_ledger::Ledger>);

/// A hold, or its denial. Truthy when held; it settles once.
#[pyclass(frozen, module = "decidable")]
pub(crate) struct Hold {
    ledger: Arc<decidable_ledger::Ledger>,
    id: HoldId,
    #[pyo3(get)]
    account: String,
    #[pyo3(get)]
    amount: i64,
    denial: Option<Denial>,
}

#[pymethods]
impl Ledger {
    #[new]
    fn new() -> Self {
        Self(Arc::new(decidable_ledger::Ledger::new()))
    }
    /// Opens an account with `initial` microunits.
    fn open_account(&self, account: &Bound<'_, PyAny>, initial: &Bound<'_, PyAny>) -> PyResult<Balance> {
        let name = text("account", account)?;
        let id = self
            .0
            .open_account(&name, integer("initial", initial)?)
            .map_err(|error| errors::ledger_of(account.py(), error.kind(), &error, &name))?;
        self.figures(account.py(), name, id)
    }
    /// Adds `amount` microunits; debt is repaid first.
    fn top_up(&self, account: &Bound<'_, PyAny>, amount: &Bound<'_, PyAny>) -> PyResult<Balance> {
        let (name, id) = self.find(account)?;
        let balance = self
            .0
            .top_up(id, integer("amount", amount)?)
            .map_err(|error| errors::ledger_of(account.py(), error.kind(), &error, &name))?;
        Ok(Balance::new(name, balance))
    }
    /// Sets the most that may be held at a time, or lifts it with `None`.
    #[pyo3(signature = (account, cap))]
    fn set_cap(&self, account: &Bound<'_, PyAny>, cap: Option<&Bound<'_, PyAny>>) -> PyResult<Balance> {
        let (name, id) = self.find(account)?;
        self.0
            .set_cap(id, optional("cap", cap)?)
            .map_err(|error| errors::ledger_of(account.py(), error.kind(), &error, &name))?;
        self.figures(account.py(), name, id)
    }
    /// Sets `amount` microunits aside, or says why not.
    fn reserve(&self, account: &Bound<'_, PyAny>, amount: &Bound<'_, PyAny>) -> PyResult<Hold> {
        let (name, id) = self.find(account)?;
        let amount = integer("amount", amount)?;
        let hold = self.0.next_hold();
        let answer = self
            .0
            .reserve(id, hold, amount)
            .map_err(|error| errors::ledger_of(account.py(), error.kind(), &error, &name))?;
        let denial = match answer {
            Reserve::Held { .. } => None,
            Reserve::Denied { reason, .. } => Some(reason),
        };
        Ok(Hold {
            ledger: Arc::clone(&self.0),
            id: hold,
            account: name,
            amount,
            denial,
        })
    }
    /// The figures of one account.
    fn balance(&self, account: &Bound<'_, PyAny>) -> PyResult<Balance> {
        let (name, id) = self.find(account)?;
        self.figures(account.py(), name, id)
    }
    /// The whole ledger at one moment.
    fn snapshot(&self, py: Python<'_>) -> LedgerSnapshot {
        LedgerSnapshot(py.detach(|| self.0.snapshot()))
    }
    /// A certificate of conservation over a snapshot of this moment, with what was committed since the last one.
    fn certificate<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let certificate = py.detach(|| self.0.certificate());
        loaded(py, &certificate.to_json())
    }
    /// Checks every account against its open holds, one by one; raises if anything disagrees.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.verify())
            .map_err(|error| errors::ledger(py, &error))
    }
}

impl Ledger {
    fn find(&self, account: &Bound<'_, PyAny>) -> PyResult<(String, AccountId)> {
        let name = text("account", account)?;
        let id = self
            .0
            .account(&name)
            .ok_or_else(|| unknown_account(account.py(), &name))?;
        Ok((name, id))
    }
    fn figures(&self, py: Python<'_>, name: String, id: AccountId) -> PyResult<Balance> {
        let balance = self.0.balance(id).ok_or_else(|| unknown_account(py, &name))?;
        Ok(Balance::new(name, balance))
    }
}

pub(crate) fn unknown_account(py: Python<'_>, name: &str) -> PyErr {
    raise(
        py,
        Class::UnknownName,
        "ledger.unknown_account",
        &format!("no account {name:?} is open"),
        |details| details.set_item("account", name),
    )
}

#[pymethods]
impl Hold {
    /// Why it was denied: "insufficient", "over_cap" or "overflow"; `None` when held.
    #[getter]
    fn denied(&self) -> Option<&'static str> {
        self.denial.map(Denial::label)
    }
    const fn __bool__(&self) -> bool {
        self.denial.is_none()
    }
    /// Spends `actual` microunits of the hold; what is above goes to the account as far as it has funds, then to debt.
    fn commit(&self, py: Python<'_>, actual: &Bound<'_, PyAny>) -> PyResult<Balance> {
        let Commit { balance, .. } = self
            .ledger
            .commit(self.id, integer("actual", actual)?)
            .map_err(|error| errors::ledger(py, &error))?;
        Ok(Balance::new(self.account.clone(), balance))
    }
    /// Gives all of the hold back.
    fn release(&self, py: Python<'_>) -> PyResult<Balance> {
        let balance = self
            .ledger
            .release(self.id)
            .map_err(|error| errors::ledger(py, &error))?;
        Ok(Balance::new(self.account.clone(), balance))
    }
    fn __repr__(&self) -> String {
        let denied = self
            .denial
            .map_or_else(|| "None".to_owned(), |denial| format!("'{}'", denial.label()));
        format!(
            "Hold(account={:?}, amount={}, denied={denied})",
            self.account, self.amount
        )
    }
}

/// A ledger at one moment: its digest (`calyldg1`), its JSON and its certificate. The digest covers neither debts nor caps.
#[pyclass(frozen, eq, module = "decidable")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LedgerSnapshot(decidable_ledger::LedgerSnapshot);

#[pymethods]
impl LedgerSnapshot {
    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
    fn __hash__(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self.0.digest().bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rebuild = py.get_type::<Self>().getattr("from_json")?;
        Ok((rebuild, (self.to_json(),)).into_pyobject(py)?.into_any())
    }
    /// Reads the JSON of `to_json`, or of the reference.
    #[staticmethod]
    fn from_json(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Self> {
        decidable_ledger::LedgerSnapshot::from_json(&text("data", data)?)
            .map(Self)
            .map_err(|error| errors::ledger(py, &error))
    }
    /// The snapshot under the member names of the exchange format.
    fn to_json(&self) -> String {
        self.0.to_json()
    }
    /// The digest `calyldg1`.
    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.digest().bytes())
    }
    /// A certificate of conservation; `committed_before` is what an earlier certificate said was committed.
    #[pyo3(signature = (*, committed_before=None))]
    fn certificate<'py>(
        &self,
        py: Python<'py>,
        committed_before: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let before = optional("committed_before", committed_before)?.unwrap_or(0);
        loaded(py, &self.0.certificate(before).to_json())
    }
}

/// A JSON text as Python objects.
pub(crate) fn loaded<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (json,))
}
