//! What can be said of a log from its records alone.

use decidable_canon::Key;
use decidable_ledger::Balance;
use decidable_replay::Record;
use decidable_wal::{Head, Scan, ScanOptions, Scanned, Storage};

use crate::{Book, Entry, Error, ErrorKind};

/// What a verification established. It only exists if every record followed from those before it.
#[derive(Debug)]
pub struct Verified {
    /// What the log's own checks found: chain, batches, seals, private parts, head, tail.
    pub scanned: Scanned,
    /// How many requests were decided, and derived again.
    pub decisions: u64,
    /// How many requests the safety ceiling refused.
    pub refusals: u64,
    /// How many tickets were settled.
    pub settlements: u64,
    /// How many outcomes were observed.
    pub outcomes: u64,
    /// How many policies were installed.
    pub policies: u32,
    /// Names and balances of the accounts, in the order of opening.
    pub balances: Vec<(String, Balance)>,
    /// The numbers of the tickets that are neither settled nor cancelled, with account and hold.
    pub open_tickets: Vec<OpenTicket>,
}

/// A ticket that is open at the end of a log.
#[derive(Clone, Debug)]
pub struct OpenTicket {
    /// Its number.
    pub number: u64,
    /// The number of its record.
    pub seq: u64,
    /// The account that pays, by name.
    pub account: Option<String>,
    /// What is held, in microunits.
    pub held: Option<i64>,
}

/// Reads every record of a log in order, each one derived again from those before it, and hands it to `visit`. What was
/// visited holds only once this returns without an error.
///
/// # Errors
/// The first thing that disagrees, with the number of its record.
pub fn read(
    storage: &dyn Storage,
    options: &ScanOptions,
    mut visit: impl FnMut(&decidable_wal::Record<'_>, &Entry, &Book) -> Result<(), String>,
) -> Result<(Scanned, Book), Error> {
    let mut scan = Scan::open(storage, options)?;
    let mut book = Book::new();
    let mut fault = None;
    loop {
        let more = scan.next_batch(|framed| {
            let entry = book.read(framed).map_err(|error| {
                let message = error.to_string();
                fault = Some(error);
                message
            })?;
            visit(framed, &entry, &book)
        });
        match (more, fault.take()) {
            (_, Some(fault)) => return Err(fault),
            (Err(error), None) => return Err(error.into()),
            (Ok(false), None) => break,
            (Ok(true), None) => {}
        }
    }
    let scanned = scan.finish()?;
    book.expect_names(&scanned)?;
    Ok((scanned, book))
}

/// Derives a whole log again.
///
/// `policies` are the digests of those that were approved: the log must have installed no other. With `None` the log's own
/// copies are taken as they are.
///
/// # Errors
/// As [`read`]; and `PolicyNotGiven` if `policies` are given and the log installed another.
pub fn verify(
    storage: &dyn Storage,
    key: Option<Key>,
    head: Option<Head>,
    policies: Option<&[decidable_canon::Digest]>,
    mut progress: impl FnMut(u64) -> Result<(), String>,
) -> Result<Verified, Error> {
    let options = ScanOptions {
        key,
        head,
        boot_id: None,
    };
    let (mut decisions, mut refusals, mut settlements, mut outcomes) = (0u64, 0u64, 0u64, 0u64);
    let mut stranger = None;
    let (scanned, book) = read(storage, &options, |framed, entry, _| {
        // First, of whatever kind the record is: nobody waits in vain for the next of another kind.
        progress(framed.seq)?;
        if let Entry::Step(record) = entry {
            let counter = match record {
                Record::Decision(_) => &mut decisions,
                Record::Refusal(_) => &mut refusals,
                Record::Settlement(_) => &mut settlements,
                Record::Outcome(_) => &mut outcomes,
                Record::Policy { policy, .. } => {
                    if policies.is_some_and(|given| !given.contains(&policy.digest())) && stranger.is_none() {
                        stranger = Some((policy.digest(), framed.seq));
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *counter = counter.saturating_add(1);
        }
        Ok(())
    })?;
    if let Some((digest, seq)) = stranger {
        return Err(Error::at(ErrorKind::PolicyNotGiven(digest.to_string()), seq));
    }
    let state = book.state();
    let balances = (0..state.accounts())
        .filter_map(|account| Some((book.account_name(account), state.balance(account)?)))
        .collect();
    let open_tickets = state
        .open_tickets()
        .map(|(number, ticket)| OpenTicket {
            number,
            seq: ticket.seq(),
            account: ticket.account().map(|account| book.account_name(account)),
            held: ticket.held(),
        })
        .collect();
    // The state numbers them in 32 bits.
    let policies = decidable_canon::cast::u32_from_usize(state.policies().len()).unwrap_or(u32::MAX);
    Ok(Verified {
        scanned,
        decisions,
        refusals,
        settlements,
        outcomes,
        policies,
        balances,
        open_tickets,
    })
}
