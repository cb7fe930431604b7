//! Interleaved measurement: every round runs every contestant once, in rotating order. Rounds are short, so that most
//! of them fall between two interruptions, and what is compared ran within the same millisecond.

use std::time::Instant;

/// Something to measure: a name, and work to repeat a number of times.
pub struct Contestant<'a> {
    name: &'a str,
    work: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Contestant<'a> {
    /// `work` is called with how often to repeat itself.
    pub fn new(name: &'a str, work: impl FnMut(u64) + 'a) -> Self {
        Self {
            name,
            work: Box::new(work),
        }
    }

    /// `once` is called with the number of the repetition, which goes on from round to round.
    pub fn each<T>(name: &'a str, mut once: impl FnMut(u64) -> T + 'a) -> Self {
        let mut next = 0;
        Self::new(name, move |repetitions| {
            for repetition in next..next + repetitions {
                std::hint::black_box(once(std::hint::black_box(repetition)));
            }
            next += repetitions;
        })
    }
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many rounds; the median of an odd number is one of them.
    pub rounds: usize,
    /// About how long a contestant works in one round, in milliseconds.
    pub round_ms: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 201,
            round_ms: 1,
        }
    }
}

/// Measures the contestants and prints one line: the median round of each, in nanoseconds per item, and how many times
/// as long as the last each of the others takes: by the median of the rounds' ratios, and by the best rounds. `items` is
/// how many things one repetition does. Returns the medians, or nothing if the command line names labels and this is
/// none of them: `cargo bench --bench kernel -- decide/22`.
///
/// ```text
/// decide/22/syn            peer     113.1 ns   ours      64.0 ns   peer/ours  1.77 (best  1.80)
/// ```
pub fn measure(label: &str, plan: Plan, items: u64, mut contestants: Vec<Contestant<'_>>) -> Vec<f64> {
    if !wanted(label) {
        return Vec::new();
    }
    let budget = plan.round_ms as f64 * 1e6;
    let mut repetitions = Vec::new();
    for contestant in &mut contestants {
        // Double until a run is long enough to be timed, then scale to the plan.
        let mut count = 1_u64;
        loop {
            let taken = timed(contestant, count);
            if taken >= budget / 8.0 {
                repetitions.push(((count as f64 * budget / taken) as u64).max(1));
                break;
            }
            count *= 2;
        }
    }
    let mut samples = vec![Vec::new(); contestants.len()];
    for round in 0..plan.rounds {
        for turn in 0..contestants.len() {
            let who = (round + turn) % contestants.len();
            let taken = timed(&mut contestants[who], repetitions[who]);
            samples[who].push(taken / repetitions[who] as f64 / items as f64);
        }
    }
    let medians: Vec<f64> = samples.iter().map(|samples| median(samples)).collect();
    let mut line = format!("{label:<32} ");
    for (contestant, nanoseconds) in contestants.iter().zip(&medians) {
        let digits = if *nanoseconds < 10.0 { 3 } else { 1 };
        line += &format!(" {:>8} {nanoseconds:>10.digits$} ns  ", contestant.name);
    }
    if let Some((last, others)) = samples.split_last() {
        let ours = contestants[others.len()].name;
        for (contestant, other) in contestants.iter().zip(others) {
            let ratios: Vec<f64> = other.iter().zip(last).map(|(other, last)| other / last).collect();
            let (ratio, best) = (median(&ratios), least(other) / least(last));
            line += &format!(" {}/{ours} {ratio:>5.2} (best {best:>5.2})", contestant.name);
        }
    }
    println!("{line}");
    medians
}

/// Whether the command line asks for a label: it names no part of any, or a part of this one.
#[must_use]
pub fn wanted(label: &str) -> bool {
    let mut parts = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    parts.peek().is_none() || parts.any(|part| label.contains(&part))
}

fn timed(contestant: &mut Contestant<'_>, repetitions: u64) -> f64 {
    let start = Instant::now();
    (contestant.work)(repetitions);
    start.elapsed().as_nanos() as f64
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}
