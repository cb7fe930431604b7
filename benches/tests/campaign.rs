//! Every way to decide, each forced in turn, gives the decisions of [`Policy::derive`], which is the definition, and of
//! the reference implementation, on random, realistic and adversarial requests.
//!
//! The seed is printed; `DECIDABLE_SEED=… cargo test -p decidable-benches --test campaign` repeats a run.
//! `DECIDABLE_CAMPAIGN=…` says how many requests each way decides by itself, beside the reference: `make campaign` asks for
//! ten million. What a way leaves to a slower one does not count as its own.

#![allow(missing_docs)]

use std::time::{SystemTime, UNIX_EPOCH};

use calybris_core::{digest, kernel::PolicySnapshot};
use decidable_benches::{cases::Family, peer, random::Random};
use decidable_canon::Canonical as _;
use decidable_kernel::{
    Decision, Finding, Gate, Objective, Policy, Rejections, Request, Slower, Vectors,
    batch::{self, COUNTS_ROW_BYTES, DECISION_ROW_BYTES, HOLD_ROW_BYTES, Plan, Quotes, Rows},
    slower,
};

#[path = "../../rust/decidable-kernel/tests/machine/mod.rs"]
mod machine;

/// How many requests each way decides by itself, beside the reference, when nothing else is asked for.
const SHORT: u64 = 100_000;

/// The sizes of catalogs that every round goes through, with every family.
const SIZES: [u32; 14] = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 22, 63, 64, 65];
/// And these, with one family.
const LARGER: [u32; 2] = [256, 1_000];
/// And this one, every so many rounds.
const LARGEST: u32 = 65_535;
const ROUNDS_PER_LARGEST: u64 = 8;

/// Ways that cost more see one request for so many of the others.
const FEWER: u64 = 25;

/// So many mismatches of each way are shown, with the candidates that they are about, or all of a small catalog.
const SHOWN: u64 = 3;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.replace('_', "").parse().expect("a whole number"))
}

/// One way to decide, and what came of it.
struct Way {
    name: String,
    requests: u64,
    /// Those that the reference decided too: it knows one objective.
    beside: u64,
    /// Those that were refused before any candidate.
    refused: u64,
    /// Those that were left to a slower way than this one, where that is counted.
    left: Option<u64>,
    /// Those of `beside` that were neither refused nor left to a slower way.
    own_beside: u64,
    mismatches: u64,
}

impl Way {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            requests: 0,
            beside: 0,
            refused: 0,
            left: None,
            own_beside: 0,
            mismatches: 0,
        }
    }

    /// One that leaves requests to slower ways.
    fn fast(name: impl Into<String>) -> Self {
        Self {
            left: slower().map(|_| 0),
            ..Self::new(name)
        }
    }

    /// What it decided itself, and in per cent of what was not refused.
    fn own(&self) -> Option<(u64, f64)> {
        let admitted = self.requests - self.refused;
        let own = admitted - self.left?;
        Some((own, 100.0 * own as f64 / admitted as f64))
    }
}

/// Batches with one width of vectors: what is decided, what is counted, and both of requests with quotes.
struct Wide {
    vectors: Vectors,
    decided: Way,
    counted: Way,
    quoted: Way,
}

struct Campaign {
    wide: Vec<Wide>,
    threads: Way,
    single: Way,
    counted: Way,
    quoted: Way,
    gates: Way,
    holds: Way,
    digests: Way,
    reference: Way,
}

/// One policy with requests for it, and what is expected.
struct Case {
    family: Family,
    policy: Policy,
    requests: Vec<Request>,
    expected: Vec<Decision>,
    counts: Vec<Rejections>,
    /// By the reference, if it knows the objective.
    theirs: Option<PolicySnapshot>,
}

/// The rows that differ, with what was found there.
type Mismatches = Vec<(usize, String)>;

impl Case {
    fn new(random: &mut Random, family: Family, objective: Objective, candidates: u32, rows: u64) -> Self {
        let policy = family.policy(random, objective, candidates);
        let first = random.below(1 << 40);
        let requests = (first..first + rows)
            .map(|n| Request::new(family.fields(random, &policy, n)).expect("a random request is valid"))
            .collect();
        Self::of(family, policy, requests)
    }

    fn of(family: Family, policy: Policy, requests: Vec<Request>) -> Self {
        let known = policy.limits().objective == Objective::Utility;
        Self {
            family,
            expected: requests.iter().map(|request| policy.derive(request)).collect(),
            counts: requests
                .iter()
                .map(|request| policy.derive_counted(request).1)
                .collect(),
            theirs: known.then(|| peer::policy(&policy)),
            policy,
            requests,
        }
    }

    /// The same with quotes, which the reference does not know, for some of the candidates in two of three requests.
    fn quoted(&self, random: &mut Random) -> Self {
        let mut requests = self.requests.clone();
        for request in &mut requests {
            if random.one_in(3) {
                continue;
            }
            let share = random.pick(&[3, 8, 30]);
            let quotes = self.policy.candidates().iter().filter_map(|candidate| {
                let some = random.next() >> random.below(64);
                let cost = random.pick(&[0, 1, 1_000_000, 1 << 61, (1 << 61) + 1, u64::MAX, some, some]);
                random.one_in(share).then_some((candidate.model_id, cost))
            });
            let quotes = quotes.collect();
            *request = request.clone().with_quotes(quotes).expect("quotes in ascending order");
        }
        Self {
            theirs: None,
            ..Self::of(self.family, self.policy.clone(), requests)
        }
    }

    /// Those that were not refused and have no quotes.
    fn admitted_without_quotes(&self) -> u64 {
        let pairs = self.requests.iter().zip(&self.expected);
        pairs
            .filter(|(request, decision)| request.quotes().is_empty() && decision.evaluated_models > 0)
            .count() as u64
    }

    /// Counts what a way did, and what it left to slower ways meanwhile.
    fn count(&self, way: &mut Way, left: u64, mismatches: Mismatches) {
        let refused = self.expected.iter().filter(|decision| decision.evaluated_models == 0);
        let (requests, refused) = (self.requests.len() as u64, refused.count() as u64);
        way.requests += requests;
        way.refused += refused;
        if self.theirs.is_some() {
            way.beside += requests;
            way.own_beside += requests - refused - left;
        }
        way.left = way.left.map(|before| before + left);
        for (row, found) in mismatches {
            way.mismatches += 1;
            if way.mismatches <= SHOWN {
                self.show(&way.name, row, &found);
            }
        }
    }

    fn show(&self, way: &str, row: usize, found: &str) {
        let candidates = self.policy.candidates();
        println!(
            "{way}: {:?}, {} candidates, row {row} of {}",
            self.family,
            candidates.len(),
            self.requests.len()
        );
        println!("  expected {:?}", self.expected[row]);
        println!("  expected {:?}", self.counts[row]);
        println!("  found    {found}");
        println!("  {:?}", self.requests[row]);
        println!("  {:?}", self.policy.limits());
        let named = [
            self.expected[row].selected_model_id,
            self.expected[row].counterfactual_model_id,
        ];
        for candidate in candidates {
            if candidates.len() <= 9 || named.contains(&Some(candidate.model_id)) {
                println!("  {candidate:?}");
            }
        }
    }

    /// The requests as rows.
    fn rows(&self) -> Vec<u8> {
        let mut rows = Vec::new();
        for request in &self.requests {
            request.fields().encode(&mut rows);
        }
        rows
    }

    /// The quotes beside the rows.
    fn quotes(&self) -> Quotes {
        let quotes = self.requests.iter().zip(0..).flat_map(|(request, row)| {
            let quotes = request.quotes().iter();
            quotes.map(move |(model_id, cost)| (row, *model_id, *cost))
        });
        Quotes::new(quotes, self.requests.len()).expect("quotes in ascending order")
    }

    /// The decisions and the counts of a batch of all requests.
    fn batch(&self, plan: Plan) -> [(Mismatches, Slower); 2] {
        let rows = self.rows();
        let rows = Rows::new(&rows, 1).expect("valid rows");
        let quotes = self.quotes();

        let mut expected = Vec::new();
        for decision in &self.expected {
            decision.encode(&mut expected);
        }
        let mut found = vec![0xaa; expected.len()];
        let before = slower().unwrap_or_default();
        batch::decide_rows(&self.policy, rows, &quotes, &mut found, plan).expect("room for the decisions");
        let decided = (differing(&found, &expected, DECISION_ROW_BYTES), since(before));

        let counts: Vec<u8> = self.counts.iter().flat_map(bytes).collect();
        let mut found = vec![0xaa; counts.len()];
        let before = slower().unwrap_or_default();
        batch::count(&self.policy, rows, &quotes, &expected, &mut found, plan).expect("room for the counts");
        [decided, (differing(&found, &counts, COUNTS_ROW_BYTES), since(before))]
    }

    /// The gates at which each candidate lost, in a batch of all requests.
    fn gates(&self, plan: Plan) -> Mismatches {
        let rows = self.rows();
        let mut expected = Vec::new();
        for request in &self.requests {
            let verdicts = self.policy.explain(request).verdicts;
            if verdicts.is_empty() {
                expected.extend(self.policy.candidates().iter().map(|_| batch::NOT_LOOKED_AT));
            }
            expected.extend(verdicts.iter().map(|verdict| lost_at(verdict.finding)));
        }
        let mut found = vec![0xaa; expected.len()];
        let rows = Rows::new(&rows, 1).expect("valid rows");
        batch::gates(&self.policy, rows, &self.quotes(), &mut found, plan).expect("room for the gates");
        differing(&found, &expected, self.policy.candidates().len())
    }

    /// Gives each request a largest use above its expected one, or at it.
    fn with_largest_uses(&mut self, random: &mut Random) {
        for request in &mut self.requests {
            let expected = request.fields().output_tokens;
            let more = random.next() >> random.below(64);
            let most = random.pick(&[u64::from(expected), u64::from(expected).saturating_add(more), u64::MAX]);
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            *request = request
                .clone()
                .with_max_output_tokens(most)
                .expect("not below the expected use");
        }
    }

    /// What to hold for each request in a batch of all and in a single call, beside the formula.
    fn holds(&self, plan: Plan) -> Mismatches {
        let (rows, mut decisions, mut expected) = (self.rows(), Vec::new(), Vec::new());
        for (request, decision) in self.requests.iter().zip(&self.expected) {
            decision.encode(&mut decisions);
            let hold = decision
                .selected_model_id
                .map_or(0, |model_id| to_hold(&self.policy, request, model_id));
            assert_eq!(self.policy.hold(request, decision).unwrap_or(0), hold, "{request:?}");
            expected.extend(hold.to_le_bytes());
        }
        let most: Vec<_> = self.requests.iter().map(Request::max_output_tokens).collect();
        let rows = Rows::new(&rows, 1).and_then(|rows| rows.with_max_output_tokens(&most));
        let mut found = vec![0xaa; expected.len()];
        let rows = rows.expect("valid rows");
        batch::holds(&self.policy, rows, &self.quotes(), &decisions, &mut found, plan).expect("room for the holds");
        differing(&found, &expected, HOLD_ROW_BYTES)
    }

    /// The digests of requests and decisions, in batches and by the reference.
    fn digests(&self, plan: Plan) -> Mismatches {
        let rows = self.rows();
        let (mut decisions, mut expected) = (Vec::new(), [Vec::new(), Vec::new()]);
        for (request, decision) in self.requests.iter().zip(&self.expected) {
            decision.encode(&mut decisions);
            let [requests, decisions] = &mut expected;
            let input = peer::input(request.fields());
            requests.extend(match &self.theirs {
                Some(_) => digest::input_digest(&input),
                None => *request.shared_digest().bytes(),
            });
            decisions.extend(match &self.theirs {
                Some(theirs) => digest::decision_digest(&theirs.prescribe(input)),
                None => *decision.digest().bytes(),
            });
        }
        let mut found = expected.each_ref().map(|expected| vec![0xaa; expected.len()]);
        let [of_requests, of_decisions] = &mut found;
        let rows = Rows::new(&rows, 1).expect("valid rows");
        batch::digest_requests(rows, &Quotes::default(), of_requests, plan).expect("room for the digests");
        batch::digest_decisions(&decisions, of_decisions, plan).expect("room for the digests");
        let pairs = found.iter().zip(&expected);
        pairs
            .flat_map(|(found, expected)| differing(found, expected, 32))
            .collect()
    }

    /// Single calls, each given a request and its row, with what is expected.
    fn each<T: PartialEq + std::fmt::Debug>(&self, mut call: impl FnMut(usize, &Request) -> (T, T)) -> Mismatches {
        let mut mismatches = Vec::new();
        for (row, request) in self.requests.iter().enumerate() {
            let (found, expected) = call(row, request);
            if found != expected {
                mismatches.push((row, format!("{found:?}, not {expected:?}")));
            }
        }
        mismatches
    }

    /// Single calls, and what this thread did in slower ways meanwhile.
    fn single(&self) -> (Mismatches, Slower) {
        let before = slower().unwrap_or_default();
        let mut mismatches = self.each(|row, request| (self.policy.decide(request), self.expected[row]));
        let slower = since(before);
        // In two steps, as Python's calls take them.
        mismatches.extend(self.each(|row, request| {
            let at_once = self.policy.decide_at_once(request);
            let found = at_once.unwrap_or_else(|| self.policy.decide_left_open(request));
            (found, self.expected[row])
        }));
        (mismatches, slower)
    }

    /// The reference's decisions and counts.
    fn by_the_reference(&self, theirs: &PolicySnapshot) -> Mismatches {
        self.each(|row, request| {
            let (prescribed, trace) = theirs.prescribe_with_trace(peer::input(request.fields()));
            let found = (peer::decision(&prescribed), peer::rejections(&trace.rejections));
            (found, (self.expected[row], self.counts[row]))
        })
    }
}

/// The rows that differ.
fn differing(found: &[u8], expected: &[u8], row_bytes: usize) -> Mismatches {
    let pairs = found.chunks(row_bytes).zip(expected.chunks(row_bytes));
    pairs
        .enumerate()
        .filter(|(_, (found, expected))| found != expected)
        .map(|(row, (found, expected))| (row, format!("{found:?}, not {expected:?}")))
        .collect()
}

fn since(before: Slower) -> Slower {
    let now = slower().unwrap_or_default();
    Slower {
        one_by_one: now.one_by_one - before.one_by_one,
        exact: now.exact - before.exact,
        requoted: now.requoted - before.requoted,
    }
}

/// Counts as a batch writes them.
fn bytes(counts: &Rejections) -> [u8; COUNTS_ROW_BYTES] {
    let mut bytes = [0; COUNTS_ROW_BYTES];
    for (room, count) in bytes.chunks_mut(4).zip(counts.counts()) {
        room.copy_from_slice(&count.to_le_bytes());
    }
    bytes
}

/// The number of the gate at which a candidate lost.
fn lost_at(finding: Finding) -> u8 {
    match finding {
        Finding::Eligible(_) => batch::PASSED,
        Finding::Refused { gate, .. } => {
            Gate::ALL
                .iter()
                .zip(1..)
                .find(|(some, _)| **some == gate)
                .expect("a gate")
                .1
        }
        Finding::OverBudget { .. } => 8,
        Finding::NonPositiveUtility(_) => 9,
    }
}

/// What to hold for a candidate: its cost at the largest use, as docs/spec/decisions.md and docs/spec/extensions.md have it.
fn to_hold(policy: &Policy, request: &Request, model_id: u32) -> u64 {
    let candidate = policy.candidate(model_id).expect("a candidate of the catalog");
    let side = |tokens: u32, rate: u64| (u128::from(tokens) * u128::from(rate)).div_ceil(1_000_000);
    let fields = request.fields();
    let at = |output_tokens| {
        let cost = side(fields.input_tokens, candidate.input_cost_microunits_per_million_tokens)
            + side(output_tokens, candidate.output_cost_microunits_per_million_tokens);
        cost.min(u64::MAX.into())
    };
    let (expected, largest) = (at(fields.output_tokens), at(request.max_output_tokens()));
    let quote = request.quotes().iter().find(|(quoted, _)| *quoted == model_id);
    let hold = quote.map_or(largest, |(_, quote)| u128::from(*quote) + (largest - expected));
    u64::try_from(hold).unwrap_or(u64::MAX)
}

/// The counts of an explanation.
fn explained(policy: &Policy, request: &Request) -> Rejections {
    let mut counts = Rejections::default();
    for verdict in policy.explain(request).verdicts {
        *match verdict.finding {
            Finding::Refused { gate, .. } => match gate {
                Gate::Disabled => &mut counts.disabled,
                Gate::Quality => &mut counts.quality,
                Gate::Latency => &mut counts.latency,
                Gate::Capability => &mut counts.capability,
                Gate::Provider => &mut counts.provider,
                Gate::Region => &mut counts.region,
                Gate::RiskCeiling => &mut counts.risk_ceiling,
            },
            Finding::OverBudget { .. } => &mut counts.budget,
            Finding::NonPositiveUtility(_) => &mut counts.utility,
            Finding::Eligible(_) => continue,
        } += 1;
    }
    counts
}

impl Campaign {
    fn new() -> Self {
        Self {
            wide: Vectors::available()
                .map(|vectors| Wide {
                    vectors,
                    decided: Way::fast(format!("batch, {}", vectors.label())),
                    counted: Way::fast(format!("counts of a batch, {}", vectors.label())),
                    quoted: Way::fast(format!("batch with quotes, {}", vectors.label())),
                })
                .collect(),
            threads: Way::new("batch, 2 to 4 threads"),
            single: Way::fast("single calls"),
            counted: Way::new("single calls that count"),
            quoted: Way::fast("single calls with quotes"),
            gates: Way::new("gates of a batch"),
            holds: Way::new("holds of a batch"),
            digests: Way::new("digests of a batch"),
            reference: Way::new("the reference"),
        }
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        let decided = self.wide.iter().map(|wide| &wide.decided);
        let counted = self.wide.iter().map(|wide| &wide.counted);
        let quoted = self.wide.iter().map(|wide| &wide.quoted);
        let single = decided.chain([&self.single, &self.threads]);
        single.chain(counted).chain(quoted).chain([
            &self.counted,
            &self.quoted,
            &self.gates,
            &self.holds,
            &self.digests,
            &self.reference,
        ])
    }

    /// How many requests the way with the fewest has decided by itself, beside the reference. Ways that cost more, or that the reference does not know,
    /// have [`FEWER`] times fewer, and of those not all by itself.
    fn least(&self) -> u64 {
        let wide = self.wide.iter().flat_map(|wide| [&wide.decided, &wide.counted]);
        let ways = wide.chain([&self.single]).map(|way| way.own_beside);
        let others = self.ways().map(|way| way.requests * FEWER);
        ways.chain(others).min().unwrap_or(0)
    }

    fn print(&self) {
        println!(
            "{:<28}{:>12}{:>14}{:>12}{:>22}{:>24}{:>12}",
            "", "requests", "reference too", "refused", "decided by itself", "beside the reference", "mismatches"
        );
        for way in self.ways() {
            let own = way.own().map(|(own, share)| format!("{own} ({share:.0} %)"));
            let Way {
                name,
                requests,
                beside,
                refused,
                own_beside,
                mismatches,
                ..
            } = way;
            println!(
                "{name:<28}{requests:>12}{beside:>14}{refused:>12}{:>22}{:>24}{mismatches:>12}",
                own.as_deref().unwrap_or("not counted"),
                own.as_ref().map_or_else(String::new, |_| own_beside.to_string()),
            );
        }
    }

    /// Holds every way to what is expected of a case.
    fn hold(&mut self, random: &mut Random, case: &Case) {
        for wide in &mut self.wide {
            let [(decided, slower), (counted, slower_counts)] = case.batch(Plan {
                threads: 1,
                vectors: Some(wide.vectors),
            });
            let left = |slower: Slower| match wide.vectors {
                Vectors::Plain => slower.exact,
                _ => slower.one_by_one,
            };
            case.count(&mut wide.decided, left(slower), decided);
            case.count(&mut wide.counted, left(slower_counts), counted);
        }
        let (mismatches, slower) = case.single();
        case.count(&mut self.single, slower.one_by_one, mismatches);
        // Explaining takes long: every tenth request is explained.
        let mismatches = case.each(|row, request| {
            let counts = if random.one_in(10) {
                explained(&case.policy, request)
            } else {
                case.counts[row]
            };
            (case.policy.decide_counted(request), (case.expected[row], counts))
        });
        case.count(&mut self.counted, 0, mismatches);
        if let Some(theirs) = &case.theirs {
            case.count(&mut self.reference, 0, case.by_the_reference(theirs));
        }
        let plan = Plan::threads(1);
        match random.below(8) {
            0 => {
                let case = case.quoted(random);
                let (mismatches, slower) = case.single();
                case.count(&mut self.quoted, slower.exact, mismatches);
                for wide in &mut self.wide {
                    let plan = Plan {
                        vectors: Some(wide.vectors),
                        ..plan
                    };
                    let [(decided, slower), (counted, _)] = case.batch(plan);
                    let left = slower.requoted + case.admitted_without_quotes();
                    case.count(&mut wide.quoted, left, [decided, counted].concat());
                }
            }
            1 => case.count(&mut self.gates, 0, case.gates(plan)),
            2 => case.count(&mut self.digests, 0, case.digests(plan)),
            3 => {
                let mut case = case.quoted(random);
                case.with_largest_uses(random);
                case.count(&mut self.holds, 0, case.holds(plan));
            }
            _ => {}
        }
    }

    /// A batch that is large enough for several threads.
    fn threads(&mut self, random: &mut Random) {
        let (family, objective) = (random.pick(&Family::ALL), objective(random));
        let (candidates, most) = random.pick(&[(1, 16_384), (22, 16_384), (64, 16_384), (256, 4_096), (1_000, 1_024)]);
        let rows = random.between(most, most + 999);
        let mut case = Case::new(random, family, objective, candidates, rows);
        if random.one_in(2) {
            case = case.quoted(random);
        }
        case.with_largest_uses(random);
        let vectors: Vec<_> = Vectors::available().collect();
        let plan = Plan {
            threads: random.pick(&[2, 3, 4]),
            vectors: Some(random.pick(&vectors)),
        };
        let [(decided, _), (counted, _)] = case.batch(plan);
        let others = [case.gates(plan), case.digests(plan), case.holds(plan)];
        case.count(&mut self.threads, 0, [decided, counted, others.concat()].concat());
        if let Some(theirs) = &case.theirs {
            case.count(&mut self.reference, 0, case.by_the_reference(theirs));
        }
    }
}

/// How many rows a batch has: mostly enough for lanes, at any place between their widths.
fn rows(random: &mut Random, candidates: u32) -> u64 {
    match candidates {
        LARGEST => random.between(32, 75),
        257.. => random.between(32, 200),
        _ if random.one_in(16) => random.between(1, 31),
        _ => random.between(32, 300),
    }
}

/// Half of the policies maximise utility, which is what the reference knows.
fn objective(random: &mut Random) -> Objective {
    let [utility, others @ ..] = Objective::ALL;
    if random.one_in(2) {
        utility
    } else {
        random.pick(&others)
    }
}

#[test]
fn every_way_decides_as_the_definition_and_the_reference() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as u64)
    };
    let has: Vec<_> = Vectors::available().map(Vectors::label).collect();
    machine::has_what_is_asked_for(&has);
    let seed = from_environment("DECIDABLE_SEED").unwrap_or_else(now);
    let wanted = from_environment("DECIDABLE_CAMPAIGN").unwrap_or(SHORT);
    println!("DECIDABLE_SEED={seed} DECIDABLE_CAMPAIGN={wanted}");
    let mut random = Random::new(seed);
    let mut campaign = Campaign::new();
    let mut round = 0;
    assert!(
        slower().is_some(),
        "without debug assertions nothing is counted as a way's own"
    );
    while campaign.least() < wanted {
        let some = random.pick(&Family::ALL);
        let mut catalogs: Vec<_> = Family::ALL
            .into_iter()
            .flat_map(|family| SIZES.map(|size| (family, objective(&mut random), size)))
            .collect();
        catalogs.extend(LARGER.map(|size| (some, objective(&mut random), size)));
        if round % ROUNDS_PER_LARGEST == 0 {
            catalogs.extend([
                (some, objective(&mut random), LARGEST),
                (Family::Realistic, Objective::Utility, LARGEST),
                (Family::Ordinary, Objective::Fastest, LARGEST),
                (Family::Ordinary, Objective::Fastest, LARGEST),
            ]);
            campaign.threads(&mut random);
        }
        for (family, objective, candidates) in catalogs {
            let rows = rows(&mut random, candidates);
            let case = Case::new(&mut random, family, objective, candidates, rows);
            campaign.hold(&mut random, &case);
        }
        round += 1;
    }
    campaign.print();
    for way in campaign.ways() {
        assert_eq!(way.mismatches, 0, "{}", way.name);
    }
    // Otherwise the definition was compared with itself.
    for Wide {
        vectors,
        decided: way,
        counted,
        quoted,
    } in &campaign.wide
    {
        let requoted = quoted.own();
        assert!(
            requoted.is_some_and(|(own, _)| own > 0),
            "{}: {requoted:?}",
            quoted.name
        );
        let enough = if *vectors == Vectors::Plain { 80.0 } else { 40.0 };
        for way in [way, counted] {
            let own = way.own();
            assert!(own.is_some_and(|(_, share)| share > enough), "{}: {own:?}", way.name);
        }
    }
}
