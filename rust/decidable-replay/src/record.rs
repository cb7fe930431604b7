//! The record kinds and their layouts inside a log (docs/spec/log.md).

use std::sync::Arc;

use decidable_canon::{Canonical as _, Digest, ReadError, ReadErrorKind, Reader, Sink};
use decidable_kernel::{Decision, Policy, Request};
use decidable_ledger::{Balance, Denial};

use crate::{Disposition, Error};

/// The kinds of record, by the number that the log stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A policy was installed.
    Policy,
    /// An account was opened.
    Account,
    /// An account was topped up.
    TopUp,
    /// An account's exposure cap was set.
    Cap,
    /// A request was decided.
    Decision,
    /// A request was refused by the safety ceiling, before any policy.
    Refusal,
    /// A ticket was settled.
    Settlement,
    /// A ticket was cancelled and its hold released.
    Cancellation,
    /// An outcome was observed.
    Outcome,
    /// What was generated was audited.
    Audit,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Policy,
        Self::Account,
        Self::TopUp,
        Self::Cap,
        Self::Decision,
        Self::Refusal,
        Self::Settlement,
        Self::Cancellation,
        Self::Outcome,
        Self::Audit,
    ];

    /// The number in the log. Numbers below 16 belong to the log itself.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Policy => 16,
            Self::Account => 17,
            Self::TopUp => 18,
            Self::Cap => 19,
            Self::Decision => 20,
            Self::Refusal => 21,
            Self::Settlement => 22,
            Self::Cancellation => 23,
            Self::Outcome => 24,
            Self::Audit => 25,
        }
    }
    /// The kind of that number.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
    /// The name in documents, in Python and on the command line.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Account => "account",
            Self::TopUp => "top_up",
            Self::Cap => "cap",
            Self::Decision => "decision",
            Self::Refusal => "refusal",
            Self::Settlement => "settlement",
            Self::Cancellation => "cancellation",
            Self::Outcome => "outcome",
            Self::Audit => "audit",
        }
    }
}

/// What a log keeps of one step: the command and all that followed from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A policy was installed under the next number, from 0.
    Policy {
        /// Its number.
        number: u32,
        /// The policy, whole.
        policy: Arc<Policy>,
        /// Where catalog and prices came from, in the caller's words.
        provenance: String,
    },
    /// An account was opened under the next number, from 0. Its name is the record's private part.
    Account {
        /// Its number.
        account: u32,
        /// Its balance after.
        balance: Balance,
    },
    /// Funds were added.
    TopUp {
        /// Which account.
        account: u32,
        /// How much, in microunits.
        amount: i64,
        /// The balance after.
        balance: Balance,
    },
    /// The exposure cap was set; it is part of the balance.
    Cap {
        /// Which account.
        account: u32,
        /// The balance after.
        balance: Balance,
    },
    /// A request was decided.
    Decision(Arc<DecisionRecord>),
    /// A request was refused before any policy.
    Refusal(Arc<RefusalRecord>),
    /// A ticket was settled.
    Settlement(SettlementRecord),
    /// A ticket was cancelled.
    Cancellation {
        /// Which ticket.
        ticket: u64,
        /// The balance of its account after, if money was held.
        balance: Option<Balance>,
    },
    /// An outcome was observed.
    Outcome(OutcomeRecord),
    /// What was generated for a ticket was audited (docs/spec/audit.md). Nothing follows from it for money or state.
    Audit {
        /// Which ticket.
        ticket: u64,
        /// The chain of the audit after its end.
        hash: Digest,
    },
}

/// A request, what was decided, and what became of the money.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRecord {
    /// The number of the policy that decided.
    pub policy: u32,
    /// The account that was named, if any.
    pub account: Option<u32>,
    /// The request under the number that the engine gave it.
    pub request: Request,
    /// The decision.
    pub decision: Decision,
    /// The digest that binds policy, request and decision (`calyidn1`).
    pub identity: Digest,
    /// What became of the money.
    pub holding: Holding,
    /// The digest of the caller's key, if one was given.
    pub caller_key: Option<Digest>,
}

/// What became of the money of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing was selected, so nothing was asked for.
    Rejected,
    /// Something was selected and no account was named.
    Unheld,
    /// The largest cost was held.
    Held {
        /// How much, in microunits.
        amount: i64,
        /// The balance of the account after.
        balance: Balance,
    },
    /// The account could not hold it.
    Denied {
        /// How much was asked for, in microunits.
        amount: u64,
        /// Why not.
        denial: Denial,
        /// The balance of the account, which did not change.
        balance: Balance,
    },
}

/// A request that the safety ceiling refused.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusalRecord {
    /// The account that was named, if any.
    pub account: Option<u32>,
    /// The request under the number that the engine gave it.
    pub request: Request,
    /// The digest of the caller's key, if one was given.
    pub caller_key: Option<Digest>,
}

/// What was used, as told at settlement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// What it cost, in microunits. Without it the policy prices the tokens.
    pub cost_microunits: Option<u64>,
    /// Tokens that went in.
    pub input_tokens: Option<u32>,
    /// Tokens that came out.
    pub output_tokens: Option<u32>,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// How long the decision took to become durable, in nanoseconds.
    pub durable_ns: Option<u64>,
}

/// A ticket that was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlementRecord {
    /// Which ticket.
    pub ticket: u64,
    /// What was used.
    pub used: Use,
    /// What was charged, in microunits; the part of it that the account could not pay is `debt`.
    pub charged: i64,
    /// What was held above the charge and returned.
    pub returned: i64,
    /// What the account could not pay of this charge.
    pub debt: i64,
    /// The balance of the account after, if money was held.
    pub balance: Option<Balance>,
}

/// An outcome that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// Which ticket.
    pub ticket: u64,
    /// When it was observed, microseconds since 1970-01-01 UTC.
    pub observed_at_micros: u64,
    /// Which observation of the ticket it is, from 1.
    pub revision: u32,
    /// What became of the action.
    pub disposition: Disposition,
    /// What it cost, in microunits.
    pub realized_cost_microunits: Option<u64>,
    /// How long it took, in milliseconds.
    pub realized_latency_ms: Option<u32>,
    /// Whether it did what it was for.
    pub succeeded: Option<bool>,
    /// The digest of the outcome (`calyout1`).
    pub digest: Digest,
}

impl Record {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Policy { .. } => Kind::Policy,
            Self::Account { .. } => Kind::Account,
            Self::TopUp { .. } => Kind::TopUp,
            Self::Cap { .. } => Kind::Cap,
            Self::Decision(_) => Kind::Decision,
            Self::Refusal(_) => Kind::Refusal,
            Self::Settlement(_) => Kind::Settlement,
            Self::Cancellation { .. } => Kind::Cancellation,
            Self::Outcome(_) => Kind::Outcome,
            Self::Audit { .. } => Kind::Audit,
        }
    }

    /// Writes the payload that the log stores under [`Record::kind`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Policy {
                number,
                policy,
                provenance,
            } => {
                out.u32(*number);
                out.digest(&policy.digest());
                out.str(provenance);
                policy.encode(out);
            }
            Self::Account { account, balance } | Self::Cap { account, balance } => {
                out.u32(*account);
                encode_balance(balance, out);
            }
            Self::TopUp {
                account,
                amount,
                balance,
            } => {
                out.u32(*account);
                out.i64(*amount);
                encode_balance(balance, out);
            }
            Self::Decision(record) => {
                let DecisionRecord {
                    policy,
                    account,
                    request,
                    decision,
                    identity,
                    holding,
                    caller_key,
                } = &**record;
                out.u32(*policy);
                out.option(*account, Vec::u32);
                request.encode(out);
                decision.encode(out);
                out.digest(identity);
                encode_holding(holding, out);
                out.option(caller_key.as_ref(), Vec::digest);
            }
            Self::Refusal(record) => {
                let RefusalRecord {
                    account,
                    request,
                    caller_key,
                } = &**record;
                out.option(*account, Vec::u32);
                request.encode(out);
                out.option(caller_key.as_ref(), Vec::digest);
            }
            Self::Settlement(SettlementRecord {
                ticket,
                used,
                charged,
                returned,
                debt,
                balance,
            }) => {
                out.u64(*ticket);
                encode_use(used, out);
                out.i64(*charged);
                out.i64(*returned);
                out.i64(*debt);
                out.option(balance.as_ref(), |out, balance| encode_balance(balance, out));
            }
            Self::Cancellation { ticket, balance } => {
                out.u64(*ticket);
                out.option(balance.as_ref(), |out, balance| encode_balance(balance, out));
            }
            Self::Outcome(record) => {
                let OutcomeRecord {
                    ticket,
                    observed_at_micros,
                    revision,
                    disposition,
                    realized_cost_microunits,
                    realized_latency_ms,
                    succeeded,
                    digest,
                } = record;
                out.u64(*ticket);
                out.u64(*observed_at_micros);
                out.u32(*revision);
                out.u8(disposition.code());
                out.option(*realized_cost_microunits, Vec::u64);
                out.option(*realized_latency_ms, Vec::u32);
                out.option(*succeeded, Vec::bool);
                out.digest(digest);
            }
            Self::Audit { ticket, hash } => {
                out.u64(*ticket);
                out.digest(hash);
            }
        }
    }

    /// Reads the payload of a record of `kind`.
    ///
    /// # Errors
    /// `Unreadable` if the bytes are not exactly the layout of that kind.
    pub fn decode(kind: Kind, payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        let record = match kind {
            Kind::Policy => Self::decode_policy(&mut reader)?,
            _ => Self::decode_step(kind, &mut reader).map_err(|error| Error::unreadable(kind.label(), &error))?,
        };
        reader
            .finish()
            .map_err(|error| Error::unreadable(kind.label(), &error))?;
        Ok(record)
    }

    fn decode_policy(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let unreadable = |error: ReadError| Error::unreadable(Kind::Policy.label(), &error);
        let number = reader.u32().map_err(unreadable)?;
        let written = reader.digest().map_err(unreadable)?;
        let provenance = reader.str().map_err(unreadable)?.to_owned();
        let policy = Policy::decode(reader).map_err(|error| Error::unreadable(Kind::Policy.label(), &error))?;
        if policy.digest() != written {
            return Err(Error::disagrees("the digest of a policy", written, policy.digest()));
        }
        Ok(Self::Policy {
            number,
            policy: Arc::new(policy),
            provenance,
        })
    }

    fn decode_step(kind: Kind, reader: &mut Reader<'_>) -> Result<Self, decidable_kernel::Error> {
        Ok(match kind {
            Kind::Policy => return Err(reader.error(ReadErrorKind::OutOfRange).into()),
            Kind::Account => Self::Account {
                account: reader.u32()?,
                balance: decode_balance(reader)?,
            },
            Kind::Cap => Self::Cap {
                account: reader.u32()?,
                balance: decode_balance(reader)?,
            },
            Kind::TopUp => Self::TopUp {
                account: reader.u32()?,
                amount: reader.i64()?,
                balance: decode_balance(reader)?,
            },
            Kind::Decision => Self::Decision(Arc::new(DecisionRecord {
                policy: reader.u32()?,
                account: reader.option(Reader::u32)?,
                request: Request::decode(reader)?,
                decision: Decision::decode(reader)?,
                identity: reader.digest()?,
                holding: decode_holding(reader)?,
                caller_key: reader.option(Reader::digest)?,
            })),
            Kind::Refusal => Self::Refusal(Arc::new(RefusalRecord {
                account: reader.option(Reader::u32)?,
                request: Request::decode(reader)?,
                caller_key: reader.option(Reader::digest)?,
            })),
            Kind::Settlement => Self::Settlement(SettlementRecord {
                ticket: reader.u64()?,
                used: decode_use(reader)?,
                charged: reader.i64()?,
                returned: reader.i64()?,
                debt: reader.i64()?,
                balance: reader.option(decode_balance)?,
            }),
            Kind::Cancellation => Self::Cancellation {
                ticket: reader.u64()?,
                balance: reader.option(decode_balance)?,
            },
            Kind::Outcome => Self::Outcome(OutcomeRecord {
                ticket: reader.u64()?,
                observed_at_micros: reader.u64()?,
                revision: reader.u32()?,
                disposition: {
                    let error = reader.error(ReadErrorKind::OutOfRange);
                    Disposition::from_code(reader.u8()?).ok_or(error)?
                },
                realized_cost_microunits: reader.option(Reader::u64)?,
                realized_latency_ms: reader.option(Reader::u32)?,
                succeeded: reader.option(Reader::bool)?,
                digest: reader.digest()?,
            }),
            Kind::Audit => Self::Audit {
                ticket: reader.u64()?,
                hash: reader.digest()?,
            },
        })
    }
}

fn encode_balance(balance: &Balance, out: &mut Vec<u8>) {
    let Balance {
        initial,
        remaining,
        reserved,
        committed,
        debt,
        cap,
    } = balance;
    out.i64(*initial);
    out.i64(*remaining);
    out.i64(*reserved);
    out.i64(*committed);
    out.i64(*debt);
    out.option(*cap, Vec::i64);
}

fn decode_balance(reader: &mut Reader<'_>) -> Result<Balance, ReadError> {
    Ok(Balance {
        initial: reader.i64()?,
        remaining: reader.i64()?,
        reserved: reader.i64()?,
        committed: reader.i64()?,
        debt: reader.i64()?,
        cap: reader.option(Reader::i64)?,
    })
}

fn encode_holding(holding: &Holding, out: &mut Vec<u8>) {
    match holding {
        Holding::Rejected => out.u8(0),
        Holding::Unheld => out.u8(1),
        Holding::Held { amount, balance } => {
            out.u8(2);
            out.i64(*amount);
            encode_balance(balance, out);
        }
        Holding::Denied {
            amount,
            denial,
            balance,
        } => {
            out.u8(3);
            out.u64(*amount);
            out.u8(denial.code());
            encode_balance(balance, out);
        }
    }
}

fn decode_holding(reader: &mut Reader<'_>) -> Result<Holding, ReadError> {
    let error = reader.error(ReadErrorKind::OutOfRange);
    Ok(match reader.u8()? {
        0 => Holding::Rejected,
        1 => Holding::Unheld,
        2 => Holding::Held {
            amount: reader.i64()?,
            balance: decode_balance(reader)?,
        },
        3 => {
            let amount = reader.u64()?;
            let error = reader.error(ReadErrorKind::OutOfRange);
            let denial = Denial::from_code(reader.u8()?).ok_or(error)?;
            Holding::Denied {
                amount,
                denial,
                balance: decode_balance(reader)?,
            }
        }
        _ => return Err(error),
    })
}

fn encode_use(used: &Use, out: &mut Vec<u8>) {
    let Use {
        cost_microunits,
        input_tokens,
        output_tokens,
        latency_ms,
        durable_ns,
    } = used;
    out.option(*cost_microunits, Vec::u64);
    out.option(*input_tokens, Vec::u32);
    out.option(*output_tokens, Vec::u32);
    out.option(*latency_ms, Vec::u32);
    out.option(*durable_ns, Vec::u64);
}

fn decode_use(reader: &mut Reader<'_>) -> Result<Use, ReadError> {
    Ok(Use {
        cost_microunits: reader.option(Reader::u64)?,
        input_tokens: reader.option(Reader::u32)?,
        output_tokens: reader.option(Reader::u32)?,
        latency_ms: reader.option(Reader::u32)?,
        durable_ns: reader.option(Reader::u64)?,
    })
}
