//! Every row is worked on once, whoever else works.

use std::{
    mem::forget,
    panic,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Kept, Starting, after_fork, before_fork, cores, forked, kept_threads, run_within, share};

const ROWS: usize = 40_003;
const PER_ROW: usize = 3;

/// What each item of the room is after work that says its row and what went in.
fn shared(threads: usize, rows: usize) -> Vec<usize> {
    let input: Vec<usize> = (0..rows).map(|row| row * 7).collect();
    let mut room = vec![0; rows * PER_ROW];
    share(threads, 1, &input, &mut room, PER_ROW, |first_row, input, room| {
        for ((row, input), room) in (first_row..).zip(input).zip(room.chunks_exact_mut(PER_ROW)) {
            for item in room {
                *item += row + input + 1;
            }
        }
    });
    room
}

fn expected(rows: usize) -> Vec<usize> {
    (0..rows * PER_ROW).map(|item| item / PER_ROW * 8 + 1).collect()
}

#[test]
fn every_row_is_worked_on_once_however_many_threads_there_are() {
    // More than before, and fewer: threads are kept from one batch to the next.
    for threads in [0, 1, 3, 2, 64, 1] {
        for rows in [0, 1, 8_191, 8_192, ROWS] {
            assert!(
                shared(threads, rows) == expected(rows),
                "{threads} threads, {rows} rows"
            );
        }
    }
}

#[test]
fn batches_at_the_same_time_do_not_wait_for_each_other_and_lose_nothing() {
    thread::scope(|scope| {
        for threads in [2, 3, 2, 4] {
            scope.spawn(move || {
                for _ in 0..50 {
                    assert!(shared(threads, ROWS) == expected(ROWS), "{threads} threads");
                }
            });
        }
    });
}

#[test]
fn work_that_fails_fails_its_batch_and_no_later_one() {
    let input = vec![0_usize; ROWS];
    for failing in [0, ROWS - 1] {
        let failed = panic::catch_unwind(|| {
            let mut room = vec![0; ROWS];
            share(2, 1, &input, &mut room, 1, |first_row, input, _| {
                assert!(!(first_row..first_row + input.len()).contains(&failing), "as it should");
            });
        });
        assert!(failed.is_err());
        assert!(shared(2, ROWS) == expected(ROWS));
    }
}

#[test]
fn a_second_thread_takes_part() {
    if cores() < 2 {
        return;
    }
    let input = vec![0_u8; ROWS];
    // Other tests may have the threads: then the caller's does it all, and nobody is met.
    let met = (0..1_000).any(|_| {
        let callers = thread::current().id();
        let mut room: Vec<Option<thread::ThreadId>> = vec![None; ROWS];
        share(2, 1, &input, &mut room, 1, |_, _, room| {
            room.fill(Some(thread::current().id()));
            thread::sleep(Duration::from_micros(100));
        });
        room.iter().any(|worker| *worker != Some(callers))
    });
    assert!(met);
}

#[test]
fn threads_are_kept_until_more_are_asked_for_or_a_fork() {
    let count = |kept: Option<&Kept>| kept.map(|kept| kept.threads.current_num_threads());
    let mut kept = None;
    assert_eq!(count(kept_threads(&mut kept, 3, || 1)), None);
    for (others, expected) in [(1, 1), (2, 2), (1, 2), (9, 4), (3, 4)] {
        assert_eq!(count(kept_threads(&mut kept, others, || 5)), Some(expected), "{others}");
    }
    // They all work at the same time.
    let barrier = Barrier::new(4);
    let threads = &kept_threads(&mut kept, 4, || 5).unwrap().threads;
    threads.in_place_scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|_| {
                barrier.wait();
            });
        }
    });
    // Those of before a fork are not used.
    forked();
    assert_eq!(count(kept_threads(&mut kept, 1, || 5)), Some(1));
    // None is started while a fork is near, and what is there stays.
    before_fork();
    assert_eq!(count(kept_threads(&mut kept, 3, || 5)), Some(1));
    assert_eq!(count(kept_threads(&mut None, 3, || 5)), None);
    after_fork();
    // A fork waits for one that is being started.
    let starting = Starting::new();
    assert!(starting.is_some());
    thread::scope(|scope| {
        let fork = scope.spawn(before_fork);
        while Starting::new().is_some() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(20));
        assert!(!fork.is_finished());
        drop(starting);
    });
    assert_eq!(count(kept_threads(&mut kept, 3, || 5)), Some(1));
    after_fork();
    // A fork that nobody told of is none that is waited for, and a child has none of the parent's that was being started.
    after_fork();
    forget(Starting::new());
    forked();
    before_fork();
    after_fork();
    // Each runs within what is said, and nothing that is said later.
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    run_within(|run| {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        run();
    });
    run_within(|_| ());
    let before = RUNNING.load(Ordering::Relaxed);
    let threads = &kept_threads(&mut kept, 3, || 5).unwrap().threads;
    threads.broadcast(|_| ());
    assert!(RUNNING.load(Ordering::Relaxed) >= before + 3);
}
