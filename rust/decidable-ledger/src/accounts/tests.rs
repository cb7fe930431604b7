use super::*;

#[test]
fn every_number_has_its_own_place() {
    let mut expected = (0, 0);
    for number in 0..10_000 {
        let (row, column, length) = place(AccountId(number));
        if expected.1 == length || (row, column) == (expected.0 + 1, 0) {
            expected = (expected.0 + 1, 0);
        }
        assert_eq!((row, column), expected, "account {number}");
        assert!(column < length);
        expected.1 += 1;
    }
    let (row, column, length) = place(AccountId(u32::MAX));
    assert_eq!((row, column), (ROWS - 1, length - 1));
}

#[test]
fn an_account_is_found_where_it_was_put_and_nowhere_else() {
    let accounts = Accounts::new();
    assert!(accounts.find(AccountId(70)).is_none());
    assert_eq!(accounts.put(AccountId(70), Account::new(5)), Some(()));
    assert_eq!(accounts.put(AccountId(70), Account::new(6)), None);
    assert_eq!(accounts.find(AccountId(70)).unwrap().read().initial, 5);
    assert!(accounts.find(AccountId(69)).is_none());
    assert!(accounts.find(AccountId(u32::MAX)).is_none());
}
