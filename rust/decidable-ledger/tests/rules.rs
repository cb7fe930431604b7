//! The rules one by one, and every error code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use decidable_canon::{Canonical, Digest, Sink, tag};
use decidable_ledger::{
    AccountId, Balance, Denial, Error, ErrorKind, Hold, HoldId, Ledger, LedgerSnapshot, NAME_BYTES_MAX, Reserve,
};

fn ledger(initial: i64) -> (Ledger, AccountId) {
    let ledger = Ledger::new();
    let account = ledger.open_account("acme", initial).unwrap();
    (ledger, account)
}

fn hold(ledger: &Ledger, account: AccountId, amount: i64) -> HoldId {
    let hold = ledger.next_hold();
    match ledger.reserve(account, hold, amount).unwrap() {
        Reserve::Held { hold, .. } => hold,
        Reserve::Denied { reason, .. } => panic!("denied: {reason:?}"),
    }
}

fn denied(ledger: &Ledger, account: AccountId, amount: i64) -> Denial {
    match ledger.reserve(account, HoldId(u64::MAX), amount).unwrap() {
        Reserve::Held { .. } => panic!("granted"),
        Reserve::Denied { reason, balance } => {
            assert_eq!(Some(balance), ledger.balance(account));
            reason
        }
    }
}

#[test]
fn holds_are_numbered_from_one_in_the_order_they_are_drawn() {
    let (ledger, account) = ledger(1_000);
    let drawn: Vec<u64> = (0..3).map(|_| hold(&ledger, account, 10).0).collect();
    assert_eq!(drawn, [1, 2, 3]);
    let open = ledger.holds();
    assert_eq!(
        open[1],
        Hold {
            id: HoldId(2),
            account,
            amount: 10
        }
    );
    assert_eq!(ledger.hold(HoldId(3)), Some(open[2]));
    assert_eq!(ledger.hold(HoldId(4)), None);
}

#[test]
fn a_number_is_free_again_after_the_settlement() {
    let (ledger, account) = ledger(1_000);
    for _ in 0..3 {
        assert_eq!(
            ledger
                .reserve(account, HoldId(u64::MAX), 10)
                .unwrap()
                .balance()
                .reserved,
            10
        );
        ledger.release(HoldId(u64::MAX)).unwrap();
    }
}

#[test]
fn a_denied_hold_leaves_its_number_free_and_changes_nothing() {
    let (ledger, account) = ledger(1_000);
    let before = ledger.snapshot();
    assert_eq!(denied(&ledger, account, 1_001), Denial::Insufficient);
    assert_eq!(ledger.snapshot(), before);
    assert!(matches!(
        ledger.reserve(account, HoldId(u64::MAX), 1_000),
        Ok(Reserve::Held { .. })
    ));
}

#[test]
fn denials_are_told_in_the_shared_order() {
    let (ledger, account) = ledger(i64::MAX);
    hold(&ledger, account, 10);
    ledger.set_cap(account, Some(50)).unwrap();
    assert_eq!(denied(&ledger, account, i64::MAX), Denial::Overflow);
    assert_eq!(denied(&ledger, account, i64::MAX - 10), Denial::OverCap);
    assert_eq!(denied(&ledger, account, 41), Denial::OverCap);
    hold(&ledger, account, 40);
    ledger.set_cap(account, None).unwrap();
    hold(&ledger, account, i64::MAX - 60);
    assert_eq!(denied(&ledger, account, 11), Denial::Overflow);
    let poor = ledger.open_account("poor", 5).unwrap();
    ledger.set_cap(poor, Some(5)).unwrap();
    assert_eq!(denied(&ledger, poor, 6), Denial::OverCap);
    ledger.set_cap(poor, Some(6)).unwrap();
    assert_eq!(denied(&ledger, poor, 6), Denial::Insufficient);
}

#[test]
fn every_denial_has_its_code_and_its_label() {
    for (code, denial, label) in [
        (0, Denial::Insufficient, "insufficient"),
        (1, Denial::OverCap, "over_cap"),
        (2, Denial::Overflow, "overflow"),
    ] {
        assert_eq!((denial.code(), denial.label()), (code, label));
        assert_eq!(Denial::from_code(code), Some(denial));
    }
    assert_eq!(Denial::from_code(3), None);
}

#[test]
fn a_cap_stops_new_holds_and_leaves_open_ones() {
    let (ledger, account) = ledger(1_000);
    let open = hold(&ledger, account, 300);
    ledger.set_cap(account, Some(100)).unwrap();
    assert_eq!(ledger.balance(account).unwrap().cap, Some(100));
    assert_eq!(denied(&ledger, account, 1), Denial::OverCap);
    ledger.commit(open, 300).unwrap();
    hold(&ledger, account, 100);
    assert_eq!(denied(&ledger, account, 1), Denial::OverCap);
    ledger.set_cap(account, Some(i64::MAX)).unwrap();
    assert_eq!(ledger.balance(account).unwrap().cap, Some(i64::MAX));
    hold(&ledger, account, 1);
    ledger.set_cap(account, Some(0)).unwrap();
    assert_eq!(denied(&ledger, account, 1), Denial::OverCap);
    ledger.verify().unwrap();
}

#[test]
fn a_commit_above_its_hold_takes_what_remains_and_then_becomes_debt() {
    let (ledger, account) = ledger(1_000);
    let first = hold(&ledger, account, 100);
    let commit = ledger.commit(first, 400).unwrap();
    assert_eq!((commit.charged, commit.returned, commit.debt), (400, 0, 0));
    assert_eq!(commit.balance.remaining, 600);

    let second = hold(&ledger, account, 100);
    let third = hold(&ledger, account, 200);
    let commit = ledger.commit(second, 1_000).unwrap();
    assert_eq!((commit.charged, commit.returned, commit.debt), (400, 0, 600));
    let expected = Balance {
        initial: 1_000,
        remaining: 0,
        reserved: 200,
        committed: 800,
        debt: 600,
        cap: None,
    };
    assert_eq!(commit.balance, expected);
    assert_eq!(denied(&ledger, account, 1), Denial::Insufficient);

    // Every credit repays first: a surplus, a top-up, a release.
    let commit = ledger.commit(third, 50).unwrap();
    assert_eq!((commit.charged, commit.returned, commit.debt), (50, 150, 0));
    assert_eq!((commit.balance.debt, commit.balance.committed), (450, 1_000));
    let balance = ledger.top_up(account, 400).unwrap();
    assert_eq!((balance.debt, balance.remaining, balance.initial), (50, 0, 1_400));
    let balance = ledger.top_up(account, 70).unwrap();
    assert_eq!((balance.debt, balance.remaining, balance.committed), (0, 20, 1_450));
    ledger.verify().unwrap();
}

#[test]
fn a_release_repays_debt_first() {
    let (ledger, account) = ledger(100);
    let (first, second) = (hold(&ledger, account, 60), hold(&ledger, account, 40));
    assert_eq!(ledger.commit(first, 90).unwrap().balance.debt, 30);
    let balance = ledger.release(second).unwrap();
    assert_eq!((balance.debt, balance.remaining, balance.committed), (0, 10, 90));
}

#[test]
fn a_debt_that_does_not_fit_is_refused_and_the_hold_stays() {
    let (ledger, account) = ledger(100);
    let (first, second) = (hold(&ledger, account, 50), hold(&ledger, account, 50));
    assert_eq!(ledger.commit(first, i64::MAX).unwrap().balance.debt, i64::MAX - 50);
    let before = ledger.snapshot();
    let error = ledger.commit(second, 101).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overflow);
    assert_eq!(ledger.snapshot(), before);
    assert_eq!(ledger.commit(second, 100).unwrap().balance.debt, i64::MAX);
    ledger.verify().unwrap();
    // The largest account with the largest debt still adds up.
    let balance = ledger.top_up(account, i64::MAX - 100).unwrap();
    assert_eq!((balance.initial, balance.debt), (i64::MAX, 100));
    ledger.verify().unwrap();
}

#[test]
fn the_version_counts_what_changed_the_ledger() {
    let (ledger, account) = ledger(100);
    assert_eq!(ledger.snapshot().version(), 1);
    let (first, second) = (hold(&ledger, account, 10), hold(&ledger, account, 10));
    denied(&ledger, account, 1_000);
    ledger.commit(first, 5).unwrap();
    ledger.release(second).unwrap();
    ledger.release(second).unwrap_err();
    ledger.top_up(account, 5).unwrap();
    ledger.set_cap(account, Some(5)).unwrap();
    assert_eq!(ledger.snapshot().version(), 7);
    assert_eq!(ledger.snapshot(), ledger.snapshot());
}

#[test]
fn a_certificate_says_what_was_committed_since_the_last() {
    let (ledger, account) = ledger(100);
    let first = hold(&ledger, account, 10);
    ledger.commit(first, 7).unwrap();
    let certificate = ledger.certificate();
    assert_eq!(certificate.digest, ledger.snapshot().digest());
    assert_eq!((certificate.committed_since, certificate.balanced), (Some(7), true));
    let second = hold(&ledger, account, 10);
    ledger.commit(second, 200).unwrap();
    let certificate = ledger.certificate();
    assert_eq!(certificate.committed_since, Some(93));
    let totals = certificate.totals.unwrap();
    assert_eq!((totals.initial, totals.committed, totals.debt), (100, 100, 107));
    assert!(certificate.to_json().ends_with(",\"total_debt_microcents\":107}"));
    // Totals that do not fit say so, and the next certificate counts from the last that did.
    ledger.open_account("rich", i64::MAX).unwrap();
    let certificate = ledger.certificate();
    assert_eq!(
        (certificate.totals, certificate.committed_since, certificate.balanced),
        (None, None, false)
    );
    assert!(
        certificate
            .to_json()
            .contains("\"aggregate_totals_representable\":false")
    );
}

#[test]
fn the_digest_is_the_layout_of_the_specification() {
    let ledger = Ledger::new();
    for (name, initial) in [("b", 7), ("Å", 5), ("a", 9)] {
        ledger.open_account(name, initial).unwrap();
    }
    hold(&ledger, AccountId(2), 4);
    let snapshot = ledger.snapshot();
    let mut bytes = Vec::new();
    bytes.tag(tag::LEDGER);
    for word in [4, 3, 1] {
        bytes.u64(word);
    }
    for (name, figures) in [("a", [9, 5, 4, 0]), ("b", [7, 7, 0, 0]), ("Å", [5, 5, 0, 0])] {
        bytes.str(name);
        for figure in figures {
            bytes.i64(figure);
        }
    }
    assert_eq!(snapshot.digest(), Digest::of(&bytes));
    bytes.put(b"calybris.ledger.wal-watermark.v1\0");
    bytes.u64(77);
    let snapshot = snapshot.with_watermark(77);
    assert_eq!(snapshot.digest(), Digest::of(&bytes));
    assert_eq!(LedgerSnapshot::from_json(&snapshot.to_json()).unwrap(), snapshot);
}

#[test]
fn a_snapshot_comes_back_from_its_document_whatever_the_names() {
    let ledger = Ledger::new();
    for name in [
        "\"quoted\"",
        "new\nline",
        "\u{1f600}",
        "\0",
        "</script>",
        &"x".repeat(NAME_BYTES_MAX),
    ] {
        ledger.open_account(name, 1).unwrap();
    }
    let open = hold(&ledger, AccountId(0), 1);
    ledger.commit(open, 5).unwrap();
    let snapshot = ledger.snapshot();
    assert_eq!(LedgerSnapshot::from_json(&snapshot.to_json()).unwrap(), snapshot);
    assert_eq!(snapshot.account("\0").unwrap().initial, 1);
    assert_eq!(snapshot.account("\"quoted\"").unwrap().debt, 4);
    assert!(snapshot.account("absent").is_none());
}

#[test]
fn a_document_may_order_its_accounts_as_it_likes() {
    let account = |name: &str| {
        format!(
            "{{\"tenant_id\":{name:?},\"initial_microcents\":3,\"remaining_microcents\":1,\"reserved_microcents\":1,\
             \"committed_microcents\":1}}"
        )
    };
    let document = |names: &[&str]| {
        let accounts: Vec<String> = names.iter().map(|name| account(name)).collect();
        format!(
            "{{\"version\":18446744073709551615,\"tenants\":[{}],\"active_reservations\":2}}",
            accounts.join(",")
        )
    };
    let read = LedgerSnapshot::from_json(&document(&["b", "", "a"])).unwrap();
    assert_eq!(read, LedgerSnapshot::from_json(&document(&["", "a", "b"])).unwrap());
    assert_eq!((read.version(), read.watermark()), (u64::MAX, None));
    let twice = LedgerSnapshot::from_json(&document(&["a", "b", "a"])).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidSnapshot);
    assert!(twice.to_string().contains("\"a\" occurs twice"), "{twice}");
}

#[test]
fn a_document_that_is_not_exactly_a_snapshot_is_refused() {
    let good = "{\"version\":1,\"tenants\":[{\"tenant_id\":\"a\",\"initial_microcents\":3,\"remaining_microcents\":1,\
                \"reserved_microcents\":1,\"committed_microcents\":1}],\"active_reservations\":1,\
                \"wal_high_watermark\":null}";
    LedgerSnapshot::from_json(good).unwrap().verify().unwrap();
    for (from, to) in [
        ("\"version\":1", "\"version\":-1"),
        ("\"version\":1", "\"version\":1.0"),
        ("\"version\":1", "\"version\":18446744073709551616"),
        ("\"version\":1", "\"version\":1,\"version\":1"),
        ("\"version\":1,", ""),
        ("\"version\":1", "\"version\":1,\"other\":1"),
        ("\"initial_microcents\":3", "\"initial_microcents\":9223372036854775808"),
        ("\"initial_microcents\":3", "\"initial_microcents\":\"3\""),
        ("\"initial_microcents\":3", "\"initial_microcents\":true"),
        ("\"initial_microcents\":3,", ""),
        ("\"initial_microcents\":3", "\"initial_microcents\":3,\"note\":0"),
        ("\"wal_high_watermark\":null}", "\"wal_high_watermark\":null}x"),
        ("\"wal_high_watermark\":null}", "\"wal_high_watermark\":null"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        match LedgerSnapshot::from_json(&bad) {
            Ok(_) => panic!("accepted: {bad}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidSnapshot, "{bad}"),
        }
    }
}

#[test]
fn a_snapshot_that_does_not_balance_is_told_by_account() {
    let document = |figures: [i64; 5]| {
        let [initial, remaining, reserved, committed, debt] = figures;
        format!(
            "{{\"version\":1,\"tenants\":[{{\"tenant_id\":\"acme\",\"initial_microcents\":{initial},\
             \"remaining_microcents\":{remaining},\"reserved_microcents\":{reserved},\
             \"committed_microcents\":{committed},\"debt_microcents\":{debt}}}],\"active_reservations\":0,\
             \"wal_high_watermark\":null}}"
        )
    };
    for good in [
        [6, 1, 2, 3, 0],
        [5, 0, 2, 3, 9],
        [0, 0, 0, 0, 0],
        [i64::MAX, i64::MAX, 0, 0, 0],
    ] {
        let snapshot = LedgerSnapshot::from_json(&document(good)).unwrap();
        snapshot.verify().unwrap();
        assert!(snapshot.certificate(0).balanced);
    }
    for bad in [
        [7, 1, 2, 3, 0],
        [6, -1, 4, 3, 0],
        [6, 4, -1, 3, 0],
        [6, 4, 3, -1, 0],
        [6, 1, 2, 3, 1],
        [5, 0, 2, 3, -1],
        [-2, i64::MAX, i64::MAX, 0, 0],
    ] {
        let snapshot = LedgerSnapshot::from_json(&document(bad)).unwrap();
        let error = snapshot.verify().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unbalanced);
        assert!(error.to_string().contains("\"acme\""), "{error}");
        assert!(!snapshot.certificate(0).balanced);
    }
}

/// Every kind of error with an operation that gives it.
#[test]
fn every_error_has_its_code_and_changes_nothing() {
    let (ledger, account) = ledger(100);
    let open = hold(&ledger, account, 10);
    let missing = AccountId(9);
    let before = ledger.snapshot();
    let errors: Vec<(&str, Error)> = vec![
        ("ledger.invalid_name", ledger.open_account("", 1).unwrap_err()),
        (
            "ledger.invalid_name",
            ledger.open_account(&"x".repeat(NAME_BYTES_MAX + 1), 1).unwrap_err(),
        ),
        ("ledger.invalid_amount", ledger.open_account("b", -1).unwrap_err()),
        ("ledger.account_exists", ledger.open_account("acme", 1).unwrap_err()),
        ("ledger.unknown_account", ledger.set_cap(missing, None).unwrap_err()),
        ("ledger.invalid_amount", ledger.set_cap(account, Some(-1)).unwrap_err()),
        (
            "ledger.unknown_account",
            ledger.reserve(missing, HoldId(7), 1).unwrap_err(),
        ),
        (
            "ledger.invalid_amount",
            ledger.reserve(account, HoldId(7), -1).unwrap_err(),
        ),
        (
            "ledger.invalid_amount",
            ledger.reserve(account, HoldId(7), i64::MIN).unwrap_err(),
        ),
        ("ledger.hold_in_use", ledger.reserve(account, open, 1).unwrap_err()),
        ("ledger.unknown_hold", ledger.commit(HoldId(7), 1).unwrap_err()),
        ("ledger.invalid_amount", ledger.commit(HoldId(7), -1).unwrap_err()),
        ("ledger.invalid_amount", ledger.commit(open, -1).unwrap_err()),
        ("ledger.unknown_hold", ledger.release(HoldId(0)).unwrap_err()),
        ("ledger.unknown_account", ledger.top_up(missing, 1).unwrap_err()),
        ("ledger.invalid_amount", ledger.top_up(account, 0).unwrap_err()),
        ("ledger.overflow", ledger.top_up(account, i64::MAX).unwrap_err()),
        ("ledger.invalid_snapshot", LedgerSnapshot::from_json("{}").unwrap_err()),
    ];
    for (code, error) in &errors {
        assert_eq!(error.code(), *code);
        assert_eq!(error.kind().code(), *code);
        let line = error.to_string();
        assert!(!line.is_empty() && !line.contains('\n'), "{line}");
    }
    assert_eq!(ledger.snapshot(), before);
    assert_eq!(ledger.balance(missing), None);
    assert_eq!(ledger.account("b"), None);
    ledger.verify().unwrap();
}

#[test]
fn nothing_can_be_held_and_charged_later_but_not_on_an_account_in_debt() {
    let ledger = Ledger::new();
    let account = ledger.open_account("acme", 10).unwrap();
    let unchanged = ledger.balance(account).unwrap();
    for hold in [HoldId(1), HoldId(2), HoldId(3)] {
        let balance = unchanged;
        assert_eq!(
            ledger.reserve(account, hold, 0).unwrap(),
            Reserve::Held { hold, balance }
        );
    }
    assert_eq!(ledger.release(HoldId(1)).unwrap(), unchanged);
    let commit = ledger.commit(HoldId(2), 25).unwrap();
    assert_eq!((commit.charged, commit.returned, commit.debt), (10, 0, 15));
    assert!(matches!(
        ledger.reserve(account, HoldId(4), 0).unwrap(),
        Reserve::Denied {
            reason: Denial::Insufficient,
            ..
        }
    ));
    ledger.top_up(account, 15).unwrap();
    assert!(matches!(
        ledger.reserve(account, HoldId(4), 0).unwrap(),
        Reserve::Held { .. }
    ));
    assert_eq!(ledger.commit(HoldId(3), 0).unwrap().charged, 0);
    ledger.verify().unwrap();
}
