//! Many requests at once, as packed rows: exactly the spec's fields in the spec's order, little-endian, no padding.
//!
//! A request row is the layout `calyinp1` without its tag, a decision row is `calydcn1` without its tag
//! (docs/spec/formats.md). Quotes and largest uses stand beside the rows.

use std::sync::atomic::{AtomicUsize, Ordering};

use decidable_canon::{Canonical as _, Digest, Message, Reader, Row, cast, tag, units::BPS_WHOLE};

use crate::{
    Decision, Error, Policy, Rejections, RequestFields, Vectors,
    decision::{self, DecisionRow, NO_INDEX, origin_of, selected_of},
    gate::refusal,
    lanes::{COUNTED_TOGETHER, Lanes},
    request::{self, RequestRow},
    slower,
};

mod quotes;
mod threads;

pub use quotes::Quotes;
use threads::share;
pub use threads::{Within, after_fork, before_fork, forked, on_threads, run_within, this_process};

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

/// Making a catalog ready for narrow lanes is worth it for this many rows: about ten times what it costs.
const ROWS_WORTH_LANES: usize = 32;

/// Looking at so many rows takes longer than waking a thread.
const ROWS_WORTH_THREADS: usize = 32_768;

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
    /// Takes bytes as rows, and looks at them on at most so many threads.
    ///
    /// # Errors
    /// `RowCount` if they are not whole rows; `OutOfRange` with the row and the field if a proportion is above 10,000.
    pub fn new(bytes: &'a [u8], threads: usize) -> Result<Self, Error> {
        let (requests, rest) = bytes.as_chunks::<REQUEST_ROW_BYTES>();
        if !rest.is_empty() {
            return Err(Error::row_count(
                "rows",
                cast::u64_from_usize(bytes.len()),
                format_args!("a multiple of {REQUEST_ROW_BYTES}"),
            ));
        }
        let wrong = first_wrong(threads, requests, |_, part| {
            part.iter().position(|row| !has_proportions(row))
        });
        if let Some((row, wrong)) = wrong {
            RequestFields::from_row(wrong)
                .validate()
                .map_err(|error| error.in_row(row))?;
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
    decide_rows(policy, Rows::new(rows, plan.threads)?, &Quotes::default(), out, plan)
}

/// The same for rows that were taken already, with quotes.
///
/// # Errors
/// `RowCount` if `out` has not one row for each, or `quotes` are those of another number of rows. Nothing is written to `out` then.
pub fn decide_rows(policy: &Policy, rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let requests = rows.requests;
    quotes.fit(requests.len())?;
    let decisions = rows_of::<DECISION_ROW_BYTES>("out", out, requests.len())?;
    let vectors = plan.vectors.unwrap_or_else(Vectors::best);
    let lanes = Lanes::new(policy, vectors, requests.len() >= ROWS_WORTH_LANES);
    let lanes = lanes.as_ref();
    share(
        plan.threads,
        policy.candidates().len(),
        requests,
        decisions,
        1,
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
            quotes.each(first_row, requests, decisions, |_, request, costs, room| {
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
/// `decisions` are what [`decide_rows`] writes for the rows and quotes. They are not made again: of each its number, epochs, counts
/// of models and selection are looked at, and its `eligible_models` are taken as they are. With every way to decide `utility` is what
/// the other counts and they leave of the candidates, and 0 where they leave nothing. A row of `out` is nine `u32`, little-endian, in
/// the order of [`Rejections`]' fields.
///
/// # Errors
/// `RowCount` if `decisions` or `out` has not one row for each, or `quotes` are those of another number of rows; `OtherDecision` with
/// the row and the first of these fields that is another: `request_sequence` is the request's; `policy_epoch` and `catalog_epoch` are the policy's; `evaluated_models` is 0 where
/// the policy refuses the request before any candidate is looked at, else the number of candidates; `eligible_models` is not more;
/// `selected_model_index` and `selected_model_id` are those of a candidate, or of none where none is eligible. Nothing is written to
/// `out` then.
pub fn count(
    policy: &Policy,
    rows: Rows<'_>,
    quotes: &Quotes,
    decisions: &[u8],
    out: &mut [u8],
    plan: Plan,
) -> Result<(), Error> {
    let requests = rows.requests;
    quotes.fit(requests.len())?;
    let decided = decisions_of(policy, requests, decisions, plan.threads)?;
    let counts = rows_of::<COUNTS_ROW_BYTES>("counts", out, requests.len())?;
    let vectors = plan.vectors.unwrap_or_else(Vectors::best);
    let lanes = Lanes::new(policy, vectors, requests.len() >= ROWS_WORTH_LANES);
    let lanes = lanes.as_ref();
    let write = |room: &mut [u8; COUNTS_ROW_BYTES], counts: &Rejections| counts.encode(&mut Row::new(room));
    // As those side by side are counted, whatever the decision says.
    let counted = |request: &RequestRow, decision: &DecisionRow, costs: &[(u32, u64)]| {
        let origin = origin_of(decision);
        policy
            .count_fields(&RequestFields::from_row(request), costs)
            .leaving(origin.evaluated_models.into(), origin.eligible_models)
    };
    share(
        plan.threads,
        policy.candidates().len(),
        requests,
        counts,
        1,
        |first_row, requests, rooms| {
            let decided = decided.get(first_row..).unwrap_or_default();
            let groups = requests.chunks(COUNTED_TOGETHER).zip(decided.chunks(COUNTED_TOGETHER));
            for ((requests, decided), rooms) in groups.zip(rooms.chunks_mut(COUNTED_TOGETHER)) {
                let mut each = [None; COUNTED_TOGETHER];
                for (each, (request, decision)) in each.iter_mut().zip(requests.iter().zip(decided)) {
                    *each = Some((request, origin_of(decision).eligible_models));
                }
                match lanes.and_then(|lanes| lanes.count(&each)) {
                    Some(counted) => counted
                        .iter()
                        .zip(rooms)
                        .for_each(|(counted, room)| write(room, counted)),
                    None => {
                        for ((request, decision), room) in requests.iter().zip(decided).zip(rooms) {
                            write(room, &counted(request, decision, &[]));
                        }
                    }
                }
            }
            quotes.each(first_row, requests, rooms, |row, request, costs, room| {
                if let Some(decision) = decided.get(row) {
                    write(room, &counted(request, decision, costs));
                }
            });
        },
    );
    Ok(())
}

/// Writes what to hold for every row: what [`Policy::hold`] gives, and 0 where nothing was selected.
///
/// `decisions` are those of [`count`], and are looked at as there; which candidate is selected is taken as it is. A row of `out` is a
/// `u64`, little-endian.
///
/// # Errors
/// `RowCount` if `decisions` or `out` has not one row for each, or `quotes` are those of another number of rows; `OtherDecision` as of
/// [`count`]. Nothing is written to `out` then.
pub fn holds(
    policy: &Policy,
    rows: Rows<'_>,
    quotes: &Quotes,
    decisions: &[u8],
    out: &mut [u8],
    plan: Plan,
) -> Result<(), Error> {
    let requests = rows.requests;
    quotes.fit(requests.len())?;
    let decided = decisions_of(policy, requests, decisions, plan.threads)?;
    let holds = rows_of::<HOLD_ROW_BYTES>("holds", out, requests.len())?;
    let hold = |row: usize, request: &RequestRow, costs: &[(u32, u64)]| {
        let fields = RequestFields::from_row(request);
        let most = rows.max_output_tokens.get(row).copied().unwrap_or(fields.output_tokens);
        let selected = decided.get(row).map(|decision| selected_of(decision).0);
        // Nobody has the number 0, which stands where nothing was selected.
        let hold = selected.and_then(|model_id| policy.hold_fields(&fields, costs, most, model_id));
        hold.unwrap_or(0).to_le_bytes()
    };
    share(plan.threads, 1, requests, holds, 1, |first_row, requests, rooms| {
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
/// `RowCount` if `out` has not one byte for each row and candidate, or `quotes` are those of another number of rows. Nothing is written to
/// `out` then.
pub fn gates(policy: &Policy, rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    let requests = rows.requests;
    quotes.fit(requests.len())?;
    let candidates = policy.candidates().len();
    if requests.len().checked_mul(candidates) != Some(out.len()) {
        return Err(Error::row_count(
            "gates",
            cast::u64_from_usize(out.len()),
            format_args!("{} rows of {candidates}", requests.len()),
        ));
    }
    share(
        plan.threads,
        candidates,
        requests,
        out,
        candidates,
        |first_row, requests, rooms| {
            let lose = |request: &RequestRow, costs: &[(u32, u64)], room: &mut [u8]| {
                policy.lose(&RequestFields::from_row(request), costs, room);
            };
            for (request, room) in requests.iter().zip(rooms.chunks_exact_mut(candidates)) {
                lose(request, &[], room);
            }
            for (row, costs) in quotes.within(first_row..first_row.saturating_add(requests.len())) {
                if let (Some(request), Some(room)) = (requests.get(row), rooms.chunks_exact_mut(candidates).nth(row)) {
                    lose(request, costs, room);
                }
            }
        },
    );
    Ok(())
}

/// The digests of rows of requests, 32 bytes each: `calyinp1`, or `dcdreq1` for those that have quotes.
///
/// # Errors
/// `RowCount` if `out` has not one digest for each, or `quotes` are those of another number of rows. Nothing is written to `out` then.
pub fn digest_requests(rows: Rows<'_>, quotes: &Quotes, out: &mut [u8], plan: Plan) -> Result<(), Error> {
    quotes.fit(rows.requests.len())?;
    let digests = rows_of::<DIGEST_BYTES>("digests", out, rows.requests.len())?;
    digest::<REQUEST_ROW_BYTES, { request::TAGGED_BYTES }>(plan.threads, tag::REQUEST, rows.requests, digests);
    share(
        plan.threads,
        1,
        rows.requests,
        digests,
        1,
        |first_row, requests, digests| {
            quotes.each(first_row, requests, digests, |_, _, costs, room| {
                *room = *request::quoted_digest(&Digest::from_bytes(*room), costs).bytes();
            });
        },
    );
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
    digest::<DECISION_ROW_BYTES, { decision::TAGGED_BYTES }>(plan.threads, tag::DECISION, decisions, digests);
    Ok(())
}

fn digest<const BYTES: usize, const TAGGED: usize>(
    threads: usize,
    tag: tag::Tag,
    rows: &[[u8; BYTES]],
    digests: &mut [[u8; DIGEST_BYTES]],
) {
    /// Hashed in turn: more than two gain nothing.
    const TOGETHER: usize = 2;
    share(threads, 1, rows, digests, 1, |_, rows, digests| {
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

/// The decisions of rows: what a caller has of another batch would give wrong counts.
fn decisions_of<'a>(
    policy: &Policy,
    requests: &[RequestRow],
    bytes: &'a [u8],
    threads: usize,
) -> Result<&'a [DecisionRow], Error> {
    let decisions = match bytes.as_chunks::<DECISION_ROW_BYTES>() {
        (found, []) if found.len() == requests.len() => found,
        _ => {
            return Err(wrong_count::<DECISION_ROW_BYTES>(
                "decisions",
                bytes.len(),
                requests.len(),
            ));
        }
    };
    let limits = policy.limits();
    let candidates = u16::try_from(policy.candidates().len()).unwrap_or(u16::MAX);
    let others = |request: &RequestRow, decision: &DecisionRow| {
        let origin = origin_of(decision);
        let (model_id, index) = selected_of(decision);
        let fields = RequestFields::from_row(request);
        // Of a request that was refused at once, nobody was looked at.
        let evaluated = if refusal(limits, &fields).is_some() {
            0
        } else {
            candidates
        };
        let (of_model, of_index) = if origin.eligible_models == 0 {
            (0, NO_INDEX)
        } else {
            let selected = policy.candidates().get(usize::from(index));
            let last = candidates.saturating_sub(1);
            (selected.map_or(0, |candidate| candidate.model_id), index.min(last))
        };
        [
            ("request_sequence", origin.request_sequence, fields.request_sequence),
            ("policy_epoch", origin.policy_epoch, limits.policy_epoch),
            ("catalog_epoch", origin.catalog_epoch, limits.catalog_epoch),
            ("evaluated_models", origin.evaluated_models.into(), evaluated.into()),
            (
                "eligible_models",
                origin.eligible_models.into(),
                origin.eligible_models.min(evaluated).into(),
            ),
            ("selected_model_index", index.into(), of_index.into()),
            ("selected_model_id", model_id.into(), of_model.into()),
        ]
        .into_iter()
        .find(|(_, has, expected)| has != expected)
    };
    let wrong = first_wrong(threads, requests, |first_row, part| {
        let decisions = decisions.get(first_row..).unwrap_or_default();
        part.iter()
            .zip(decisions)
            .position(|(request, decision)| others(request, decision).is_some())
    });
    let wrong = wrong.and_then(|(row, request)| Some((row, others(request, decisions.get(row)?)?)));
    match wrong {
        Some((row, (field, has, expected))) => Err(Error::other_decision(field, has, expected).in_row(row)),
        None => Ok(decisions),
    }
}

/// The first row that is found wrong, with its number. A part is looked at from the row of its number on.
fn first_wrong(
    threads: usize,
    requests: &[RequestRow],
    wrong: impl Fn(usize, &[RequestRow]) -> Option<usize> + Sync,
) -> Option<(usize, &RequestRow)> {
    let threads = if requests.len() < ROWS_WORTH_THREADS {
        1
    } else {
        threads
    };
    let first = AtomicUsize::new(usize::MAX);
    let nothing = &mut vec![(); requests.len()];
    share(threads, 1, requests, nothing, 1, |first_row, part, _| {
        if let Some(row) = wrong(first_row, part) {
            first.fetch_min(first_row.saturating_add(row), Ordering::Relaxed);
        }
    });
    let row = first.into_inner();
    Some((row, requests.get(row)?))
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
    let fields = RequestFields::from_row(row);
    [fields.risk_bps, fields.confidence_bps, fields.minimum_quality_bps]
        .into_iter()
        .all(|bps| bps <= BPS_WHOLE)
}
