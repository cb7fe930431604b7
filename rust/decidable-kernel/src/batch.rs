//! Many requests at once, as packed rows: exactly the spec's fields in the spec's order, little-endian, no padding.
//!
//! A request row is the layout `calyinp1` without its tag, a decision row is `calydcn1` without its tag
//! (docs/spec/formats.md). A row has no quotes, and its largest use is the expected one.

use std::{panic::resume_unwind, thread};

use decidable_canon::{Canonical as _, Row, cast, units::BPS_WHOLE};

use crate::{Error, Policy, RequestFields, Vectors, decision::DecisionRow, lanes::Lanes, request::RequestRow};

pub use crate::{decision::DECISION_ROW_BYTES, request::REQUEST_ROW_BYTES};

/// A thread is worth starting for this many rows: about ten times what starting it costs.
const ROWS_PER_THREAD: usize = 4_096;

/// Making a catalog ready for lanes is worth it for this many rows: about ten times what it costs.
const ROWS_WORTH_LANES: usize = 32;

/// How a batch is decided. Nothing of it changes a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// On at most so many threads; 0 counts as 1.
    pub threads: usize,
    /// With these instructions, if the machine has them; by default the best that it has. For measuring and testing.
    pub vectors: Option<Vectors>,
}

impl Plan {
    /// On at most so many threads, with the best instructions that the machine has.
    #[must_use]
    pub const fn threads(threads: usize) -> Self {
        Self { threads, vectors: None }
    }
}

/// Decides `rows`, in order, into `out`.
///
/// Row *n* of `out` is the decision that [`Policy::decide`] gives for row *n*.
///
/// # Errors
/// `RowCount` if `rows` is not whole rows or `out` has not one row for each, `OutOfRange` with the row and the field if
/// a proportion is above 10,000. Nothing is written to `out` then.
pub fn decide(policy: &Policy, rows: &[u8], out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let (requests, rest) = rows.as_chunks::<REQUEST_ROW_BYTES>();
    if !rest.is_empty() {
        return Err(Error::row_count(
            "rows",
            cast::u64_from_usize(rows.len()),
            format_args!("a multiple of {REQUEST_ROW_BYTES}"),
        ));
    }
    let out_bytes = cast::u64_from_usize(out.len());
    let (decisions, rest) = out.as_chunks_mut::<DECISION_ROW_BYTES>();
    if decisions.len() != requests.len() || !rest.is_empty() {
        return Err(Error::row_count(
            "out",
            out_bytes,
            format_args!("{} rows of {DECISION_ROW_BYTES}", requests.len()),
        ));
    }
    for (row, request) in requests.iter().enumerate() {
        if !has_proportions(request) {
            RequestFields::from_row(request)
                .validate()
                .map_err(|error| error.in_row(row))?;
        }
    }
    let threads = plan.threads.min(requests.len() / ROWS_PER_THREAD).max(1);
    let lanes = (requests.len() >= ROWS_WORTH_LANES)
        .then(|| Lanes::new(policy, plan.vectors.unwrap_or_else(Vectors::best)))
        .flatten();
    let lanes = lanes.as_ref();
    if threads == 1 {
        decide_rows(policy, lanes, requests, decisions);
        return Ok(());
    }
    let share = requests.len().div_ceil(threads);
    thread::scope(|scope| {
        let shares = requests.chunks(share).zip(decisions.chunks_mut(share));
        let workers: Vec<_> = shares
            .map(|(requests, decisions)| scope.spawn(move || decide_rows(policy, lanes, requests, decisions)))
            .collect();
        for worker in workers {
            worker.join().unwrap_or_else(|cause| resume_unwind(cause));
        }
    });
    Ok(())
}

fn decide_rows(policy: &Policy, lanes: Option<&Lanes<'_>>, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
    match lanes {
        Some(lanes) => lanes.decide(requests, decisions),
        None => {
            for (request, decision) in requests.iter().zip(decisions) {
                policy
                    .decide_plainly(&RequestFields::from_row(request), &[])
                    .encode(&mut Row::new(decision));
            }
        }
    }
}

/// Whether the three proportions of a row are at most the whole: `RequestFields::validate` for most rows, and quicker.
#[inline(always)]
fn has_proportions(row: &RequestRow) -> bool {
    const PROPORTIONS: usize = 8 + 4 + 4 + 4 + 8 + 8;
    let Some((_, [r0, r1, c0, c1, q0, q1, ..])) = row.split_at_checked(PROPORTIONS) else {
        return false;
    };
    [[*r0, *r1], [*c0, *c1], [*q0, *q1]]
        .into_iter()
        .all(|bps| u16::from_le_bytes(bps) <= BPS_WHOLE)
}
