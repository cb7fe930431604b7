//! The crate that reads tables panics where one is not what it says; that is an error of the table.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What is found, or why the crate panicked. Nothing is printed of it: the hook that prints is passed over on this thread meanwhile,
/// and called for every other.
pub(super) fn run<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                print(panic);
            }
        }));
    });
    // Whoever makes the table may read another one meanwhile.
    let before = QUIET.replace(true);
    let found = catch_unwind(AssertUnwindSafe(read));
    QUIET.set(before);
    found.map_err(|panic| why(panic.as_ref()))
}

fn why(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let why = match text.unwrap_or_default() {
        // A stream that fails and says nothing.
        text if text.contains("`None` value") => "it does not say why",
        text if text.contains("num_children") => {
            "a chunk has another number of columns, or of parts of one, than the schema says"
        }
        _ => "a chunk is not what the schema says",
    };
    why.to_owned()
}
