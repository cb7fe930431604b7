//! Many requests at once, as packed rows: exactly the spec's fields in the spec's order, little-endian, no padding.
//!
//! A request row is the layout `calyinp1` without its tag, a decision row is `calydcn1` without its tag
//! (docs/spec/formats.md). Quotes and largest uses stand beside the rows.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use decidable_canon::{Canonical as _, Digest, Message, Reader, Row, cast, tag, units::BPS_WHOLE};

use crate::{
    Decision, Error, Policy, Rejections, RequestFields, Vectors,
    decision::{self, DecisionRow, eligible_of, selected_of},
    lanes::{LANES, Lanes},
    left::PIECE,
    request::{self, RequestRow},
    slower,
};

mod quotes;

pub use quotes::Quotes;

pub use crate::{
    decision::DECISION_ROW_BYTES,
    gate::{BUDGET, NOT_LOOKED_AT, PASSED, UTILITY},
    request::REQUEST_ROW_BYTES,
};

/// Bytes of the counts of one decision: a `u32` for each, in the order of [`Rejections`]' fields.
pub const COUNTS_ROW_BYTES: usize = 9 * 4;

/// Bytes of what is to be held for one decision: a `u64`.
pub const HOLD_ROW_BYTES: usize = 8;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// A thread is worth starting for this many rows of a catalog of ordinary size, and for fewer of a larger one: about ten
/// times what starting it costs.
const ROWS_PER_THREAD: usize = 4_096;

/// A thread takes so many rows at a time, of a larger catalog fewer: some ten microseconds of work.
const ROWS_PER_PIECE: usize = 1_024;

/// So many candidates has a catalog of ordinary size.
const ORDINARY_CANDIDATES: usize = 64;

/// Making a catalog ready for narrow lanes is worth it for this many rows: about ten times what it costs.
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

/// Requests as rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    requests: &'a [RequestRow],
    /// The largest use of each; empty where it is the expected one.
    max_output_tokens: &'a [u32],
}

impl<'a> Rows<'a> {
    /// Takes bytes as rows.
    ///
    /// # Errors
    /// `RowCount` if they are not whole rows; `OutOfRange` with the row and the field if a proportion is above 10,000.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let (requests, rest) = bytes.as_chunks::<REQUEST_ROW_BYTES>();
        if !rest.is_empty() {
            return Err(Error::row_count(
                "rows",
                cast::u64_from_usize(bytes.len()),
                format_args!("a multiple of {REQUEST_ROW_BYTES}"),
            ));
        }
        for (row, request) in requests.iter().enumerate() {
            if !has_proportions(request) {
                RequestFields::from_row(request)
                    .validate()
                    .map_err(|error| error.in_row(row))?;
            }
        }
        Ok(Self {
            requests,
            max_output_tokens: &[],
        })
    }

    /// With the largest use of each. It changes no decision.
    ///
    /// # Errors
    /// `RowCount` if there is not one for each row, `MaximumBelowExpected` with the row.
    pub fn with_max_output_tokens(self, tokens: &'a [u32]) -> Result<Self, Error> {
        if tokens.len() != self.requests.len() {
            return Err(wrong_count::<4>(
                "max_output_tokens",
                tokens.len().saturating_mul(4),
                self.requests.len(),
            ));
        }
        for (row, (request, most)) in self.requests.iter().zip(tokens).enumerate() {
            let expected = RequestFields::from_row(request).output_tokens;
            if *most < expected {
                return Err(Error::maximum_below_expected(*most, expected).in_row(row));
            }
        }
        Ok(Self {
            max_output_tokens: tokens,
            ..self
        })
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
    decide_rows(policy, Rows::new(rows)?, &Quotes::default(), out, plan)
}

/// The same for rows that were taken already, with quotes.
///
/// # Errors
/// `RowCount` if `out` has not one row for each. Nothing is written to `out` then.
pub fn decide_rows(policy: &Policy, rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let requests = rows.requests;
    let decisions = rows_of::<DECISION_ROW_BYTES>("out", out, requests.len())?;
    let vectors = plan.vectors.unwrap_or_else(Vectors::best);
    let lanes = Lanes::new(policy, vectors, requests.len() >= ROWS_WORTH_LANES);
    let lanes = lanes.as_ref();
    share(
        plan,
        policy.candidates().len(),
        requests,
        decisions,
        |first_row, requests, decisions| {
            match lanes {
                Some(lanes) => lanes.decide(requests, decisions),
                None => {
                    for (request, decision) in requests.iter().zip(&mut *decisions) {
                        policy
                            .decide_plainly(&RequestFields::from_row(request), &[])
                            .encode(&mut Row::new(decision));
                    }
                }
            }
            quotes.each(first_row, requests, decisions, |request, costs, room| {
                let fields = RequestFields::from_row(request);
                let unquoted = Decision::decode(&mut Reader::new(room)).ok();
                let requoted = unquoted.and_then(|unquoted| policy.requote(&unquoted, &fields, costs));
                let decision = requoted.unwrap_or_else(|| policy.decide_plainly(&fields, costs));
                if requoted.is_none() && decision.evaluated_models > 0 {
                    slower::count(|slower| &mut slower.requoted);
                }
                decision.encode(&mut Row::new(room));
            });
        },
    );
    Ok(())
}

/// Counts, for every row and gate, the candidates that failed it first: what [`Policy::decide_counted`] counts.
///
/// `decisions` are those of the rows. A row of `out` is nine `u32`, little-endian, in the order of [`Rejections`]' fields.
///
/// # Errors
/// `RowCount` if `decisions` or `out` has not one row for each. Nothing is written to `out` then.
pub fn count(
    policy: &Policy,
    rows: Rows<'_>,
    quotes: &Quotes,
    decisions: &[u8],
    out: &mut [u8],
    plan: Plan,
) -> Result<(), Error> {
    let requests = rows.requests;
    let decided = decisions_of(decisions, requests.len())?;
    let counts = rows_of::<COUNTS_ROW_BYTES>("counts", out, requests.len())?;
    let vectors = plan.vectors.unwrap_or_else(Vectors::best);
    let lanes = Lanes::new(policy, vectors, requests.len() >= ROWS_WORTH_LANES);
    let lanes = lanes.as_ref();
    let write = |room: &mut [u8; COUNTS_ROW_BYTES], counts: &Rejections| counts.encode(&mut Row::new(room));
    share(
        plan,
        policy.candidates().len(),
        requests,
        counts,
        |first_row, requests, rooms| {
            let decided = decided.get(first_row..).unwrap_or_default();
            let groups = requests.chunks(LANES).zip(decided.chunks(LANES));
            for ((requests, decided), rooms) in groups.zip(rooms.chunks_mut(LANES)) {
                let mut each = [None; LANES];
                for (each, (request, decision)) in each.iter_mut().zip(requests.iter().zip(decided)) {
                    *each = Some((request, eligible_of(decision)));
                }
                match lanes.and_then(|lanes| lanes.count(&each)) {
                    Some(counted) => counted
                        .iter()
                        .zip(rooms)
                        .for_each(|(counted, room)| write(room, counted)),
                    None => {
                        for (request, room) in requests.iter().zip(rooms) {
                            write(room, &policy.count_fields(&RequestFields::from_row(request), &[]));
                        }
                    }
                }
            }
            quotes.each(first_row, requests, rooms, |request, costs, room| {
                write(room, &policy.count_fields(&RequestFields::from_row(request), costs));
            });
        },
    );
    Ok(())
}

/// Writes what to hold for every row: what [`Policy::hold`] gives, and 0 where nothing was selected.
///
/// `decisions` are those of the rows. A row of `out` is a `u64`, little-endian.
///
/// # Errors
/// `RowCount` if `decisions` or `out` has not one row for each. Nothing is written to `out` then.
pub fn holds(
    policy: &Policy,
    rows: Rows<'_>,
    quotes: &Quotes,
    decisions: &[u8],
    out: &mut [u8],
    plan: Plan,
) -> Result<(), Error> {
    let requests = rows.requests;
    let decided = decisions_of(decisions, requests.len())?;
    let holds = rows_of::<HOLD_ROW_BYTES>("holds", out, requests.len())?;
    let hold = |row: usize, request: &RequestRow, costs: &[(u32, u64)]| {
        let fields = RequestFields::from_row(request);
        let most = rows.max_output_tokens.get(row).copied().unwrap_or(fields.output_tokens);
        // 0 is the answer where nothing was selected, or what the catalog does not have.
        let selected = decided.get(row).and_then(selected_of);
        let hold = selected.and_then(|model_id| policy.hold_fields(&fields, costs, most, model_id));
        hold.unwrap_or(0).to_le_bytes()
    };
    share(plan, 1, requests, holds, |first_row, requests, rooms| {
        for ((request, room), row) in requests.iter().zip(&mut *rooms).zip(first_row..) {
            *room = hold(row, request, &[]);
        }
        for (row, costs) in quotes.within(first_row..first_row.saturating_add(requests.len())) {
            if let (Some(request), Some(room)) = (requests.get(row), rooms.get_mut(row)) {
                *room = hold(first_row.saturating_add(row), request, costs);
            }
        }
    });
    Ok(())
}

/// Writes, for every row and candidate, the gate at which the candidate lost: 0 if it passed, 1 to 9 for the gates of
/// docs/spec/decisions.md in their order, 255 if no candidate was looked at. It is what [`Policy::explain`] finds, in one byte.
///
/// # Errors
/// `RowCount` if `out` has not one byte for each row and candidate. Nothing is written to `out` then.
pub fn gates(policy: &Policy, rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let requests = rows.requests;
    let candidates = policy.candidates().len();
    if requests.len().checked_mul(candidates) != Some(out.len()) {
        return Err(Error::row_count(
            "gates",
            cast::u64_from_usize(out.len()),
            format_args!("{} rows of {candidates}", requests.len()),
        ));
    }
    share_wide(
        plan,
        candidates,
        requests,
        out,
        candidates,
        |first_row, requests, room| {
            let lose = |row: usize, costs: &[(u32, u64)], room: &mut [u8]| {
                let start = row.saturating_mul(candidates);
                let room = room.get_mut(start..start.saturating_add(candidates));
                if let (Some(request), Some(room)) = (requests.get(row), room) {
                    policy.lose(&RequestFields::from_row(request), costs, room);
                }
            };
            for row in 0..requests.len() {
                lose(row, &[], room);
            }
            for (row, costs) in quotes.within(first_row..first_row.saturating_add(requests.len())) {
                lose(row, costs, room);
            }
        },
    );
    Ok(())
}

/// The digests of rows of requests, 32 bytes each: `calyinp1`, or `dcdreq1` for those that have quotes.
///
/// # Errors
/// `RowCount` if `out` has not one digest for each. Nothing is written to `out` then.
pub fn digest_requests(rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let digests = rows_of::<DIGEST_BYTES>("digests", out, rows.requests.len())?;
    digest::<REQUEST_ROW_BYTES, { request::TAGGED_BYTES }>(plan, tag::REQUEST, rows.requests, digests);
    share(plan, 1, rows.requests, digests, |first_row, requests, digests| {
        quotes.each(first_row, requests, digests, |_, costs, room| {
            *room = *request::quoted_digest(&Digest::from_bytes(*room), costs).bytes();
        });
    });
    Ok(())
}

/// The digests of rows of decisions (`calydcn1`), 32 bytes each. The rows are taken as they are.
///
/// # Errors
/// `RowCount` if `rows` is not whole rows or `out` has not one digest for each. Nothing is written to `out` then.
pub fn digest_decisions(rows: &[u8], out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let (decisions, rest) = rows.as_chunks::<DECISION_ROW_BYTES>();
    if !rest.is_empty() {
        return Err(Error::row_count(
            "rows",
            cast::u64_from_usize(rows.len()),
            format_args!("a multiple of {DECISION_ROW_BYTES}"),
        ));
    }
    let digests = rows_of::<DIGEST_BYTES>("digests", out, decisions.len())?;
    digest::<DECISION_ROW_BYTES, { decision::TAGGED_BYTES }>(plan, tag::DECISION, decisions, digests);
    Ok(())
}

fn digest<const BYTES: usize, const TAGGED: usize>(
    plan: Plan,
    tag: tag::Tag,
    rows: &[[u8; BYTES]],
    digests: &mut [[u8; DIGEST_BYTES]],
) {
    /// Hashed in turn: more than two gain nothing.
    const TOGETHER: usize = 2;
    share(plan, 1, rows, digests, |_, rows, digests| {
        let (pairs, last) = rows.as_chunks::<TOGETHER>();
        let (rooms, last_room) = digests.as_chunks_mut::<TOGETHER>();
        let message = |row: &[u8; BYTES]| Message::<2>::of_row::<TAGGED>(tag, row);
        for (rows, rooms) in pairs.iter().zip(rooms) {
            let messages = rows.each_ref().map(message);
            *rooms = Message::digests(messages.each_ref()).map(|digest: Digest| *digest.bytes());
        }
        for (row, room) in last.iter().zip(last_room) {
            *room = *message(row).digest().bytes();
        }
    });
}

/// Has the work on rows, for each of which so many candidates are looked at, done on the plan's threads, of which the caller's is one. Each takes the next piece of what goes in, with the number of
/// its first row, and of the room for what comes out, so that the caller's works while others start. Threads beyond the machine's
/// cores gain nothing and are not started; where the system refuses one, those that there are do all of it.
fn share<I: Sync, O: Send>(
    plan: Plan,
    candidates: usize,
    input: &[I],
    room: &mut [O],
    work: impl Fn(usize, &[I], &mut [O]) + Sync,
) {
    share_wide(plan, candidates, input, room, 1, work);
}

/// The same, where each row has room for so many.
fn share_wide<I: Sync, O: Send>(
    plan: Plan,
    candidates: usize,
    input: &[I],
    room: &mut [O],
    per_row: usize,
    work: impl Fn(usize, &[I], &mut [O]) + Sync,
) {
    let larger = (candidates / ORDINARY_CANDIDATES).max(1);
    let per_thread = (ROWS_PER_THREAD / larger).max(1);
    // Whole groups of what is decided side by side.
    let per_piece = (ROWS_PER_PIECE / larger).next_multiple_of(PIECE).max(PIECE);
    let worth = plan.threads.min(input.len() / per_thread);
    if worth <= 1 {
        return work(0, input, room);
    }
    let threads = worth.min(thread::available_parallelism().map_or(1, NonZero::get));
    let pieces = (0..).step_by(per_piece).zip(input.chunks(per_piece));
    let pieces = Mutex::new(pieces.zip(room.chunks_mut(per_piece.saturating_mul(per_row.max(1)))));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_part = || {
        while let Some(((first_row, input), room)) = next() {
            work(first_row, input, room);
        }
    };
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, take_part).ok();
        let others: Vec<_> = (1..threads).map_while(start).collect();
        take_part();
        for other in others {
            other.join().unwrap_or_else(|cause| resume_unwind(cause));
        }
    });
}

fn rows_of<'a, const BYTES: usize>(
    what: &'static str,
    bytes: &'a mut [u8],
    rows: usize,
) -> Result<&'a mut [[u8; BYTES]], Error> {
    let length = bytes.len();
    match bytes.as_chunks_mut::<BYTES>() {
        (found, []) if found.len() == rows => Ok(found),
        _ => Err(wrong_count::<BYTES>(what, length, rows)),
    }
}

fn decisions_of(bytes: &[u8], rows: usize) -> Result<&[DecisionRow], Error> {
    match bytes.as_chunks::<DECISION_ROW_BYTES>() {
        (found, []) if found.len() == rows => Ok(found),
        _ => Err(wrong_count::<DECISION_ROW_BYTES>("decisions", bytes.len(), rows)),
    }
}

fn wrong_count<const BYTES: usize>(what: &'static str, bytes: usize, rows: usize) -> Error {
    Error::row_count(
        what,
        cast::u64_from_usize(bytes),
        format_args!("{rows} rows of {BYTES}"),
    )
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
