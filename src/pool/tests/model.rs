//! The whole pool against a naive model: random attempts, ends, pauses and reloads; the model recounts everything from the
//! list of what happened.

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::strategy::Strategy as Steps;
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Take { tokens: u64, model: u8 },
    Settle { which: prop::sample::Index, tokens: u64 },
    Fail { which: prop::sample::Index, how: u8, hint: Option<u64> },
    Drop { which: prop::sample::Index },
    Pass { millis: u64 },
    Reload { daily: u64 },
}

fn step() -> impl Steps<Value = Step> {
    let which = || any::<prop::sample::Index>();
    prop_oneof![
        6 => (1_u64..400, 0_u8..3).prop_map(|(tokens, model)| Step::Take { tokens, model }),
        4 => (which(), 0_u64..500).prop_map(|(which, tokens)| Step::Settle { which, tokens }),
        2 => (which(), 0_u8..10, prop::option::of(1_u64..100))
            .prop_map(|(which, how, hint)| Step::Fail { which, how, hint }),
        1 => which().prop_map(|which| Step::Drop { which }),
        3 => (1_u64..20_000).prop_map(|millis| Step::Pass { millis }),
        1 => (1_u64..3).prop_map(|hours| Step::Pass { millis: hours * 7 * 3_600_000 }),
        1 => (500_u64..3000).prop_map(|daily| Step::Reload { daily }),
    ]
}

/// What the model keeps of one attempt.
struct Attempt {
    account: String,
    day: u64,
    /// Set aside while it runs, used after it.
    tokens: u64,
    running: Option<Reservation>,
}

const DAY: u64 = 24 * 3_600_000;
const SLOTS: u64 = 4;

fn configured(daily: u64) -> Vec<Account> {
    let limits = Limits { daily_tokens: Some(daily), concurrency: Some(SLOTS), ..Limits::default() };
    ["a", "b", "c"].map(|id| limited(id, limits)).to_vec()
}

fn end(attempt: &mut Attempt, how: u8, hint: Option<u64>) {
    let Some(taken) = attempt.running.take() else { return };
    let verdicts = [
        Verdict::RateLimited,
        Verdict::QuotaExhausted,
        Verdict::Overloaded,
        Verdict::NotEntitled,
        Verdict::BadRequest,
        Verdict::TokenExpired,
    ];
    match how {
        6 => taken.settle_transport(TransportFailure::Connect),
        7 => taken.settle_transport(TransportFailure::NotTaken),
        8 => return taken.settle_transport(TransportFailure::Timeout),
        9 => return taken.settle_transport(TransportFailure::Cut),
        how => {
            let scope = [Scope::Model, Scope::Account][usize::from(how % 2)];
            taken.settle_error(&judged(verdicts[usize::from(how)], scope, hint));
        }
    }
    attempt.tokens = 0;
}

/// What the pool says it has left must be what the model counts; nothing else may stand.
fn compare(world: &World, attempts: &[Attempt], wall: u64, daily: u64) -> Result<(), TestCaseError> {
    for state in world.pool.states() {
        let of_account = |attempt: &&Attempt| attempt.account == state.id.as_str();
        let today = attempts.iter().filter(of_account).filter(|attempt| attempt.day == wall / DAY);
        let sum: u64 = today.map(|attempt| attempt.tokens).sum();
        let running = attempts.iter().filter(of_account).filter(|attempt| attempt.running.is_some()).count();
        prop_assert_eq!(world.left(state.id.as_str(), Dimension::DailyTokens), daily.saturating_sub(sum));
        prop_assert_eq!(state.in_flight, running as u64);
        prop_assert!(state.in_flight <= SLOTS);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_counts_as_the_model_does_and_never_refuses_what_fits(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut daily = 1000;
        let world = World::new(configured(daily));
        let mut wall = NOON;
        let mut attempts: Vec<Attempt> = Vec::new();
        for step in steps {
            let running: Vec<usize> =
                (0..attempts.len()).filter(|index| attempts[*index].running.is_some()).collect();
            let pick = |which: prop::sample::Index| {
                (!running.is_empty()).then(|| running[which.index(running.len())])
            };
            match step {
                Step::Take { tokens, model } => {
                    let model = ["m", "n", "o"][usize::from(model)];
                    let fits = |state: &AccountState| {
                        let closed = state.models.iter().any(|(name, ..)| &**name == model);
                        state.rest.is_none() && !closed && state.in_flight < SLOTS
                            && world.left(state.id.as_str(), Dimension::DailyTokens) >= tokens
                    };
                    let should = world.pool.states().iter().any(fits);
                    match world.pool.take(&Want { tokens, model, ..world.want() }) {
                        Ok(taken) => {
                            let account = taken.account().id.to_string();
                            let resting = world.state(&account).rest;
                            prop_assert!(resting.is_none_or(|(_, wait)| wait.is_zero()), "{resting:?}");
                            attempts.push(Attempt { account, day: wall / DAY, tokens, running: Some(taken) });
                        }
                        // The platform as a whole may rest after a storm; five accounts are needed for one, there are three.
                        Err(refusal) => prop_assert!(!should, "{refusal:?} though one could"),
                    }
                }
                Step::Settle { which, tokens } => if let Some(index) = pick(which) {
                    let attempt = &mut attempts[index];
                    attempt.tokens = tokens;
                    attempt.running.take().unwrap().settle(used(tokens));
                }
                Step::Fail { which, how, hint } => if let Some(index) = pick(which) {
                    end(&mut attempts[index], how, hint);
                }
                Step::Drop { which } => if let Some(index) = pick(which) {
                    drop(attempts[index].running.take());
                }
                Step::Pass { millis } => {
                    wall += millis;
                    world.pass(Duration::from_millis(millis));
                }
                Step::Reload { daily: limit } => {
                    daily = limit;
                    world.pool.replace(configured(daily));
                }
            }
            compare(&world, &attempts, wall, daily)?;
        }
    }
}
