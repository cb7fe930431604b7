//! Random sequences of commands: what is performed and written follows again, byte for byte, on a state that has only
//! the records.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod steps;

use decidable_canon::Digest;
use decidable_kernel::{Request, RequestFields};
use decidable_replay::{Command, Disposition, ErrorKind, Record, State, Use};
use proptest::prelude::*;
use steps::{Written, cheapest, decide, keyed, request_for, seen, utility};

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0_i64..20_000, 1 => -1_i64..=0, 1 => any::<i64>()]
}

fn request() -> impl Strategy<Value = Request> {
    (
        prop_oneof![8 => 0_u16..9_700, 1 => 9_699_u16..=9_701],
        prop_oneof![Just(0_u16), Just(5_000), Just(9_000), Just(10_000)],
        0_u32..3_000,
        0_u32..500,
        prop_oneof![3 => 0_u32..400, 1 => any::<u32>()],
        prop::option::of(0_u64..20_000),
        any::<bool>(),
    )
        .prop_map(
            |(risk_bps, minimum_quality_bps, input_tokens, output_tokens, more, quote, valued)| {
                let fields = RequestFields {
                    risk_bps,
                    minimum_quality_bps,
                    input_tokens,
                    output_tokens,
                    business_value_microunits: if valued { 1_000_000 } else { 0 },
                    ..RequestFields::default()
                };
                let request = Request::new(fields).unwrap();
                let request = request
                    .with_max_output_tokens(output_tokens.saturating_add(more))
                    .unwrap();
                match quote {
                    Some(quote) => request.with_quotes(vec![(steps::CHEAP, quote)]).unwrap(),
                    None => request,
                }
            },
        )
}

fn used() -> impl Strategy<Value = Use> {
    (
        prop::option::weighted(0.7, prop_oneof![8 => 0_u64..20_000, 1 => any::<u64>()]),
        prop::option::weighted(0.8, 0_u32..3_000),
        prop::option::weighted(0.8, 0_u32..3_000),
        prop::option::of(any::<u32>()),
        prop::option::of(any::<u64>()),
    )
        .prop_map(
            |(cost_microunits, input_tokens, output_tokens, latency_ms, durable_ns)| Use {
                cost_microunits,
                input_tokens,
                output_tokens,
                latency_ms,
                durable_ns,
            },
        )
}

fn command() -> impl Strategy<Value = Command> {
    let account = || 0_u32..3;
    let ticket = || 0_u64..20;
    prop_oneof![
        1 => (0_u64..3).prop_map(|epoch| Command::InstallPolicy {
            policy: if epoch == 0 { utility() } else { cheapest(epoch) },
            provenance: format!("epoch {epoch}"),
        }),
        1 => amount().prop_map(|initial| Command::OpenAccount { initial }),
        1 => (account(), amount()).prop_map(|(account, amount)| Command::TopUp { account, amount }),
        1 => (account(), prop::option::of(amount())).prop_map(|(account, cap)| Command::SetCap { account, cap }),
        8 => (0_u32..3, prop::option::weighted(0.9, account()), request(), prop::option::weighted(0.3, 0_u8..6)).prop_map(
            |(policy, account, request, key)| Command::Decide {
                policy,
                account,
                request,
                caller_key: key.map(|key| Digest::from_bytes([key; 32])),
                proposed: None,
            }
        ),
        4 => (ticket(), used()).prop_map(|(ticket, used)| Command::Settle { ticket, used }),
        2 => ticket().prop_map(|ticket| Command::Cancel { ticket }),
        2 => (ticket(), any::<u64>(), 0_u8..3, prop::option::of(any::<u64>()), prop::option::of(any::<bool>())).prop_map(
            |(ticket, observed_at_micros, disposition, realized_cost_microunits, succeeded)| Command::Observe {
                ticket,
                observed_at_micros,
                disposition: match disposition {
                    0 => Disposition::Applied,
                    1 => Disposition::Abandoned,
                    _ => Disposition::InFlight,
                },
                realized_cost_microunits,
                realized_latency_ms: None,
                succeeded,
            }
        ),
    ]
}

fn started() -> Written {
    let mut written = Written::with_account(50_000);
    written.perform(Command::OpenAccount { initial: 0 }).unwrap();
    written
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_performed_follows_again_from_its_records(commands in prop::collection::vec(command(), 0..60)) {
        let mut written = started();
        for command in commands {
            let before = seen(&written.state);
            match written.perform(command) {
                Err(_) => prop_assert_eq!(seen(&written.state), before),
                Ok(record) => {
                    let (_, kind, payload) = written.records.last().unwrap();
                    prop_assert_eq!(Record::decode(*kind, payload).unwrap(), record);
                }
            }
        }
        let followed = written.replay_on(State::new());
        prop_assert_eq!(seen(&followed), seen(&written.state));
    }

    #[test]
    fn a_changed_byte_is_another_step_or_none(
        commands in prop::collection::vec(command(), 1..25),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let mut written = started();
        for command in commands {
            let _ = written.perform(command);
        }
        let (seq, kind, last) = written.records.pop().unwrap();
        let mut changed = last.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        let mut state = written.replay_on(State::new());
        match state.replay(seq, kind, &changed) {
            // Another thing was asked for, and what is written is what follows from that.
            Ok(record) => {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(again, changed);
                prop_assert_ne!(Record::decode(kind, &last).unwrap(), record);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        for length in 0..last.len() {
            let error = written.replay_on(State::new()).replay(seq, kind, &last[..length]).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::Unreadable);
            if length > 40 {
                break;
            }
        }
    }
}

/// A log with a policy, whose state remembers so many closed tickets.
fn remembering(closed_tickets: usize) -> Written {
    let mut written = Written::on(State::remembering(closed_tickets));
    written
        .perform(Command::InstallPolicy {
            policy: cheapest(1),
            provenance: String::new(),
        })
        .unwrap();
    written
}

#[test]
fn closed_tickets_are_forgotten_in_the_same_order_live_and_in_replay() {
    let mut written = remembering(3);
    written.perform(Command::OpenAccount { initial: 1_000_000 }).unwrap();
    // 1 stays open; 2 to 5 are closed in the order 5, 3, 2, 4.
    for key in 1..=5 {
        written.perform(keyed(Some(0), request_for(steps::CHEAP), key)).unwrap();
    }
    let cost = |cost_microunits| Use {
        cost_microunits: Some(cost_microunits),
        ..Use::default()
    };
    written
        .perform(Command::Settle {
            ticket: 5,
            used: cost(7),
        })
        .unwrap();
    written
        .perform(Command::Settle {
            ticket: 3,
            used: cost(8),
        })
        .unwrap();
    written
        .perform(Command::Settle {
            ticket: 2,
            used: cost(9),
        })
        .unwrap();
    let key = |key: u8| Digest::from_bytes([key; 32]);
    assert!(written.state.ticket(5).is_some() && written.state.ticket_of_key(&key(5)).is_some());
    let conflict = written
        .perform(keyed(Some(0), request_for(steps::CHEAP), 5))
        .unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::KeyConflict);

    written
        .perform(Command::Settle {
            ticket: 4,
            used: cost(1),
        })
        .unwrap();
    assert!(written.state.ticket(5).is_none() && written.state.ticket_of_key(&key(5)).is_none());
    assert!(
        [1, 2, 3, 4]
            .into_iter()
            .all(|number| written.state.ticket(number).is_some())
    );
    let unknown = written
        .perform(Command::Settle {
            ticket: 5,
            used: cost(7),
        })
        .unwrap_err();
    assert_eq!(
        (unknown.kind(), unknown.code()),
        (ErrorKind::UnknownTicket, "replay.unknown_ticket")
    );

    // The forgotten key is free: the next request with it is another ticket, 6, which closes at once.
    written.perform(keyed(Some(0), request_for(99), 5)).unwrap();
    assert_eq!(
        written
            .state
            .ticket_of_key(&key(5))
            .unwrap()
            .request()
            .fields()
            .request_sequence,
        6
    );
    let followed = written.replay_on(State::remembering(3));
    assert_eq!(seen(&followed), seen(&written.state));
    // One that remembers more does not follow: the number is part of the format.
    let mut other = State::remembering(4);
    let (last, earlier) = written.records.split_last().unwrap();
    for (seq, kind, payload) in earlier {
        other.replay(*seq, *kind, payload).unwrap();
    }
    assert_eq!(
        other.replay(last.0, last.1, &last.2).unwrap_err().kind(),
        ErrorKind::KeyConflict
    );
}

/// Whoever only asks, and is refused, cannot make a retry of what was paid for be paid for again.
#[test]
fn what_nobody_was_charged_for_pushes_out_no_settlement() {
    let mut written = remembering(3);
    let used = Use {
        cost_microunits: Some(1),
        ..Use::default()
    };
    let known = |written: &Written, numbers: std::ops::RangeInclusive<u64>| -> Vec<u64> {
        numbers
            .filter(|number| written.state.ticket(*number).is_some())
            .collect()
    };
    for key in 1..=3 {
        written.perform(keyed(None, request_for(steps::CHEAP), key)).unwrap();
        written
            .perform(Command::Settle {
                ticket: key.into(),
                used,
            })
            .unwrap();
    }
    // Nothing is selected for some, the others are cancelled; with many quotes each counts as several.
    for key in 4..=9 {
        let quotes = (1_000..1_100).map(|model| (model, 1)).collect();
        let request = request_for(if key % 2 == 0 { 99 } else { steps::CHEAP });
        let request = request.with_quotes(quotes).unwrap();
        written.perform(keyed(None, request, key)).unwrap();
        if key % 2 == 1 {
            written.perform(Command::Cancel { ticket: key.into() }).unwrap();
        }
    }
    written.perform(keyed(None, request_for(99), 10)).unwrap();
    assert_eq!(known(&written, 1..=10), [1, 2, 3, 10]);
    let again = written.perform(keyed(None, request_for(steps::CHEAP), 1)).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::KeyConflict);
    // Nor the other way round: what was refused stays refused, however much is settled.
    for key in 11..=14 {
        written.perform(keyed(None, request_for(steps::CHEAP), key)).unwrap();
        written
            .perform(Command::Settle {
                ticket: key.into(),
                used,
            })
            .unwrap();
    }
    assert_eq!(known(&written, 1..=14), [10, 12, 13, 14]);
    assert_eq!(seen(&written.replay_on(State::remembering(3))), seen(&written.state));
}

#[test]
fn a_closed_ticket_with_many_quotes_counts_as_several() {
    let mut written = remembering(4);
    let quoted = |count: u32| {
        let quotes = (1_000..1_000 + count).map(|model| (model, 1)).collect();
        decide(None, request_for(99).with_quotes(quotes).unwrap())
    };
    let known = |written: &Written| -> Vec<u64> {
        (1..10)
            .filter(|number| written.state.ticket(*number).is_some())
            .collect()
    };
    for count in [0, 31, 32, 0] {
        written.perform(quoted(count)).unwrap();
    }
    // The third counts as two, so that the first is gone.
    assert_eq!(known(&written), [2, 3, 4]);
    written.perform(quoted(64)).unwrap();
    assert_eq!(known(&written), [4, 5]);
    // One that counts as more than all that are remembered is forgotten at once.
    written.perform(quoted(32 * 4)).unwrap();
    assert_eq!(known(&written), [0_u64; 0]);
    written.perform(quoted(0)).unwrap();
    assert_eq!(known(&written), [7]);
    assert_eq!(seen(&written.replay_on(State::remembering(4))), seen(&written.state));
}

#[test]
fn forgetting_a_ticket_leaves_a_key_that_a_later_one_took_over() {
    let mut written = remembering(1);
    let key = Digest::from_bytes([9; 32]);
    written.perform(keyed(None, request_for(steps::FREE), 9)).unwrap();
    written.perform(Command::Cancel { ticket: 1 }).unwrap();
    assert!(written.state.ticket_of_key(&key).is_none());
    written.perform(keyed(None, request_for(steps::FREE), 9)).unwrap();
    written.perform(decide(None, request_for(99))).unwrap();
    assert!(written.state.ticket(1).is_none());
    assert_eq!(written.state.ticket_of_key(&key).unwrap().seq(), 13);
    assert_eq!(seen(&written.replay_on(State::remembering(1))), seen(&written.state));
}
