//! How much of the log a record takes at most, asked before the state moves: a step that the log would not take is not performed.

use decidable_kernel::Request;
use decidable_replay::Command;
use decidable_wal::{PRIVATE_BYTES_MAX, Private, RECORD_BYTES_MAX, frame_bytes};

use crate::{Error, ErrorKind};

/// What a record may take besides the parts that have no bound of their own.
pub(super) const RECORD_BYTES: usize = 1_024;

/// What one quote takes at most.
const QUOTE_BYTES: usize = 16;

/// At most so many bytes does the record of a command take, a decision's apart ([`decision_room`]): what must be free in the queue before the state may move.
///
/// # Errors
/// `TooLarge` if the log takes no such record at all.
pub(super) fn room(command: &Command, private: Option<&Private<'_>>) -> Result<usize, Error> {
    let payload = match command {
        Command::InstallPolicy { policy, provenance } => {
            let mut layout = Vec::new();
            policy.encode(&mut layout);
            layout.len().saturating_add(provenance.len())
        }
        _ => 0,
    };
    fits(payload, private.map_or(0, |private| private.bytes.len()))
}

/// As [`room`], of the decision on a request.
pub(super) fn decision_room(request: &Request, metadata: Option<&str>) -> Result<usize, Error> {
    fits(quotes_bytes(request), metadata.map_or(0, str::len))
}

fn quotes_bytes(request: &Request) -> usize {
    request.quotes().len().saturating_mul(QUOTE_BYTES)
}

/// What a record takes whose parts without a bound of their own have so many bytes.
fn fits(unbounded: usize, private: usize) -> Result<usize, Error> {
    let payload = RECORD_BYTES.saturating_add(unbounded);
    for (what, bytes, most) in [
        ("record", payload, RECORD_BYTES_MAX),
        ("private part", private, PRIVATE_BYTES_MAX),
    ] {
        if bytes > most {
            let message = format!("a {what} of {bytes} bytes, and the log takes at most {most}");
            return Err(Error::new(ErrorKind::TooLarge(message)));
        }
    }
    Ok(frame_bytes(payload, Some(private)))
}
