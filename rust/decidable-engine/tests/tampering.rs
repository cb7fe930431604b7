//! Logs that were changed by someone who can compute hashes: the chain is in order, and what the records say is not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ground;

use std::sync::Arc;

use decidable_canon::{Canonical as _, Digest};
use decidable_engine::{Engine, Error, ErrorKind, Observation, Options};
use decidable_kernel::{Decision, identity};
use decidable_ledger::{Balance, Denial};
use decidable_replay::{
    DecisionRecord, Disposition, Holding, Kind, OutcomeRecord, Record, RefusalRecord, SettlementRecord, Use,
};
use decidable_wal::{Fault, Memory, SEGMENT_NAME};
use ground::{CHEAP, DEAR, FIRST_STEP, FREE, Step, policy, rechained, request, risky, steps, verify, verify_with};

/// One of everything: the places of the steps are named below. What has a private part is not in the last batch, where a loss
/// of power may leave zeros.
fn written() -> Memory {
    let storage = Memory::new();
    let engine = ground::open(&storage);
    engine.open_account("acme", 100_000).unwrap();
    engine.open_account("beta", 50).unwrap();
    let ask = |model, key| {
        let answer = engine
            .decide(&request(model), Some("acme"), key, Some("{\"who\":\"me\"}"))
            .unwrap();
        engine.wait(answer.step.seq, None).unwrap();
    };
    ask(CHEAP, Some("k-1"));
    ask(CHEAP, Some("k-2"));
    ask(CHEAP, None);
    engine
        .settle(
            1,
            Use {
                durable_ns: Some(1),
                ..ground::cost(900)
            },
        )
        .unwrap();
    engine.cancel(2).unwrap();
    engine
        .settle(
            3,
            Use {
                input_tokens: Some(1_000),
                output_tokens: Some(50),
                ..Use::default()
            },
        )
        .unwrap();
    let seen = Observation {
        disposition: Disposition::Applied,
        realized_cost_microunits: None,
        realized_latency_ms: Some(4),
        succeeded: Some(true),
    };
    engine.observe(1, seen).unwrap();
    engine.decide(&risky(9_800), Some("acme"), None, None).unwrap();
    engine.top_up("acme", 500).unwrap();
    engine.set_cap("acme", Some(60_000)).unwrap();
    ask(DEAR, None);
    ask(99, None);
    engine.decide(&request(FREE), None, None, None).unwrap();
    engine.close().unwrap();
    storage
}

const POLICY: usize = 0;
const ACME: usize = 1;
const BETA: usize = 2;
const FIRST: usize = 3;
const SECOND: usize = 4;
const THIRD: usize = 5;
const SETTLED: usize = 6;
const CANCELLED: usize = 7;
const PRICED: usize = 8;
const OUTCOME: usize = 9;
const REFUSED: usize = 10;
const TOPPED_UP: usize = 11;
const CAPPED: usize = 12;
const DENIED: usize = 13;
const REJECTED: usize = 14;
const UNHELD: usize = 15;

#[test]
fn the_steps_stand_where_the_tests_expect_them_and_follow_when_written_again() {
    let storage = written();
    let steps = steps(&storage);
    let kinds: Vec<&str> = steps
        .iter()
        .map(|step| Kind::from_code(step.kind).unwrap().label())
        .collect();
    assert_eq!(
        kinds,
        [
            "policy",
            "account",
            "account",
            "decision",
            "decision",
            "decision",
            "settlement",
            "cancellation",
            "settlement",
            "outcome",
            "refusal",
            "top_up",
            "cap",
            "decision",
            "decision",
            "decision"
        ]
    );
    let again = rechained(&storage, &steps);
    let (ours, theirs) = (verify(&storage).unwrap(), verify(&again).unwrap());
    assert_eq!(ours.balances, theirs.balances);
    assert_eq!(
        (theirs.decisions, theirs.refusals, theirs.settlements, theirs.outcomes),
        (6, 1, 2, 1)
    );
    assert_eq!(
        theirs
            .open_tickets
            .iter()
            .map(|ticket| ticket.number)
            .collect::<Vec<_>>(),
        [7]
    );
    assert!(matches!(&steps[DENIED].record(), Record::Decision(record)
        if matches!(record.holding, Holding::Denied { denial: Denial::OverCap, .. })));
    assert!(matches!(&steps[REJECTED].record(), Record::Decision(record) if record.holding == Holding::Rejected));
    assert!(matches!(&steps[UNHELD].record(), Record::Decision(record) if record.holding == Holding::Unheld));
}

fn of_decision(step: &mut Step, change: impl FnOnce(DecisionRecord) -> DecisionRecord) {
    step.change(|record| match record {
        Record::Decision(record) => Record::Decision(Arc::new(change((*record).clone()))),
        other => panic!("{other:?}"),
    });
}

fn of_settlement(step: &mut Step, change: impl FnOnce(SettlementRecord) -> SettlementRecord) {
    step.change(|record| match record {
        Record::Settlement(record) => Record::Settlement(change(record)),
        other => panic!("{other:?}"),
    });
}

/// Another decision with a digest and identity that fit it.
fn decided(step: &mut Step, change: impl FnOnce(Decision) -> Decision) {
    of_decision(step, |record| {
        let decision = change(record.decision);
        let identity = identity(&policy(1), &record.request, &decision);
        assert_ne!(decision.digest(), record.decision.digest());
        DecisionRecord {
            decision,
            identity,
            ..record
        }
    });
}

fn held(record: DecisionRecord, change: impl FnOnce(i64, Balance) -> (i64, Balance)) -> DecisionRecord {
    match record.holding {
        Holding::Held { amount, balance } => {
            let (amount, balance) = change(amount, balance);
            DecisionRecord {
                holding: Holding::Held { amount, balance },
                ..record
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Who refuses a changed log says at which step and what.
fn refused(what: &str, at: usize, contains: &str, code: &str, change: impl FnOnce(&mut Vec<Step>)) {
    let storage = written();
    let mut changed = steps(&storage);
    change(&mut changed);
    assert_ne!(changed, steps(&storage), "{what}");
    let changed = rechained(&storage, &changed);
    let seq = FIRST_STEP + u64::try_from(at).unwrap();
    let error = verify(&changed).unwrap_err();
    assert_eq!((error.seq(), error.code()), (Some(seq), code), "{what}: {error}");
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("record {seq}: ")) && message.contains(contains),
        "{what}: {message}"
    );
    assert!(!message.contains('\n') && message.len() < 700, "{message}");
    // The engine does not go on from it either, and leaves it as it was.
    let before = changed.contents(decidable_wal::SEGMENT_NAME).unwrap();
    let error = Engine::open(Arc::new(changed.clone()), ground::options()).unwrap_err();
    assert_eq!((error.seq(), error.code()), (Some(seq), code), "{what}: {error}");
    assert_eq!(changed.contents(decidable_wal::SEGMENT_NAME).unwrap(), before, "{what}");
}

fn disagrees(what: &str, at: usize, contains: &str, change: impl FnOnce(&mut Vec<Step>)) {
    refused(what, at, contains, "replay.disagrees", change);
}

#[test]
fn a_changed_decision_is_refused() {
    disagrees("utility", FIRST, "a decision's expected_utility_microunits", |steps| {
        decided(&mut steps[FIRST], |decision| Decision {
            expected_utility_microunits: 7,
            ..decision
        });
    });
    disagrees(
        "selected model",
        FIRST,
        "a decision's selected_model_id is written as Some(3) but follows as Some(2)",
        |steps| {
            decided(&mut steps[FIRST], |decision| Decision {
                selected_model_id: Some(DEAR),
                ..decision
            });
        },
    );
    disagrees("cost", THIRD, "a decision's estimated_cost_microunits", |steps| {
        decided(&mut steps[THIRD], |decision| Decision {
            estimated_cost_microunits: 1,
            ..decision
        });
    });
    disagrees("identity", SECOND, "a decision's identity", |steps| {
        of_decision(&mut steps[SECOND], |record| DecisionRecord {
            identity: Digest::from_bytes([3; 32]),
            ..record
        });
    });
    disagrees(
        "a rejection turned into a selection",
        REJECTED,
        "a decision's action",
        |steps| {
            let other = match steps[FIRST].record() {
                Record::Decision(record) => record.decision,
                other => panic!("{other:?}"),
            };
            decided(&mut steps[REJECTED], |decision| Decision {
                request_sequence: decision.request_sequence,
                ..other
            });
        },
    );
    disagrees(
        "a request with other tokens",
        FIRST,
        "a decision's estimated_cost_microunits",
        |steps| {
            of_decision(&mut steps[FIRST], |record| {
                let fields = decidable_kernel::RequestFields {
                    input_tokens: 1,
                    ..*record.request.fields()
                };
                DecisionRecord {
                    request: decidable_kernel::Request::new(fields).unwrap(),
                    ..record
                }
            });
        },
    );
}

#[test]
fn changed_money_is_refused() {
    disagrees("amount held", FIRST, "a decision's holding", |steps| {
        of_decision(&mut steps[FIRST], |record| held(record, |_, balance| (1, balance)));
    });
    disagrees("balance of a hold", SECOND, "a decision's holding", |steps| {
        of_decision(&mut steps[SECOND], |record| {
            held(record, |amount, balance| {
                (
                    amount,
                    Balance {
                        remaining: balance.remaining + 1,
                        ..balance
                    },
                )
            })
        });
    });
    disagrees("a hold that nobody pays", FIRST, "a decision's holding", |steps| {
        of_decision(&mut steps[FIRST], |record| DecisionRecord {
            account: None,
            ..record
        });
    });
    disagrees(
        "a hold that another account pays",
        FIRST,
        "a decision's holding",
        |steps| {
            of_decision(&mut steps[FIRST], |record| DecisionRecord {
                account: Some(1),
                ..record
            });
        },
    );
    disagrees("a denial turned into a hold", DENIED, "a decision's holding", |steps| {
        of_decision(&mut steps[DENIED], |record| match record.holding {
            Holding::Denied { balance, .. } => DecisionRecord {
                holding: Holding::Held {
                    amount: 70_000,
                    balance,
                },
                ..record
            },
            other => panic!("{other:?}"),
        });
    });
    disagrees(
        "charge",
        SETTLED,
        "a settlement's charged is written as 899 but follows as 900",
        |steps| {
            of_settlement(&mut steps[SETTLED], |record| SettlementRecord {
                charged: 899,
                ..record
            });
        },
    );
    disagrees(
        "cost",
        SETTLED,
        "a settlement's charged is written as 900 but follows as 901",
        |steps| {
            of_settlement(&mut steps[SETTLED], |record| SettlementRecord {
                used: ground::cost(901),
                ..record
            });
        },
    );
    disagrees("tokens", PRICED, "a settlement's charged", |steps| {
        of_settlement(&mut steps[PRICED], |record| SettlementRecord {
            used: Use {
                output_tokens: Some(51),
                ..record.used
            },
            ..record
        });
    });
    disagrees("surplus", SETTLED, "a settlement's returned", |steps| {
        of_settlement(&mut steps[SETTLED], |record| SettlementRecord {
            returned: 501,
            ..record
        });
    });
    disagrees("debt", PRICED, "a settlement's debt", |steps| {
        of_settlement(&mut steps[PRICED], |record| SettlementRecord { debt: 1, ..record });
    });
    disagrees("balance of a settlement", PRICED, "a settlement's balance", |steps| {
        of_settlement(&mut steps[PRICED], |record| SettlementRecord {
            balance: None,
            ..record
        });
    });
    disagrees(
        "the initial amount, consistently",
        FIRST,
        "a decision's holding",
        |steps| {
            steps[ACME].change(|record| match record {
                Record::Account { account, balance } => Record::Account {
                    account,
                    balance: Balance {
                        initial: 200_000,
                        remaining: 200_000,
                        ..balance
                    },
                },
                other => panic!("{other:?}"),
            });
        },
    );
    disagrees("the initial amount alone", BETA, "an account's balance", |steps| {
        steps[BETA].change(|record| match record {
            Record::Account { account, balance } => Record::Account {
                account,
                balance: Balance { initial: 51, ..balance },
            },
            other => panic!("{other:?}"),
        });
    });
    disagrees("a top-up", TOPPED_UP, "an account's balance", |steps| {
        steps[TOPPED_UP].change(|record| match record {
            Record::TopUp { account, balance, .. } => Record::TopUp {
                account,
                amount: 5_000,
                balance,
            },
            other => panic!("{other:?}"),
        });
    });
    disagrees("a cap, consistently", DENIED, "a decision's holding", |steps| {
        steps[CAPPED].change(|record| match record {
            Record::Cap { account, balance } => Record::Cap {
                account,
                balance: Balance { cap: None, ..balance },
            },
            other => panic!("{other:?}"),
        });
    });
}

#[test]
fn steps_that_are_missing_repeated_or_in_another_order_are_refused() {
    refused(
        "a settlement twice",
        SETTLED + 1,
        "settled already",
        "replay.already_closed",
        |steps| {
            let again = steps[SETTLED].clone();
            steps.insert(SETTLED + 1, again);
        },
    );
    disagrees("a cancellation dropped", CANCELLED, "a settlement's balance", |steps| {
        steps.remove(CANCELLED);
    });
    disagrees("a settlement dropped", SETTLED, "a cancellation's balance", |steps| {
        steps.remove(SETTLED);
    });
    disagrees(
        "a decision dropped",
        SECOND,
        "the number of a request is written as 3 but follows as 2",
        |steps| {
            steps.remove(SECOND);
        },
    );
    disagrees(
        "a refusal dropped",
        REFUSED + 2,
        "the number of a request is written as 5 but follows as 4",
        |steps| {
            steps.remove(REFUSED);
        },
    );
    disagrees(
        "a decision twice",
        SECOND,
        "the number of a request is written as 1 but follows as 2",
        |steps| {
            let again = steps[FIRST].clone();
            steps.insert(SECOND, again);
        },
    );
    disagrees("two decisions swapped", FIRST, "the number of a request", |steps| {
        steps.swap(FIRST, SECOND)
    });
    disagrees(
        "a request renumbered",
        SECOND,
        "the number of a request is written as 9 but follows as 2",
        |steps| {
            of_decision(&mut steps[SECOND], |record| {
                let request = record.request.numbered(9);
                let decision = policy(1).decide(&request);
                DecisionRecord {
                    identity: identity(&policy(1), &request, &decision),
                    request,
                    decision,
                    ..record
                }
            });
        },
    );
    refused(
        "a settlement before its decision",
        THIRD,
        "no ticket 3 is known",
        "replay.unknown_ticket",
        |steps| {
            let early = steps.remove(PRICED);
            steps.insert(THIRD, early);
        },
    );
    refused(
        "a settlement of another ticket",
        SETTLED,
        "no ticket 17",
        "replay.unknown_ticket",
        |steps| {
            of_settlement(&mut steps[SETTLED], |record| SettlementRecord { ticket: 17, ..record });
        },
    );
    refused(
        "a settlement of what was rejected",
        REJECTED + 1,
        "selected nothing",
        "replay.nothing_selected",
        |steps| {
            let mut late = steps[SETTLED].clone();
            of_settlement(&mut late, |record| SettlementRecord { ticket: 6, ..record });
            steps.insert(REJECTED + 1, late);
        },
    );
    refused(
        "the policy dropped",
        POLICY + 2,
        "no policy of number 0",
        "replay.unknown_policy",
        |steps| {
            steps.remove(POLICY);
        },
    );
    refused(
        "an account dropped",
        ACME,
        "an account's number",
        "replay.disagrees",
        |steps| {
            steps.remove(ACME);
        },
    );
    refused(
        "a key used twice",
        SECOND,
        "used before",
        "replay.key_conflict",
        |steps| {
            let key = match steps[FIRST].record() {
                Record::Decision(record) => record.caller_key,
                other => panic!("{other:?}"),
            };
            of_decision(&mut steps[SECOND], |record| DecisionRecord {
                caller_key: key,
                ..record
            });
        },
    );
    disagrees("an outcome twice", OUTCOME + 1, "an outcome's revision", |steps| {
        let again = steps[OUTCOME].clone();
        steps.insert(OUTCOME + 1, again);
    });
    disagrees("an outcome's digest", OUTCOME, "an outcome's digest", |steps| {
        steps[OUTCOME].change(|record| match record {
            Record::Outcome(record) => Record::Outcome(OutcomeRecord {
                succeeded: Some(false),
                ..record
            }),
            other => panic!("{other:?}"),
        });
    });
}

#[test]
fn a_refusal_and_a_decision_cannot_stand_for_one_another() {
    disagrees(
        "a decision as a refusal",
        FIRST,
        "what became of a request is written as refusal but follows as decision",
        |steps| {
            steps[FIRST].change(|record| match record {
                Record::Decision(record) => Record::Refusal(Arc::new(RefusalRecord {
                    account: record.account,
                    request: record.request.clone(),
                    caller_key: record.caller_key,
                })),
                other => panic!("{other:?}"),
            });
        },
    );
    disagrees(
        "a refusal as a decision",
        REFUSED,
        "what became of a request is written as decision but follows as refusal",
        |steps| {
            steps[REFUSED].change(|record| match record {
                Record::Refusal(record) => {
                    let decision = policy(1).decide(&record.request);
                    Record::Decision(Arc::new(DecisionRecord {
                        policy: 0,
                        account: record.account,
                        identity: identity(&policy(1), &record.request, &decision),
                        request: record.request.clone(),
                        decision,
                        holding: Holding::Rejected,
                        caller_key: None,
                    }))
                }
                other => panic!("{other:?}"),
            });
        },
    );
}

#[test]
fn a_changed_policy_is_refused() {
    disagrees("its digest", POLICY, "the digest of a policy", |steps| {
        steps[POLICY].payload[4] ^= 1
    });
    disagrees("its contents", POLICY, "the digest of a policy", |steps| {
        let last = steps[POLICY].payload.len() - 10;
        steps[POLICY].payload[last] ^= 1;
    });
    disagrees(
        "its number",
        POLICY,
        "a policy's number is written as 1 but follows as 0",
        |steps| {
            steps[POLICY].change(|record| match record {
                Record::Policy { policy, provenance, .. } => Record::Policy {
                    number: 1,
                    policy,
                    provenance,
                },
                other => panic!("{other:?}"),
            });
        },
    );
    disagrees(
        "one that was superseded",
        FIRST + 1,
        "the policy's number is written as 0 but follows as 1",
        |steps| {
            let mut again = steps[POLICY].clone();
            again.change(|record| match record {
                Record::Policy { policy, provenance, .. } => Record::Policy {
                    number: 1,
                    policy,
                    provenance,
                },
                other => panic!("{other:?}"),
            });
            steps.insert(POLICY + 1, again);
        },
    );
    disagrees("another policy", FIRST, "a decision's policy_epoch", |steps| {
        steps[POLICY].change(|record| match record {
            Record::Policy { provenance, .. } => Record::Policy {
                number: 0,
                policy: policy(2),
                provenance,
            },
            other => panic!("{other:?}"),
        });
    });
}

#[test]
fn a_policy_that_was_not_approved_is_refused_with_the_record_that_installed_it() {
    let storage = written();
    verify_with(&storage, None, None, Some(&[policy(1).digest(), policy(2).digest()])).unwrap();
    let error = verify_with(&storage, None, None, Some(&[policy(2).digest()])).unwrap_err();
    assert_eq!(
        (error.seq(), error.code()),
        (Some(FIRST_STEP), "engine.policy_not_given")
    );
}

#[test]
fn records_of_unknown_kinds_and_unreadable_ones_are_refused() {
    refused(
        "a kind of a later version",
        OUTCOME,
        "kind 99",
        "engine.unknown_kind",
        |steps| steps[OUTCOME].kind = 99,
    );
    refused(
        "a payload too short",
        SETTLED,
        "settlement",
        "replay.unreadable",
        |steps| {
            steps[SETTLED].payload.pop();
        },
    );
    refused(
        "a payload too long",
        TOPPED_UP,
        "top_up",
        "replay.unreadable",
        |steps| steps[TOPPED_UP].payload.push(0),
    );
    refused(
        "one kind's payload under another",
        SETTLED,
        "cancellation",
        "replay.unreadable",
        |steps| {
            steps[SETTLED].kind = Kind::Cancellation.code();
        },
    );
}

#[test]
fn metadata_that_are_not_text_are_refused() {
    refused(
        "metadata that are not text",
        FIRST,
        "a caller's metadata",
        "engine.not_text",
        |steps| {
            steps[FIRST].private = Some(vec![b'a', 0xff]);
        },
    );
}

#[test]
fn names_that_no_engine_would_have_written_are_refused() {
    refused(
        "a name that is not text",
        BETA,
        "not text",
        "engine.not_text",
        |steps| {
            steps[BETA].private = Some(vec![0xff]);
        },
    );
    refused(
        "a name twice",
        BETA,
        "\"acme\" is open already",
        "engine.account_exists",
        |steps| {
            steps[BETA].private = Some(b"acme".to_vec());
        },
    );
    refused(
        "a name of an erased account",
        BETA,
        "\"#0\"",
        "engine.bad_name",
        |steps| {
            steps[BETA].private = Some(b"#0".to_vec());
        },
    );
    refused(
        "a name that moves the cursor",
        BETA,
        "\\u{1b}",
        "engine.bad_name",
        |steps| {
            steps[BETA].private = Some(b"\x1b[2J".to_vec());
        },
    );
}

/// The same log with zeros over the salt and the bytes of a private part.
fn blanked(storage: &Memory, private: &[u8]) -> Memory {
    let mut bytes = storage.contents(SEGMENT_NAME).unwrap();
    let at = bytes
        .windows(private.len())
        .position(|window| window == private)
        .unwrap();
    bytes[at - 32..at + private.len()].fill(0);
    let changed = Memory::new();
    changed.put(SEGMENT_NAME, &bytes);
    changed
}

fn reopened(storage: &Memory, recover: bool) -> Result<Engine, Error> {
    ground::opened_with(
        storage,
        Options {
            recover,
            ..ground::options()
        },
    )
}

/// The number of the record of a step.
fn seq_of(step: usize) -> u64 {
    FIRST_STEP + u64::try_from(step).unwrap()
}

#[test]
fn a_name_that_is_gone_without_a_record_is_refused_and_its_account_named() {
    let storage = written();
    let head = verify(&storage).unwrap().scanned.head;
    for (name, step, account) in [("acme", ACME, 0), ("beta", BETA, 1)] {
        let changed = blanked(&storage, name.as_bytes());
        let bytes = changed.contents(SEGMENT_NAME).unwrap();
        let approved = [policy(1).digest()];
        for refusal in [
            verify(&changed).unwrap_err(),
            verify_with(&changed, None, Some(head), Some(&approved)).unwrap_err(),
            reopened(&changed, false).unwrap_err(),
        ] {
            assert_eq!(
                (refusal.code(), refusal.seq()),
                ("engine.name_gone", Some(seq_of(step)))
            );
            assert!(matches!(refusal.kind(), ErrorKind::NameGone { account: found } if *found == account));
        }
        assert_eq!(changed.contents(SEGMENT_NAME).unwrap(), bytes, "nothing was written");
    }
    // What pays nobody may be blanked: that is reported.
    let changed = blanked(&storage, b"{\"who\":\"me\"}");
    assert_eq!(verify(&changed).unwrap().scanned.unrecorded_erasures.len(), 1);
    let engine = reopened(&changed, false).unwrap();
    assert_eq!(engine.opened().unrecorded_erasures.len(), 1);
}

#[test]
fn whoever_recovers_a_log_whose_names_are_gone_records_that_they_are() {
    let storage = written();
    let before = verify(&storage).unwrap().balances;
    let changed = blanked(&blanked(&storage, b"acme"), b"{\"who\":\"me\"}");
    let engine = reopened(&changed, true).unwrap();
    let decision = seq_of(FIRST);
    assert_eq!(engine.opened().unrecorded_erasures, [seq_of(ACME), decision]);
    assert_eq!(engine.balance("acme").unwrap_err().code(), "engine.unknown_account");
    assert_eq!(engine.balance("#0").unwrap(), before[0].1);
    engine.close().unwrap();
    // Only of what says who pays: the rest is reported as ever.
    let verified = verify(&changed).unwrap();
    assert_eq!(verified.scanned.erased, [seq_of(ACME)]);
    assert_eq!(verified.scanned.unrecorded_erasures, [decision]);
    assert_eq!(verified.balances[0], ("#0".to_owned(), before[0].1));
    reopened(&changed, false).unwrap().close().unwrap();
}

#[test]
fn an_opening_that_records_what_is_gone_can_end_anywhere() {
    let changed = blanked(&written(), b"acme");
    for operation in 1.. {
        let storage = changed.after_kill();
        storage.fail_at(storage.operations() + operation, Fault::Die(5));
        let done = reopened(&storage, true).is_ok();
        for (left, lost) in [
            (storage.after_kill(), false),
            (storage.after_power_loss(operation), true),
        ] {
            if lost {
                ground::restarted(&left, None);
            }
            // It is refused until it is recorded; then it is an erasure like any other.
            match reopened(&left, false) {
                Ok(engine) => assert_eq!(engine.balances().unwrap()[0].0, "#0"),
                Err(error) => {
                    assert!(!done, "operation {operation}: {error}");
                    assert_eq!(error.code(), "engine.name_gone", "operation {operation}: {error}");
                    reopened(&left, true).unwrap();
                }
            }
            assert_eq!(verify(&left).unwrap().scanned.erased, [seq_of(ACME)]);
        }
        if done {
            break;
        }
    }
}

#[test]
fn what_the_records_only_report_can_differ_and_a_head_still_tells() {
    let storage = written();
    let head = verify(&storage).unwrap().scanned.head;
    let mut changed = steps(&storage);
    // How long it took to become durable is told, not derived; so are provenance and latency.
    of_settlement(&mut changed[SETTLED], |record| SettlementRecord {
        used: Use {
            durable_ns: Some(2),
            latency_ms: Some(9),
            ..record.used
        },
        ..record
    });
    let changed = rechained(&storage, &changed);
    verify(&changed).unwrap();
    let error = verify_with(&changed, None, Some(head), None).unwrap_err();
    assert!(
        matches!(error.code(), "wal.head_mismatch" | "wal.shorter_than_head"),
        "{error}"
    );
}
