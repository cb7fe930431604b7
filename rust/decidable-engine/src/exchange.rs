//! The exchange format: verifying logs of the reference implementation, and writing ours so that it verifies them.

use std::io::{BufRead, Write};

use decidable_canon::{Digest, Key, hex};
use decidable_kernel::Policy;
use decidable_replay::Record;
use decidable_wal::exchange::{Anchor, Read, ReadOptions, Writer, read as read_lines};
use decidable_wal::{PrivatePart, ScanOptions, Storage, Tail};

use crate::{Entry, Error, ErrorKind, read};

/// What a verification of an exchange log established.
#[derive(Debug)]
pub struct ExchangeVerified {
    /// What the chain says.
    pub read: Read,
    /// How many decisions were derived again under a given policy.
    pub rederived: u64,
    /// The digests of policies that decided and were not given, each once, and of many only the first eight.
    pub missing_policies: Vec<Digest>,
    /// How many decisions are of policies that were not given and are not among those eight.
    pub unnamed: u64,
}

/// How many policies that were not given, or decisions that cannot be exported, are named; the rest are counted. Whoever
/// wrote the log decides how many there are.
const NAMED: usize = 8;

/// Verifies an exchange log: chain, digests, and every decision whose policy is among `policies`.
///
/// # Errors
/// The first thing that disagrees, with its line.
pub fn verify_exchange(
    source: impl BufRead,
    key: Option<Key>,
    anchor: Option<Anchor>,
    policies: &[&Policy],
    mut progress: impl FnMut(u64) -> Result<(), String>,
) -> Result<ExchangeVerified, Error> {
    let mut fault = None;
    let mut rederived = 0u64;
    let mut missing_policies: Vec<Digest> = Vec::new();
    let mut unnamed = 0u64;
    let outcome = read_lines(source, &ReadOptions { key, anchor }, |entry| {
        let audited = decidable_replay::exchange::verify(entry.data, policies).map_err(|error| {
            let message = error.to_string();
            fault = Some(Error::at(ErrorKind::Replay(error), entry.sequence));
            message
        })?;
        if audited.rederived {
            rederived = rederived.saturating_add(1);
        } else if !missing_policies.contains(&audited.policy_digest) {
            if missing_policies.len() < NAMED {
                missing_policies.push(audited.policy_digest);
            } else {
                unnamed = unnamed.saturating_add(1);
            }
        }
        progress(entry.sequence)
    });
    match (outcome, fault) {
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(error.into()),
        (Ok(read), None) => Ok(ExchangeVerified {
            read,
            rederived,
            missing_policies,
            unnamed,
        }),
    }
}

/// What an export wrote.
#[derive(Debug)]
pub struct Exported {
    /// How many decisions were written.
    pub decisions: u64,
    /// Where the written log ends; keep it elsewhere. `None` if there was no decision.
    pub anchor: Option<Anchor>,
    /// How many requests the safety ceiling had refused; the format has no place for them.
    pub refusals: u64,
    /// Bytes after the log's last whole batch: they are no records, and nothing of them was written.
    pub tail: Option<Tail>,
}

/// Writes the decisions of a log in the exchange format. The metadata of each line name the record it came from, and
/// carry the caller's own unless they were erased.
///
/// # Errors
/// If the log does not verify; `NotExportable`, naming them, if decisions used extensions that the format cannot hold.
pub fn export(
    storage: &dyn Storage,
    key: Option<Key>,
    out: impl Write,
    out_key: Option<Key>,
    mut progress: impl FnMut(u64) -> Result<(), String>,
) -> Result<Exported, Error> {
    let mut writer = Writer::new(out, out_key);
    let mut fault = None;
    let mut refused = Refused::default();
    let (mut decisions, mut refusals) = (0u64, 0u64);
    let mut log_id = None;
    let options = ScanOptions {
        key,
        ..ScanOptions::default()
    };
    let head_id = decidable_wal::Scan::open(storage, &options)?.log_id();
    let outcome = read(storage, &options, |framed, entry, book| {
        progress(framed.seq)?;
        let Entry::Step(Record::Decision(record)) = entry else {
            if matches!(entry, Entry::Step(Record::Refusal(_))) {
                refusals = refusals.saturating_add(1);
            }
            return Ok(());
        };
        let id = log_id.get_or_insert_with(|| hex::encode(&head_id));
        let Some(policy) = book
            .state()
            .policies()
            .get(decidable_canon::cast::usize_from_u32(record.policy))
        else {
            return Err("a decision names a policy that is not installed".to_owned());
        };
        let metadata = metadata(framed, id);
        match decidable_replay::exchange::write(policy, record, &metadata) {
            Err(error) => refused.add(record.request.fields().request_sequence, &error),
            Ok(data) => {
                if refused.why.is_none() {
                    writer.append(data.as_bytes()).map_err(|error| {
                        let message = error.to_string();
                        fault = Some(Error::from(error));
                        message
                    })?;
                    decisions = decisions.saturating_add(1);
                }
            }
        }
        Ok(())
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    let (scanned, _) = outcome?;
    if let Some(message) = refused.message() {
        return Err(Error::new(ErrorKind::NotExportable(message)));
    }
    let anchor = writer.anchor();
    writer
        .into_inner()
        .flush()
        .map_err(|error| Error::new(ErrorKind::NotWritten(error.to_string())))?;
    Ok(Exported {
        decisions,
        anchor,
        refusals,
        tail: scanned.tail,
    })
}

/// The decisions that cannot be exported: the first few by number, how many more, and why the first cannot.
#[derive(Default)]
struct Refused {
    named: Vec<String>,
    more: u64,
    why: Option<String>,
}

impl Refused {
    fn add(&mut self, number: u64, error: &decidable_replay::Error) {
        if self.named.len() < NAMED {
            self.named.push(number.to_string());
        } else {
            self.more = self.more.saturating_add(1);
        }
        self.why.get_or_insert_with(|| error.to_string());
    }

    fn message(&self) -> Option<String> {
        let Self { named, more, why } = self;
        let more = if *more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        why.as_ref()
            .map(|why| format!("decisions {}{more} cannot be exported; {why}", named.join(", ")))
    }
}

/// `{"decidable":{"log_id":…,"seq":…,"hash":…},"metadata":…}`: where the decision stands in our log, and the
/// caller's metadata as JSON, or as a JSON string where they are not JSON.
fn metadata(framed: &decidable_wal::Record<'_>, log_id: &str) -> String {
    let own = match framed.private {
        PrivatePart::Present(bytes) => match core::str::from_utf8(bytes) {
            Ok(text) => decidable_replay::exchange::json(text),
            // What is not text was refused when the record was read (`Book::read`).
            Err(_) => "null".to_owned(),
        },
        PrivatePart::None | PrivatePart::Erased => "null".to_owned(),
    };
    format!(
        "{{\"decidable\":{{\"log_id\":\"{log_id}\",\"seq\":{},\"hash\":\"{}\"}},\"metadata\":{own}}}",
        framed.seq, framed.hash
    )
}
