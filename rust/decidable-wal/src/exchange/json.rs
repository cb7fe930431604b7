//! The JSON grammar (RFC 8259), so that a data span is one value and cannot hide further members of its line.

/// Values nest at most this deep: as deep as the usual readers follow.
const DEPTH_MAX: usize = 128;

/// The text of exactly one JSON value, without space around it and without line breaks.
pub(super) fn value_text(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the data is not UTF-8")?;
    let mut reader = Reader::new(bytes);
    reader.value().ok_or("the data is not one JSON value")?;
    if !reader.is_at_end() {
        return Err("the data is not one JSON value");
    }
    if bytes.contains(&b'\n') {
        return Err("the data has a line break");
    }
    Ok(text)
}

/// Steps over JSON without building anything.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Steps over as many bytes as `are`, and returns them.
    fn run(&mut self, are: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().position(|byte| !are(*byte)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(count).unwrap_or_default();
        self.rest = rest;
        run
    }

    pub(super) fn space(&mut self) {
        self.run(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    pub(super) fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// The bytes between the quotes of a string, escapes as they are.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        self.literal(b"\"")?;
        let start = self.rest;
        loop {
            self.run(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
            match self.step()? {
                b'"' => {
                    let length = start.len().checked_sub(self.rest.len())?.checked_sub(1)?;
                    return start.get(..length);
                }
                b'\\' => match self.step()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.rest = rest;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    pub(super) fn digits(&mut self) -> Option<&'a [u8]> {
        let digits = self.run(|byte| byte.is_ascii_digit());
        (!digits.is_empty()).then_some(digits)
    }

    fn number(&mut self) -> Option<()> {
        // An absent sign is no fault.
        let _ = self.literal(b"-");
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with(b"0") {
            return None;
        }
        if self.literal(b".").is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.step()?;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step()?;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Steps over one value. `open` holds the brackets that are open, innermost last.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    self.step()?;
                    if open.len() == DEPTH_MAX {
                        return None;
                    }
                    open.push(bracket);
                    self.space();
                    match (bracket, self.peek()?) {
                        (b'{', b'}') | (b'[', b']') => {}
                        (b'{', _) => {
                            self.member_name()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            loop {
                let Some(bracket) = open.last() else {
                    return Some(());
                };
                self.space();
                match (*bracket, self.step()?) {
                    (b'{', b'}') | (b'[', b']') => {
                        open.pop();
                    }
                    (b'{', b',') => {
                        self.space();
                        self.member_name()?;
                        break;
                    }
                    (b'[', b',') => {
                        self.space();
                        break;
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Steps over a member's name and colon, up to its value.
    pub(super) fn member_name(&mut self) -> Option<&'a [u8]> {
        let name = self.string()?;
        self.space();
        self.literal(b":")?;
        self.space();
        Some(name)
    }
}
