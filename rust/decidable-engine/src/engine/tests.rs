use decidable_kernel::{Candidate, Limits, Objective, Request, RequestFields};
use decidable_replay::Use;
use decidable_wal::{Durability, Memory};

use super::*;
use crate::SystemClock;

fn engine() -> Engine {
    let limits = Limits {
        objective: Objective::Cheapest,
        ..Limits::default()
    };
    let candidate = Candidate {
        model_id: 1,
        quality_bps: 9_000,
        ..Candidate::default()
    };
    let options = Options {
        policy: Arc::new(Policy::new(limits, vec![candidate], None).unwrap()),
        provenance: String::new(),
        key: None,
        sync: Durability::None,
        head: None,
        recover: false,
        clock: Arc::new(SystemClock),
        decide: None,
        watch: None,
    };
    Engine::open(Arc::new(Memory::new()), options).unwrap()
}

/// A request that the candidate meets, or none does.
fn request(met: bool) -> Request {
    Request::new(RequestFields {
        input_tokens: 1,
        minimum_quality_bps: if met { 0 } else { 10_000 },
        ..RequestFields::default()
    })
    .unwrap()
}

/// How many tickets are noted as answered again.
fn noted(engine: &Engine) -> usize {
    engine.core().unwrap().answered_again.len()
}

#[test]
fn who_was_answered_again_is_noted_for_open_tickets_alone() {
    let engine = engine();
    let ask = |key| engine.decide(&request(true), None, Some(key), None).unwrap();
    let used = Use {
        cost_microunits: Some(0),
        ..Use::default()
    };
    let ends: [(&str, &dyn Fn(u64)); 3] = [
        ("settled", &|ticket| {
            engine.settle(ticket, used).unwrap();
        }),
        ("cancelled", &|ticket| {
            engine.cancel(ticket).unwrap();
        }),
        ("reconciled", &|ticket| {
            engine.leave(ticket).unwrap();
            engine.reconcile(ticket, None).unwrap();
        }),
    ];
    for (key, end) in ends {
        let ticket = ask(key).view.number;
        assert_eq!(noted(&engine), 0, "{key}: once is not again");
        assert!(ask(key).replayed);
        assert_eq!(noted(&engine), 1, "{key}");
        end(ticket);
        assert_eq!(noted(&engine), 0, "{key}");
    }
    // What is closed is answered again and again, and nobody can give it back.
    assert!(ask("settled").replayed);
    let refused = || engine.decide(&request(false), None, Some("refused"), None).unwrap();
    assert!(!refused().replayed && refused().replayed);
    assert_eq!(noted(&engine), 0);
}

/// What is kept of who acts on a ticket goes with it, however often it is left.
#[test]
fn who_acted_on_a_ticket_is_known_for_open_tickets_alone() {
    let engine = engine();
    let acted = || engine.core().unwrap().acted.len();
    let ask = || {
        let answer = engine.decide(&request(true), None, None, None).unwrap();
        engine.wait(answer.step.seq, None).unwrap();
        answer.view.number
    };
    let used = Use {
        cost_microunits: Some(0),
        ..Use::default()
    };
    let (settled, reconciled, cancelled) = (ask(), ask(), ask());
    assert_eq!(acted(), 0);
    engine.dispatch(settled).unwrap();
    engine.dispatch(reconciled).unwrap();
    assert_eq!(acted(), 2);
    engine.settle(settled, used).unwrap();
    engine.leave(reconciled).unwrap();
    engine.reconcile(reconciled, None).unwrap();
    engine.cancel(cancelled).unwrap();
    for ticket in [settled, reconciled, cancelled] {
        engine.leave(ticket).unwrap();
    }
    assert_eq!(acted(), 0);
}

#[test]
fn room_for_a_large_record_is_given_back() {
    let engine = engine();
    let quotes = (2..10_000).map(|model| (model, 1)).collect();
    let large = request(true).with_quotes(quotes).unwrap();
    engine.decide(&large, None, None, None).unwrap();
    let room = || engine.core().unwrap().payload.capacity();
    assert!(room() > 100_000);
    engine.decide(&request(true), None, None, None).unwrap();
    assert!(room() <= PAYLOAD_BYTES_KEPT);
}
