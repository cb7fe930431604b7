use std::sync::Arc;

use decidable_canon::Digest;

use super::*;
use crate::{
    frame::Chain,
    memory::Memory,
    storage::{Access, Storage as _, StoredFile},
};

fn shared(sync: Durability) -> (Shared, Arc<dyn StoredFile>) {
    let storage = Memory::new();
    storage.create().unwrap();
    let file = storage.open("segment", Access::Create).unwrap();
    let head = Head {
        log_id: [1; 16],
        seq: 7,
        hash: Digest::from_bytes([0; 32]),
    };
    let writer = Writer {
        file: Arc::clone(&file),
        length: 0,
        chain: Chain {
            log_id: head.log_id,
            salt: 0,
            hash: head.hash,
        },
        key: None,
        sync,
        buffer: Vec::new(),
    };
    (Shared::new(head, writer, 0, QUEUE_RECORDS_MAX, QUEUE_BYTES_MAX), file)
}

/// What the child of a fork has that nobody told of it: all of its parent's but the threads.
pub(crate) fn in_a_child(sync: Durability) -> (Shared, Arc<dyn StoredFile>) {
    let (mut shared, file) = shared(sync);
    shared.process = shared.process.wrapping_add(1);
    (shared, file)
}

fn entry() -> Entry<'static> {
    Entry {
        kind: 16,
        time_ns: 1,
        payload: b"x".as_slice().into(),
        private: None,
    }
}

#[test]
fn a_child_that_nobody_told_does_not_wait_for_a_lock_that_a_thread_of_its_parent_holds() {
    let (shared, _) = in_a_child(Durability::Group);
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
    let (shared, _) = in_a_child(Durability::Group);
    let error = shared.wait_until(None, |progress| progress.head.seq > 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Abandoned);
}

#[test]
fn a_failure_drops_what_is_queued_and_whoever_waits_is_heard() {
    let (shared, _) = shared(Durability::Group);
    assert_eq!(shared.enqueue(&[entry()], &[], Room::Needed).unwrap().last, 8);
    assert!(!shared.queue().urgent);
    assert_eq!(shared.hurry().unwrap(), 9);
    assert!(shared.queue().urgent);
    shared.poison(&Failure::new("the disk is gone"));
    let queue = shared.queue();
    assert_eq!((queue.batches.len(), queue.records, queue.bytes), (0, 0, 0));
    drop(queue);
    assert_eq!(
        shared.enqueue(&[entry()], &[], Room::Beyond).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    assert_eq!(
        shared.wait_until(None, |_| false).unwrap_err().kind(),
        ErrorKind::DurabilityLost
    );
}

/// Without a sync whoever waits writes what is queued, and nobody else is needed for it.
#[test]
fn whoever_waits_for_an_unsynced_log_writes_it() {
    let (shared, file) = shared(Durability::None);
    for seq in 8..=9 {
        assert_eq!(shared.enqueue(&[entry()], &[], Room::Needed).unwrap().last, seq);
    }
    shared.write_up_to(9);
    assert_eq!(
        (shared.durable.load(Ordering::Acquire), shared.progress().head.seq),
        (9, 9)
    );
    assert_eq!(file.state().unwrap().length, shared.progress().length);
    // Of what is not queued nothing is written, and while another writes nobody waits for it.
    shared.write_up_to(10);
    assert_eq!(shared.enqueue(&[entry()], &[], Room::Needed).unwrap().last, 10);
    let writing = hold(&shared.hand);
    shared.write_up_to(10);
    drop(writing);
    assert_eq!(shared.durable.load(Ordering::Acquire), 9);
    let queue = shared.queue();
    assert_eq!((queue.records, queue.batches.len()), (1, 1));
}
