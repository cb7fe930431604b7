use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Numbered, RECENT_MAX};

fn check(map: &Numbered<u32>, plain: &BTreeMap<u64, u32>) {
    assert_eq!(
        map.iter().map(|(number, value)| (number, *value)).collect::<Vec<_>>(),
        plain
            .iter()
            .map(|(number, value)| (*number, *value))
            .collect::<Vec<_>>()
    );
    for number in plain
        .keys()
        .flat_map(|number| [number.saturating_sub(1), *number, number.saturating_add(1)])
    {
        assert_eq!(map.get(number), plain.get(&number));
    }
    assert!(map.recent.len() <= RECENT_MAX);
    // Of the older no more than half stand empty.
    let places = &map.older.places;
    let empty = places.iter().filter(|(_, value)| value.is_none()).count();
    assert_eq!(map.older.empty, empty);
    assert!(empty <= places.len() / 2, "{empty} of {}", places.len());
}

#[test]
fn room_that_nothing_needs_is_given_back() {
    let mut map = Numbered::new();
    let count = u64::try_from(2 * RECENT_MAX).unwrap();
    (1..=count).for_each(|number| map.insert(number, 7));
    assert_eq!(map.older.places.len(), RECENT_MAX);
    for number in 1..=count {
        assert_eq!(map.remove(number), Some(7));
    }
    assert!(map.older.places.capacity() < 16, "{}", map.older.places.capacity());
}

proptest! {
    #[test]
    fn it_answers_as_an_ordered_map(steps in prop::collection::vec((0_u8..8, any::<u32>()), 0..200)) {
        let (mut map, mut plain) = (Numbered::new(), BTreeMap::new());
        let mut next = 1_u64;
        for (what, value) in steps {
            let some = next.saturating_sub(u64::from(value % 50));
            match what {
                0..4 => {
                    // Mostly the next number, sometimes a gap, rarely a leap.
                    next = next.saturating_add(match value % 16 {
                        0..13 => 1,
                        13..15 => u64::from(value % 100),
                        _ => u64::from(value),
                    });
                    map.insert(next, value);
                    plain.insert(next, value);
                }
                4 => {
                    map.insert(some, value);
                    plain.insert(some, value);
                }
                5 | 6 => prop_assert_eq!(map.remove(some), plain.remove(&some)),
                _ => {
                    if let Some(held) = map.change(some) {
                        *held = value;
                    }
                    if let Some(held) = plain.get_mut(&some) {
                        *held = value;
                    }
                }
            }
            check(&map, &plain);
        }
    }
}

#[test]
fn what_stays_longer_than_the_recent_is_still_found() {
    let (mut map, mut plain) = (Numbered::new(), BTreeMap::new());
    for number in 1..=u64::try_from(RECENT_MAX).unwrap() + 1_000 {
        map.insert(number, 7);
        plain.insert(number, 7);
        if number % 3 != 0 {
            map.remove(number - 1);
            plain.remove(&(number - 1));
        }
    }
    check(&map, &plain);
    map.insert(u64::MAX, 1);
    plain.insert(u64::MAX, 1);
    check(&map, &plain);
    assert_eq!((map.get(u64::MAX), map.recent.len()), (Some(&1), 1));
}
