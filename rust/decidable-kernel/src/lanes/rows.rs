use core::iter;

use decidable_canon::{Canonical as _, Row, cast};

use crate::{
    Policy, RequestFields,
    decision::{DecisionRow, write_reason},
    ifma::{self, LANES, Table},
    request::RequestRow,
};

/// Decides rows that were checked, eight side by side, and what they leave one after the other.
pub(super) fn decide(policy: &Policy, table: &Table, requests: &[RequestRow], decisions: &mut [DecisionRow]) {
    for (requests, decisions) in requests.chunks(ifma::PIECE).zip(decisions.chunks_mut(ifma::PIECE)) {
        let left = ifma::decide_rows(table, requests, decisions);
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
            let mut rows = [(first, 0); LANES];
            for (place, row) in places.iter_mut().zip(&mut rows) {
                *place = rejected.next();
                if let Some(request) = place.and_then(|place| requests.get(place)) {
                    row.0 = request;
                }
            }
            let counted = ifma::count_rows(table, rows);
            for (place, counts) in places.into_iter().zip(counted.into_iter().flatten()) {
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
