/// Text from outside as a person may read it: every character that does not show itself as its number, such as `\x1b` or
/// `\u202e`.
///
/// Control characters could move a cursor or begin an escape sequence, and format characters reorder or hide what is read.
/// Private, unassigned and line-ending characters go with them; spaces and combining marks stay.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if shows_itself(c) {
            out.push(c);
        } else {
            let number = u32::from(c);
            out.push_str(&match number {
                0..=0xff => format!("\\x{number:02x}"),
                0x100..=0xffff => format!("\\u{number:04x}"),
                _ => format!("\\U{number:08x}"),
            });
        }
    }
    out
}

fn shows_itself(c: char) -> bool {
    // The debug form of a text escapes what does not, and besides quotes, spaces and a combining mark at its beginning.
    let is_space = c.is_whitespace() && !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    let is_escaped = || ['.', c].iter().collect::<String>().escape_debug().count() > 2;
    is_space || matches!(c, '"' | '\'' | '\\') || !is_escaped()
}
