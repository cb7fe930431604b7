use core::iter;

use decidable_canon::{Canonical as _, Row, cast};

use crate::{
    Policy, Reason, RequestFields,
    decision::{DecisionRow, write_reason},
    left::{Left, PIECE},
    request::RequestRow,
};

/// Decides rows that were checked: `side_by_side` a piece at a time, and what that leaves one after the other, but that `reasons`
/// finds side by side, too, why nobody was selected.
pub(super) fn decide<const LANES: usize>(
    policy: &Policy,
    requests: &[RequestRow],
    decisions: &mut [DecisionRow],
    side_by_side: impl Fn(&[RequestRow], &mut [DecisionRow]) -> Left,
    reasons: impl Fn([&RequestRow; LANES]) -> Option<[Reason; LANES]>,
) {
    let Some(first) = requests.first() else { return };
    let alone = |request: &RequestRow, decision: &mut DecisionRow| {
        policy
            .decide_plainly(&RequestFields::from_row(request), &[])
            .encode(&mut Row::new(decision));
    };
    let write = |rejected: [usize; LANES], decisions: &mut [DecisionRow]| {
        let rows = rejected.map(|row| requests.get(row).unwrap_or(first));
        let found = reasons(rows);
        for ((row, request), lane) in rejected.into_iter().zip(rows).zip(0..) {
            match (
                decisions.get_mut(row),
                found.and_then(|found| found.get::<usize>(lane).copied()),
            ) {
                (Some(decision), Some(reason)) => write_reason(decision, reason),
                // Rows that lanes reject are within their bounds, so that this is not met.
                (Some(decision), None) => alone(request, decision),
                (None, _) => {}
            }
        }
    };
    // The numbers of rejected rows, gathered until every lane has one.
    let mut rejected = [0; LANES];
    let mut gathered = 0_usize;
    for (piece, start) in requests.chunks(PIECE).zip((0..).step_by(PIECE)) {
        let Some(room) = decisions.get_mut(start..).and_then(|room| room.get_mut(..piece.len())) else {
            return;
        };
        let left = side_by_side(piece, room);
        for row in ones(left.beyond) {
            if let (Some(request), Some(decision)) = (piece.get(row), room.get_mut(row)) {
                alone(request, decision);
            }
        }
        for row in ones(left.rejected) {
            if let Some(lane) = rejected.get_mut(gathered) {
                *lane = start.saturating_add(row);
            }
            gathered = gathered.wrapping_add(1);
            if gathered == LANES {
                write(rejected, decisions);
                gathered = 0;
            }
        }
    }
    if let Some((last, [_, ..])) = rejected.split_at_checked(gathered)
        && let Some(any) = last.first().copied()
    {
        // The lanes that are left have one again.
        let mut lanes = last.iter().copied().chain(iter::repeat(any));
        write([(); LANES].map(|()| lanes.next().unwrap_or(any)), decisions);
    }
}

/// The places of the ones, ascending.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let place = (bits != 0).then(|| cast::usize_from_u32(bits.trailing_zeros()));
        bits &= bits.wrapping_sub(1);
        place
    })
}
