//! What must stand before an attempt: patterns that are tried from the beginning of the text on, and where a stream is in them.

use crate::patterns::{DEAD, KINDS, NO_RULE, Patterns, kind_of};

/// Where a stream is in the patterns of what must stand before an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// One for each, once a byte was taken.
    states: Vec<u32>,
}

impl Before {
    /// Takes the next byte.
    #[inline]
    pub(crate) fn step(&mut self, tables: &[Patterns], byte: u8) {
        if self.states.len() < tables.len() {
            self.states = tables.iter().map(|table| table.start(None)).collect();
        }
        for (state, table) in self.states.iter_mut().zip(tables) {
            *state = table.next(*state, table.column(Some(byte)));
        }
    }

    /// Whether one of them stands before this byte.
    #[inline]
    fn stands(&self, tables: &[Patterns], which: usize, byte: u8) -> bool {
        tables.get(which).is_none_or(|table| {
            let state = self.states.get(which).copied().unwrap_or_else(|| table.start(None));
            table.sure(state) != NO_RULE || table.delayed(state, table.column(Some(byte))) != NO_RULE
        })
    }
}

/// The place of the next byte, at which an attempt may begin.
#[derive(Clone, Copy)]
pub(crate) struct Beginning<'a> {
    pub(crate) last: Option<u8>,
    pub(crate) before: &'a Before,
    pub(crate) tables: &'a [Patterns],
}

impl Beginning<'_> {
    /// The state of an attempt after its first byte, if one begins there.
    #[inline]
    pub(crate) fn state(&self, table: &Patterns, byte: u8) -> u32 {
        let begun = table.next(table.start(self.last), table.column(Some(byte)));
        // Most bytes begin nothing.
        match table.before() {
            Some(which) if begun != DEAD && !self.before.stands(self.tables, which, byte) => DEAD,
            _ => begun,
        }
    }

    /// It, if an attempt of any of some tables begins there.
    #[inline]
    pub(crate) fn if_one_of(self, beginnings: &Beginnings, byte: u8) -> Option<Self> {
        self.is_one_of(beginnings, byte).then_some(self)
    }

    /// Whether an attempt of any of some tables begins there; where there are very many that ask for something before, perhaps none does.
    #[inline]
    pub(crate) fn is_one_of(&self, beginnings: &Beginnings, byte: u8) -> bool {
        let mut these = beginnings.at(self.last, byte);
        if these & ALWAYS != 0 {
            return true;
        }
        while these != 0 {
            let which = usize::try_from(these.trailing_zeros().wrapping_sub(1)).unwrap_or(usize::MAX);
            if self.before.stands(self.tables, which, byte) {
                return true;
            }
            these &= these.wrapping_sub(1);
        }
        false
    }
}

/// The bit of tables that ask for nothing before, and of those behind the last that has one of its own.
const ALWAYS: u64 = 1;

/// Which bytes begin an attempt of some tables, by what stands before: a bit for each thing that must.
#[derive(Debug)]
pub(crate) struct Beginnings(Vec<[u64; 256]>);

impl Beginnings {
    pub(crate) fn new<'a>(tables: impl Iterator<Item = &'a Patterns> + Clone) -> Self {
        let mut found = vec![[0; 256]; KINDS];
        for (kind, row) in found.iter_mut().enumerate() {
            for (byte, these) in (0..=u8::MAX).zip(row) {
                for table in tables.clone() {
                    if table.next(table.start_of(kind), table.column(Some(byte))) != DEAD {
                        let bit = table.before().map_or(0, |which| which.saturating_add(1));
                        *these |= u32::try_from(bit)
                            .ok()
                            .and_then(|bit| 1_u64.checked_shl(bit))
                            .unwrap_or(ALWAYS);
                    }
                }
            }
        }
        Self(found)
    }

    #[inline]
    fn at(&self, last: Option<u8>, byte: u8) -> u64 {
        let row = self.0.get(kind_of(last));
        row.and_then(|row| row.get(usize::from(byte)))
            .copied()
            .unwrap_or(ALWAYS)
    }
}
