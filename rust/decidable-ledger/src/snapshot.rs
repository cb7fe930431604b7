use core::fmt::Write as _;

use decidable_canon::{
    Canonical, Digest, Sink, cast,
    tag::{self, Tag},
};
use serde::Deserialize;

use crate::{
    balance::Balance,
    error::{Error, ErrorKind},
};

/// Stands before the watermark in the digest's layout, where there is one.
const WATERMARK: &[u8; 33] = b"calybris.ledger.wal-watermark.v1\0";

/// One account of a [`LedgerSnapshot`], in microunits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSnapshot {
    /// The account's name.
    #[serde(rename = "tenant_id")]
    pub name: String,
    /// All that it was given.
    #[serde(rename = "initial_microcents")]
    pub initial: i64,
    /// What can still be held.
    #[serde(rename = "remaining_microcents")]
    pub remaining: i64,
    /// What is set aside by open holds.
    #[serde(rename = "reserved_microcents")]
    pub reserved: i64,
    /// What was spent and paid.
    #[serde(rename = "committed_microcents")]
    pub committed: i64,
    /// What was spent and could not be paid. The shared digest does not cover it, and the shared document has no member
    /// for it: it is written as `debt_microcents`, and only if it is not 0.
    #[serde(rename = "debt_microcents", default)]
    pub debt: i64,
}

impl AccountSnapshot {
    pub(crate) fn new(name: &str, balance: Balance) -> Self {
        let Balance {
            initial,
            remaining,
            reserved,
            committed,
            debt,
            cap: _,
        } = balance;
        Self {
            name: name.to_owned(),
            initial,
            remaining,
            reserved,
            committed,
            debt,
        }
    }

    fn is_balanced(&self) -> bool {
        let parts = [self.remaining, self.reserved, self.committed, self.debt];
        let sum = i128::from(self.remaining) + i128::from(self.reserved) + i128::from(self.committed);
        parts.iter().all(|part| *part >= 0)
            && sum == i128::from(self.initial)
            && (self.debt == 0 || self.remaining == 0)
    }
}

/// A ledger at one moment, with the digest `calyldg1` and the JSON document of the shared contract
/// (docs/spec/formats.md). The digest covers neither debts nor caps, and caps are not in it at all.
///
/// ```
/// use decidable_canon::Canonical;
/// use decidable_ledger::{Ledger, LedgerSnapshot};
///
/// let ledger = Ledger::new();
/// ledger.open_account("acme", 1_000)?;
/// let snapshot = ledger.snapshot();
/// let read = LedgerSnapshot::from_json(&snapshot.to_json())?;
/// assert_eq!(read.digest(), snapshot.digest());
/// # Ok::<(), decidable_ledger::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSnapshot {
    version: u64,
    #[serde(rename = "tenants")]
    accounts: Vec<AccountSnapshot>,
    #[serde(rename = "active_reservations")]
    active_holds: u64,
    #[serde(rename = "wal_high_watermark", default)]
    watermark: Option<u64>,
}

impl LedgerSnapshot {
    pub(crate) fn of(version: u64, mut accounts: Vec<AccountSnapshot>, active_holds: u64) -> Self {
        accounts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self {
            version,
            accounts,
            active_holds,
            watermark: None,
        }
    }

    /// Says up to which record of a log the snapshot goes, by its number.
    #[must_use]
    pub const fn with_watermark(mut self, seq: u64) -> Self {
        self.watermark = Some(seq);
        self
    }

    /// A number that grows with every change of the ledger. One from elsewhere is opaque.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The accounts in ascending byte order of their names.
    #[must_use]
    pub fn accounts(&self) -> &[AccountSnapshot] {
        &self.accounts
    }

    /// The account with this name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<&AccountSnapshot> {
        let place = self
            .accounts
            .binary_search_by(|account| account.name.as_str().cmp(name));
        self.accounts.get(place.ok()?)
    }

    /// How many holds are open.
    #[must_use]
    pub const fn active_holds(&self) -> u64 {
        self.active_holds
    }

    /// Up to which record of a log the snapshot goes, by its number, if it says so.
    #[must_use]
    pub const fn watermark(&self) -> Option<u64> {
        self.watermark
    }

    /// The JSON document, without spaces, in the shared order of members.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self {
            version,
            accounts,
            active_holds,
            watermark,
        } = self;
        let mut out = String::new();
        let _infallible = write!(out, "{{\"version\":{version},\"tenants\":[");
        for (index, account) in accounts.iter().enumerate() {
            let AccountSnapshot {
                name,
                initial,
                remaining,
                reserved,
                committed,
                debt,
            } = account;
            let comma = if index == 0 { "" } else { "," };
            let name = serde_json::Value::from(name.as_str());
            let _infallible = write!(
                out,
                "{comma}{{\"tenant_id\":{name},\"initial_microcents\":{initial},\"remaining_microcents\":{remaining},\
                 \"reserved_microcents\":{reserved},\"committed_microcents\":{committed}"
            );
            if *debt != 0 {
                let _infallible = write!(out, ",\"debt_microcents\":{debt}");
            }
            out.push('}');
        }
        let _infallible = write!(out, "],\"active_reservations\":{active_holds},\"wal_high_watermark\":");
        let _infallible = match watermark {
            Some(seq) => write!(out, "{seq}}}"),
            None => write!(out, "null}}"),
        };
        out
    }

    /// Reads the JSON document, whatever the order of its accounts.
    ///
    /// The figures are taken as they stand: [`LedgerSnapshot::verify`] says whether they balance.
    ///
    /// # Errors
    /// `InvalidSnapshot` if it is not JSON, if a member is missing, unknown, given twice or of another type, or if two
    /// accounts have one name.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let invalid = |what: &dyn core::fmt::Display| {
            Error::new(ErrorKind::InvalidSnapshot, format_args!("not a snapshot: {what}"))
        };
        let mut read: Self = serde_json::from_str(text).map_err(|error| invalid(&error))?;
        read.accounts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut names = read.accounts.iter().map(|account| account.name.as_str());
        let mut before = names.next();
        for name in names {
            if before == Some(name) {
                return Err(invalid(&format_args!("account {name:?} occurs twice")));
            }
            before = Some(name);
        }
        Ok(read)
    }

    /// Checks the equation of every account: `remaining + reserved + committed = initial`, none negative, and
    /// `remaining = 0` where there is debt.
    ///
    /// # Errors
    /// `Unbalanced`, naming the first account whose figures contradict one another.
    pub fn verify(&self) -> Result<(), Error> {
        match self.accounts.iter().find(|account| !account.is_balanced()) {
            None => Ok(()),
            Some(account) => Err(Error::new(
                ErrorKind::Unbalanced,
                format_args!(
                    "account {:?}: remaining {} + reserved {} + committed {} is not initial {}, or one is negative, \
                     or debt {} stands beside what remains",
                    account.name, account.remaining, account.reserved, account.committed, account.initial, account.debt
                ),
            )),
        }
    }

    /// The totals over all accounts, if each fits an `i64`.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        let total = |figure: fn(&AccountSnapshot) -> i64| {
            let sum = self.accounts.iter().map(|account| i128::from(figure(account))).sum();
            cast::i64_from_i128(sum)
        };
        Some(Totals {
            initial: total(|account| account.initial)?,
            committed: total(|account| account.committed)?,
            debt: total(|account| account.debt)?,
        })
    }

    /// The certificate of this snapshot, where `committed_before` was the total committed at the last one, or 0.
    #[must_use]
    pub fn certificate(&self, committed_before: i64) -> Certificate {
        let totals = self.totals();
        Certificate {
            version: self.version,
            digest: self.digest(),
            account_count: cast::u64_from_usize(self.accounts.len()),
            active_holds: self.active_holds,
            balanced: totals.is_some() && self.verify().is_ok(),
            totals,
            committed_since: totals.map(|totals| totals.committed.saturating_sub(committed_before)),
        }
    }
}

impl Canonical for LedgerSnapshot {
    const TAG: Tag = tag::LEDGER;

    fn encode<S: Sink>(&self, out: &mut S) {
        let Self {
            version,
            accounts,
            active_holds,
            watermark,
        } = self;
        out.u64(*version);
        out.u64(cast::u64_from_usize(accounts.len()));
        out.u64(*active_holds);
        for account in accounts {
            let AccountSnapshot {
                name,
                initial,
                remaining,
                reserved,
                committed,
                debt: _, // not part of the shared layout
            } = account;
            out.str(name);
            out.i64(*initial);
            out.i64(*remaining);
            out.i64(*reserved);
            out.i64(*committed);
        }
        if let Some(seq) = watermark {
            out.put(WATERMARK);
            out.u64(*seq);
        }
    }
}

/// Sums over all accounts, in microunits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// All that was given.
    pub initial: i64,
    /// All that was spent and paid.
    pub committed: i64,
    /// All that was spent and could not be paid.
    pub debt: i64,
}

/// What a snapshot says in short: its digest, whether it balances, and totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The version of the snapshot.
    pub version: u64,
    /// The digest of the snapshot.
    pub digest: Digest,
    /// How many accounts there are.
    pub account_count: u64,
    /// How many holds are open.
    pub active_holds: u64,
    /// Whether every account balances and the totals fit an `i64`.
    pub balanced: bool,
    /// The totals, if they fit.
    pub totals: Option<Totals>,
    /// What was committed since the last certificate, if the totals fit.
    pub committed_since: Option<i64>,
}

impl Certificate {
    /// The JSON document of the shared contract, without spaces: totals that do not fit are 0 and marked. Debt, which the
    /// contract does not have, is written as `total_debt_microcents`, and only if it is not 0.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self {
            version,
            digest,
            account_count,
            active_holds,
            balanced,
            totals,
            committed_since,
        } = self;
        let representable = totals.is_some();
        let (initial, committed, debt) = totals.map_or((0, 0, 0), |t| (t.initial, t.committed, t.debt));
        let since = committed_since.unwrap_or_default();
        let mut out = format!(
            "{{\"snapshot_version\":{version},\"ledger_digest_hex\":\"{digest}\",\"tenant_count\":{account_count},\
             \"active_reservations\":{active_holds},\"conservation_balanced\":{balanced},\
             \"total_initial_microcents\":{initial},\"total_committed_microcents\":{committed},\
             \"aggregate_totals_representable\":{representable},\"committed_since_last_certificate\":{since}"
        );
        if debt != 0 {
            let _infallible = write!(out, ",\"total_debt_microcents\":{debt}");
        }
        out.push('}');
        out
    }
}
