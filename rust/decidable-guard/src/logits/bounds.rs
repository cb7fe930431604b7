//! What the few most probable tokens say of all.

use super::{
    Error, ErrorKind,
    numbers::{LOG2_E, LOWEST, ln, power},
};

/// By how much the sum of probabilities may miss what is possible: interfaces round what they hand out.
const TOLERANCE: f64 = 1e-3;

/// Lower and upper bounds of what [`LogitStats`](super::LogitStats) would have, where only the most probable tokens are known.
///
/// The known probabilities leave a rest, and every other token has at most the least of them. The entropy is lowest where as few others
/// as possible share the rest, each with as much as it can have, and highest where all others have the same; both are possible, so that no
/// closer bounds follow from these values. They are as right as the values, and entropies to a millionth: what an interface rounded is not
/// in the bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBounds {
    /// Entropy in nats, at least.
    pub entropy_lower: f64,
    /// Entropy in nats, at most.
    pub entropy_upper: f64,
    /// The largest probability less the second largest, at least. With two values or more both bounds are the same.
    pub dominance_lower: f64,
    /// The same, at most.
    pub dominance_upper: f64,
    /// The probability of the selected token, at least. Where it is among the values, both bounds are the same.
    pub selected_probability_lower: f64,
    /// The same, at most.
    pub selected_probability_upper: f64,
}

impl LogitBounds {
    /// The bounds that follow from the natural logarithms of the largest probabilities, in any order.
    ///
    /// `selected` is a position among the values, or `None` for a token that is not among them.
    ///
    /// ```
    /// use decidable_guard::logits::LogitBounds;
    ///
    /// let bounds = LogitBounds::of_logprobs(&[-0.1, -3.0], 50_000, Some(0))?;
    /// assert!(bounds.entropy_lower < bounds.entropy_upper);
    /// assert_eq!(bounds.dominance_lower, bounds.dominance_upper);
    /// # Ok::<(), decidable_guard::logits::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoLogit`] without a value above -∞, [`ErrorKind::VocabularySize`], [`ErrorKind::SelectedOutOfRange`],
    /// [`ErrorKind::NotAProbability`] with the index of the value, and [`ErrorKind::NotADistribution`] where the sum misses what is
    /// possible by more than a thousandth.
    pub fn of_logprobs(values: &[f64], vocabulary: u32, selected: Option<usize>) -> Result<Self, Error> {
        Self::of(values, vocabulary, selected, |value| {
            (value <= TOLERANCE).then(|| power((value * LOG2_E).max(LOWEST)))
        })
    }

    /// The same of the probabilities themselves.
    ///
    /// # Errors
    ///
    /// As [`Self::of_logprobs`].
    pub fn of_probabilities(values: &[f64], vocabulary: u32, selected: Option<usize>) -> Result<Self, Error> {
        Self::of(values, vocabulary, selected, |value| {
            (0.0..=1.0 + TOLERANCE).contains(&value).then_some(value)
        })
    }

    fn of(
        values: &[f64],
        vocabulary: u32,
        selected: Option<usize>,
        probability: impl Fn(f64) -> Option<f64>,
    ) -> Result<Self, Error> {
        let others = u32::try_from(values.len())
            .ok()
            .and_then(|known| vocabulary.checked_sub(known))
            .ok_or(Error::new(ErrorKind::VocabularySize, None))?;
        let mut known = Known::default();
        let mut chosen = None;
        for (index, value) in values.iter().enumerate() {
            let probability = probability(*value).ok_or(Error::new(ErrorKind::NotAProbability, Some(index)))?;
            if selected == Some(index) {
                chosen = Some(probability);
            }
            known.admit(probability);
        }
        if known.first <= power(LOWEST) {
            return Err(Error::new(ErrorKind::NoLogit, None));
        }
        let outside = Error::new(ErrorKind::SelectedOutOfRange, selected);
        if selected.is_some() && chosen.is_none() || selected.is_none() && others == 0 {
            return Err(outside);
        }
        let others = f64::from(others);
        let missing = 1.0 - known.sum;
        if missing < -TOLERANCE || missing > others * known.least + TOLERANCE {
            return Err(Error::new(ErrorKind::NotADistribution, None));
        }
        let rest = missing.max(0.0).min(others * known.least);
        let (lowest, highest) = spread(rest, others, known.least);
        let second = match known.second {
            Some(second) => (second, second),
            None if others > 0.0 => (rest / others, rest.min(known.first)),
            None => (0.0, 0.0),
        };
        let selected = chosen.map_or_else(
            || ((rest - (others - 1.0) * known.least).max(0.0), rest.min(known.least)),
            |probability| (probability, probability),
        );
        Ok(Self {
            entropy_lower: (known.entropy + lowest).max(0.0),
            entropy_upper: (known.entropy + highest.max(lowest)).max(0.0),
            dominance_lower: known.first - second.1,
            dominance_upper: known.first - second.0,
            selected_probability_lower: selected.0,
            selected_probability_upper: selected.1,
        })
    }
}

/// What is known of the values.
struct Known {
    first: f64,
    second: Option<f64>,
    least: f64,
    sum: f64,
    entropy: f64,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            first: 0.0,
            second: None,
            least: f64::INFINITY,
            sum: 0.0,
            entropy: 0.0,
        }
    }
}

impl Known {
    fn admit(&mut self, probability: f64) {
        if self.least == f64::INFINITY {
            self.first = probability;
        } else {
            let behind = self.first.min(probability);
            self.first = self.first.max(probability);
            self.second = Some(self.second.map_or(behind, |second| second.max(behind)));
        }
        self.least = self.least.min(probability);
        self.sum += probability;
        self.entropy += entropy_of(probability);
    }
}

/// −p ln p, and 0 for what is no more than a masked logit.
fn entropy_of(probability: f64) -> f64 {
    if probability <= power(LOWEST) {
        0.0
    } else {
        -probability * ln(probability)
    }
}

/// The least and the greatest entropy of a rest that others share, none of which has more than a cap.
fn spread(rest: f64, others: f64, cap: f64) -> (f64, f64) {
    if rest <= power(LOWEST) {
        return (0.0, 0.0);
    }
    let full = (rest / cap).floor();
    let left = (rest - full * cap).max(0.0);
    let lowest = full * entropy_of(cap) + entropy_of(left);
    let highest = others * entropy_of(rest / others);
    (lowest, highest)
}
