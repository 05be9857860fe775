//! What the fuzz target does, on random bytes.

use std::collections::HashMap;

use counterweight_udfs::all_aggregates;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[path = "../../fuzz/exercise.rs"]
mod exercise;

use exercise::{Outcome, exercise};

#[test]
fn no_argument_makes_an_aggregate_panic() {
    const CALLS: usize = 15_000;
    let rng = &mut StdRng::seed_from_u64(20);
    let mut outcomes: HashMap<String, [usize; 3]> = HashMap::new();
    for call in 0..CALLS {
        let bytes: Vec<u8> = (0..rng.random_range(64..3000)).map(|_| rng.random()).collect();
        let exercised = std::panic::catch_unwind(|| exercise(&bytes));
        let (name, outcome) = exercised.unwrap_or_else(|_| panic!("the {call}-th call"));
        let place = match outcome {
            Outcome::Refused => 0,
            Outcome::Failed => 1,
            Outcome::Answered => 2,
        };
        outcomes.entry(name).or_default()[place] += 1;
    }
    for aggregate in all_aggregates() {
        let [_, failed, answered] = outcomes.remove(aggregate.name()).unwrap_or_default();
        // Bytes that reach nothing but refusals would test nothing.
        assert!(answered > 20, "{}: {answered} calls answered", aggregate.name());
        assert!(failed > 0 || aggregate.name() == "propensity_profile", "{}: {failed} calls failed", aggregate.name());
    }
}
