//! What a machine must have: where `DECIDABLE_VECTORS` names widths of vectors, such as `avx512,avx2`, tests that find one missing
//! fail there, and do not pass with a notice.

/// Of the widths that are asked for, separated by commas, those that a machine lacks.
pub(crate) fn lacking<'a>(asked: &'a str, has: &[&str]) -> Vec<&'a str> {
    let asked = asked.split(',').map(str::trim).filter(|width| !width.is_empty());
    asked.filter(|width| !has.contains(width)).collect()
}

/// Fails if this machine lacks one of those that are asked for.
pub(crate) fn has_what_is_asked_for(has: &[&str]) {
    let asked = std::env::var("DECIDABLE_VECTORS").unwrap_or_default();
    let lacking = lacking(&asked, has);
    assert!(
        lacking.is_empty(),
        "DECIDABLE_VECTORS={asked}, and this machine has no {}; it has {}",
        lacking.join(", "),
        has.join(", ")
    );
}
