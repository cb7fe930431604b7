use decidable_canon::Digest;
use decidable_kernel::{Candidate, Limits, Objective, Request, RequestFields};

use super::*;

/// A state on the eve of the last number that a request can have.
fn nearly_full() -> State {
    let limits = Limits {
        objective: Objective::Cheapest,
        ..Limits::default()
    };
    let candidate = Candidate {
        model_id: 1,
        quality_bps: 1,
        ..Candidate::default()
    };
    let mut state = State::new();
    let policy = Arc::new(Policy::new(limits, vec![candidate], None).unwrap());
    state
        .perform(
            1,
            Command::InstallPolicy {
                policy,
                provenance: String::new(),
            },
        )
        .unwrap();
    state.next_request = u64::MAX - 1;
    state
}

fn ask(risk_bps: u16) -> Command {
    let request = Request::new(RequestFields {
        risk_bps,
        ..RequestFields::default()
    })
    .unwrap();
    Command::Decide {
        policy: 0,
        account: None,
        request,
        caller_key: None,
        proposed: None,
    }
}

#[test]
fn when_the_numbers_run_out_nothing_more_is_decided() {
    let mut state = nearly_full();
    state.perform(2, ask(0)).unwrap();
    for risk_bps in [0, 9_900] {
        let error = state.perform(3, ask(risk_bps)).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::TooMany, "replay.too_many"));
    }
    assert_eq!(state.next_request(), u64::MAX);
}

#[test]
fn when_the_revisions_of_a_ticket_run_out_no_outcome_is_taken() {
    let mut state = nearly_full();
    state.perform(2, ask(0)).unwrap();
    let number = u64::MAX - 1;
    let Some(Ticket::Decided { revisions, .. }) = state.tickets.change(number) else {
        panic!("no ticket")
    };
    *revisions = u32::MAX - 1;
    let observe = || Command::Observe {
        ticket: number,
        observed_at_micros: 0,
        disposition: Disposition::Abandoned,
        realized_cost_microunits: None,
        realized_latency_ms: None,
        succeeded: None,
    };
    let Record::Outcome(outcome) = state.perform(3, observe()).unwrap() else {
        panic!("no outcome")
    };
    assert_eq!(outcome.revision, u32::MAX);
    assert_ne!(outcome.digest, Digest::from_bytes([0; 32]));
    assert_eq!(state.perform(4, observe()).unwrap_err().kind(), ErrorKind::TooMany);
}
