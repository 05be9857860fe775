use super::columns::Event;

/// Sums over the population that say what the truth is and how near estimates from the treated rows come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Elements of the population seen: treated or not, written or not.
    pub population: u64,
    /// Those treated.
    pub treated: u64,
    true_propensity: f64,
    conversion: Sums,
    squared_error: Sums,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    truth: f64,
    naive_treated: f64,
    ips: f64,
    ips_squares: f64,
    stated_ips: f64,
}

/// One quantity: its truth, and what the treated rows make of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Estimates {
    /// Mean over the population of its expectation.
    pub truth: f64,
    /// Mean over treated rows.
    pub naive_treated: f64,
    /// IPS with the true propensities.
    pub ips: f64,
    /// Standard error of `ips`, as of independent rows.
    pub ips_error: f64,
    /// IPS with the column `propensity`.
    pub stated_ips: f64,
}

impl Tally {
    /// Mean of the true propensities.
    pub fn true_propensity(&self) -> f64 {
        self.true_propensity / self.population as f64
    }

    /// The conversion rate.
    pub fn conversion(&self) -> Estimates {
        self.estimates(&self.conversion)
    }

    /// The squared error of `prediction` against the outcome.
    pub fn squared_error(&self) -> Estimates {
        self.estimates(&self.squared_error)
    }

    fn estimates(&self, sums: &Sums) -> Estimates {
        let population = self.population as f64;
        let ips = sums.ips / population;
        Estimates {
            truth: sums.truth / population,
            naive_treated: sums.naive_treated / self.treated as f64,
            ips,
            ips_error: ((sums.ips_squares / population - ips * ips) / population).sqrt(),
            stated_ips: sums.stated_ips / population,
        }
    }

    pub(super) fn add(&mut self, event: &Event) {
        let truth = &event.truth;
        let square = |outcome: f64| (truth.prediction - outcome).powi(2);
        self.population += 1;
        self.treated += u64::from(event.treated);
        self.true_propensity += truth.propensity;
        self.conversion.truth += truth.conversion;
        self.squared_error.truth += truth.conversion * square(1.0) + (1.0 - truth.conversion) * square(0.0);
        if let Some(outcome) = event.outcome {
            self.conversion.observe(outcome, event);
            self.squared_error.observe(square(outcome), event);
        }
    }

    /// Takes in what another tally saw.
    pub fn merge(&mut self, other: &Self) {
        self.population += other.population;
        self.treated += other.treated;
        self.true_propensity += other.true_propensity;
        self.conversion.merge(&other.conversion);
        self.squared_error.merge(&other.squared_error);
    }
}

impl Sums {
    fn observe(&mut self, value: f64, event: &Event) {
        let weighted = value / event.truth.propensity;
        self.naive_treated += value;
        self.ips += weighted;
        self.ips_squares += weighted * weighted;
        self.stated_ips += value / event.truth.stated_propensity;
    }

    fn merge(&mut self, other: &Self) {
        self.truth += other.truth;
        self.naive_treated += other.naive_treated;
        self.ips += other.ips;
        self.ips_squares += other.ips_squares;
        self.stated_ips += other.stated_ips;
    }
}
