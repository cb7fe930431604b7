use core::iter;

use decidable_canon::{Canonical as _, Row, cast};

use crate::{
    Policy, Rejections, RequestFields,
    decision::{DecisionRow, write_reason},
    left::{Left, PIECE},
    request::RequestRow,
};

/// Decides rows that were checked: `side_by_side` a piece at a time, and what that leaves one after the other, but that `count`
/// finds the reasons of rejections side by side, too.
pub(super) fn decide<const LANES: usize>(
    policy: &Policy,
    requests: &[RequestRow],
    decisions: &mut [DecisionRow],
    side_by_side: impl Fn(&[RequestRow], &mut [DecisionRow]) -> Left,
    count: impl Fn([&RequestRow; LANES]) -> Option<[Rejections; LANES]>,
) {
    for (requests, decisions) in requests.chunks(PIECE).zip(decisions.chunks_mut(PIECE)) {
        let left = side_by_side(requests, decisions);
        for row in ones(left.beyond) {
            if let (Some(request), Some(decision)) = (requests.get(row), decisions.get_mut(row)) {
                policy
                    .decide_plainly(&RequestFields::from_row(request), &[])
                    .encode(&mut Row::new(decision));
            }
        }
        let mut rejected = ones(left.rejected).peekable();
        while let Some(first) = rejected.peek().and_then(|row| requests.get(*row)) {
            let mut places = [None; LANES];
            let mut rows = [first; LANES];
            for (place, row) in places.iter_mut().zip(&mut rows) {
                *place = rejected.next();
                if let Some(request) = place.and_then(|place| requests.get(place)) {
                    *row = request;
                }
            }
            for (place, counts) in places.into_iter().zip(count(rows).into_iter().flatten()) {
                if let Some(decision) = place.and_then(|place| decisions.get_mut(place)) {
                    write_reason(decision, counts.dominant());
                }
            }
        }
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
