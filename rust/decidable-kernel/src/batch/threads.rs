//! Rows shared out among threads, of which the caller's is one.

use std::{
    io,
    mem::forget,
    num::NonZero,
    process,
    sync::{
        Mutex, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rayon_core::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};

use crate::left::PIECE;

/// A thread is worth waking for this many rows of a catalog of ordinary size, and for fewer of a larger one: at least as long
/// as it takes to wake.
const ROWS_PER_THREAD: usize = 4_096;

/// A thread takes so many rows at a time, of a larger catalog fewer: less work than waking a thread is worth.
const ROWS_PER_PIECE: usize = 1_024;

/// So many candidates has a catalog of ordinary size.
const ORDINARY_CANDIDATES: usize = 64;

/// The caller gives up its turn so often before it sleeps until the others are done: they take about a piece longer than it, and
/// being woken takes longer than that.
const TURNS_GIVEN: usize = 64;

/// The threads that wait for the next batch: waking one that is there takes less time than starting one.
///
/// One batch has them at a time. One that comes meanwhile is its caller's alone, because the cores have work; so is every batch in a
/// child of a fork that finds them taken for ever.
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// How often [`forked`] was called here and in the processes before this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Within what the threads run.
static WITHIN: OnceLock<Within> = OnceLock::new();

/// Calls what it is given, once.
pub type Within = fn(&mut (dyn FnMut() + Send));

/// How many threads are started and do not run yet.
static STARTING: AtomicUsize = AtomicUsize::new(0);

/// How many forks of this process are waited for.
static FORKING: AtomicUsize = AtomicUsize::new(0);

/// A fork looks so often whether a thread that starts runs.
const STARTING_CHECK: Duration = Duration::from_micros(50);

struct Kept {
    /// The process that started them: a child of a fork has none of its parent's threads.
    process: (u32, u64),
    /// The machine's cores beside the caller's: more threads gain nothing.
    most: usize,
    threads: ThreadPool,
}

/// Has the threads that are started from now on run within something, such as an interpreter that is to know them. What is said first
/// holds.
pub fn run_within(within: Within) {
    WITHIN.get_or_init(|| within);
}

/// To be called before a fork, and [`after_fork`] behind it: when this has returned no thread is being started, and none is before that.
/// A lock that a thread takes to begin, such as that of an interpreter's threads, would stay taken in the child.
pub fn before_fork() {
    FORKING.fetch_add(1, Ordering::SeqCst);
    while STARTING.load(Ordering::SeqCst) > 0 {
        thread::sleep(STARTING_CHECK);
    }
}

/// To be called in the parent of a fork. One that was not told of before it is none: an interpreter may have been asked to tell of forks
/// in the middle of one.
pub fn after_fork() {
    one_less(&FORKING);
}

/// To be called in a child of a fork: threads of the parent are not there.
///
/// It is noticed without, by the number of the process, unless the child has the same number: in a namespace of its own, or because its
/// parent has ended and given it up.
pub fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    FORKING.store(0, Ordering::SeqCst);
    // Also one that was not to begin, and counted as long as it took to find that out.
    STARTING.store(0, Ordering::SeqCst);
}

/// This process, by its number and by how often it was told of a fork: a child is another than its parent.
#[must_use]
pub fn this_process() -> (u32, u64) {
    (process::id(), FORKS.load(Ordering::Relaxed))
}

/// Has the work on rows, for each of which so many candidates are looked at, done on at most so many threads. Each takes the next piece of
/// what goes in, with the number of its first row, and of the room for what comes out, `per_row` items a row, so that the caller's works
/// while others wake. Threads beyond the machine's cores gain nothing and are not started; where the system refuses one,
/// those that there are do all of it.
pub(super) fn share<I: Sync, O: Send>(
    threads: usize,
    candidates: usize,
    input: &[I],
    room: &mut [O],
    per_row: usize,
    work: impl Fn(usize, &[I], &mut [O]) + Sync,
) {
    let larger = (candidates / ORDINARY_CANDIDATES).max(1);
    let per_thread = (ROWS_PER_THREAD / larger).max(1);
    // Whole groups of what is decided side by side.
    let per_piece = (ROWS_PER_PIECE / larger).next_multiple_of(PIECE).max(PIECE);
    let worth = threads.min(input.len() / per_thread);
    if worth <= 1 {
        return work(0, input, room);
    }
    let pieces = (0..).step_by(per_piece).zip(input.chunks(per_piece));
    let rooms = room.chunks_mut(per_piece.saturating_mul(per_row).max(1));
    let pieces = Mutex::new(pieces.zip(rooms));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_part = || {
        while let Some(((first_row, input), room)) = next() {
            work(first_row, input, room);
        }
    };
    on_threads(worth, &take_part);
}

/// Does the work on so many threads, of which the caller's is one, or on as many as there are: each does all that it finds to do. The
/// others are those that batches have, which stay from one to the next.
///
/// # Panics
/// If the work does.
pub fn on_threads(threads: usize, work: &(impl Fn() + Sync)) {
    let others = threads.saturating_sub(1);
    let mut kept = match KEPT.try_lock() {
        Ok(kept) => kept,
        // What failed was a batch's work, and its threads wait again.
        Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
        Err(TryLockError::WouldBlock) => return work(),
    };
    let Some(kept) = kept_threads(&mut kept, others, cores) else {
        return work();
    };
    let count = others.min(kept.threads.current_num_threads());
    let at_work = AtomicUsize::new(count);
    kept.threads.in_place_scope(|scope| {
        for _ in 0..count {
            scope.spawn(|_| {
                work();
                at_work.fetch_sub(1, Ordering::Release);
            });
        }
        work();
        for _ in 0..TURNS_GIVEN {
            if at_work.load(Ordering::Acquire) == 0 {
                break;
            }
            thread::yield_now();
        }
    });
}

/// The threads that are kept: as many as a batch has asked for so far, and the machine had cores when it did.
fn kept_threads(kept: &mut Option<Kept>, others: usize, cores: impl Fn() -> usize) -> Option<&Kept> {
    let process = this_process();
    if let Some(inherited) = kept.take_if(|kept| kept.process != process) {
        // They would be told to end, and are not there.
        forget(inherited);
    }
    let enough = |kept: &Kept| kept.threads.current_num_threads() >= others.min(kept.most);
    if !kept.as_ref().is_some_and(enough) {
        let most = cores().saturating_sub(1);
        // None would mean one for each core.
        let count = NonZero::new(others.min(most))?.get();
        let threads = ThreadPoolBuilder::new().num_threads(count).spawn_handler(start);
        // Where the system refuses more, those that there are do all of it.
        if let Ok(threads) = threads.build() {
            *kept = Some(Kept { process, most, threads });
        }
    }
    kept.as_ref()
}

/// Starts a thread, unless a fork is near.
fn start(kept: ThreadBuilder) -> io::Result<()> {
    let starting = Starting::new().ok_or(io::ErrorKind::WouldBlock)?;
    let mut thread = Some((starting, kept));
    let mut run = move || {
        if let Some((starting, kept)) = thread.take() {
            drop(starting);
            kept.run();
        }
    };
    let run = move || match WITHIN.get() {
        Some(within) => within(&mut run),
        None => run(),
    };
    thread::Builder::new()
        .name("decidable-batch".into())
        .spawn(run)
        .map(drop)
}

/// A thread that is started and does not run yet.
struct Starting;

impl Starting {
    fn new() -> Option<Self> {
        STARTING.fetch_add(1, Ordering::SeqCst);
        let starting = Self;
        (FORKING.load(Ordering::SeqCst) == 0).then_some(starting)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        one_less(&STARTING);
    }
}

/// Counts down, and not below 0.
fn one_less(count: &AtomicUsize) {
    let less = |count: usize| count.checked_sub(1);
    let _none = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests;
