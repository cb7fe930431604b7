use decidable_canon::Digest;

use super::*;

/// What the child of a fork has that nobody told of it: all of its parent's but the threads.
pub(crate) fn in_a_child() -> Shared {
    let head = Head {
        log_id: [1; 16],
        seq: 7,
        hash: Digest::from_bytes([0; 32]),
    };
    let mut shared = Shared::new(head, 0, 0, Durability::Group, QUEUE_RECORDS_MAX, QUEUE_BYTES_MAX);
    shared.process = shared.process.wrapping_add(1);
    shared
}

#[test]
fn a_child_that_nobody_told_does_not_wait_for_a_lock_that_a_thread_of_its_parent_holds() {
    let shared = in_a_child();
    let held = shared.queue();
    assert_eq!(shared.enter().unwrap_err().kind(), ErrorKind::Abandoned);
    assert_eq!(
        shared.enqueue(&[], &[], Room::Needed).unwrap_err().kind(),
        ErrorKind::Abandoned
    );
    assert_eq!(shared.hurry().unwrap_err().kind(), ErrorKind::Abandoned);
    drop(held);
    // A lock that nobody holds takes its copy of the queue nowhere.
    assert_eq!(shared.hurry().unwrap(), 8);
}

#[test]
fn a_child_that_nobody_told_does_not_wait_for_a_flusher_that_it_has_not() {
    let shared = in_a_child();
    let error = shared.wait_until(None, |progress| progress.head.seq > 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Abandoned);
}

#[test]
fn a_failure_drops_what_is_queued_and_whoever_waits_is_heard() {
    let mut shared = in_a_child();
    shared.process = std::process::id();
    let entry = Entry {
        kind: 16,
        time_ns: 1,
        payload: b"x".as_slice().into(),
        private: None,
    };
    assert_eq!(
        shared
            .enqueue(std::slice::from_ref(&entry), &[], Room::Needed)
            .unwrap()
            .last,
        8
    );
    assert!(!shared.queue().urgent);
    assert_eq!(shared.hurry().unwrap(), 9);
    assert!(shared.queue().urgent);
    shared.poison(&Failure::new("the disk is gone"));
    let queue = shared.queue();
    assert_eq!((queue.batches.len(), queue.records, queue.bytes), (0, 0, 0));
    drop(queue);
    assert_eq!(
        shared.enqueue(&[entry], &[], Room::Beyond).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    assert_eq!(
        shared.wait_until(None, |_| false).unwrap_err().kind(),
        ErrorKind::DurabilityLost
    );
}
