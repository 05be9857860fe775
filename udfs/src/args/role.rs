//! What the arguments mean.

use datafusion_common::ScalarValue;

/// What a positional argument means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Treated,
    Propensity,
    PropensityBefore,
    Error,
    ImputedError,
    Covariate,
    Lambda,
    Level,
    MaxWeight,
    Threshold,
    Shrinkage,
    Bins,
    Binning,
    Lower,
    Upper,
    Directions,
    Day,
    DayState,
    Tolerance,
    FalseAlarms,
    ReferenceDays,
}

/// An argument that is the same for every row.
pub(super) struct Literal {
    pub(super) kind: Kind,
    /// What it is where the call leaves it out; only arguments at the end have one.
    pub(super) default: Option<f64>,
}

pub(super) enum Kind {
    Number(fn(f64) -> bool),
    /// One of these words; its value is its place.
    Choice(&'static [&'static str]),
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Treated => "treated",
            Role::Propensity => "propensity",
            Role::PropensityBefore => "propensity_before",
            Role::Error => "error",
            Role::ImputedError => "imputed_error",
            Role::Covariate => "covariate",
            Role::Lambda => "lambda",
            Role::Level => "level",
            Role::MaxWeight => "max_weight",
            Role::Threshold => "threshold",
            Role::Shrinkage => "shrinkage",
            Role::Bins => "bins",
            Role::Binning => "binning",
            Role::Lower => "lower",
            Role::Upper => "upper",
            Role::Directions => "directions",
            Role::Day => "day",
            Role::DayState => "state",
            Role::Tolerance => "tolerance",
            Role::FalseAlarms => "false_alarms",
            Role::ReferenceDays => "reference_days",
        }
    }

    pub(super) fn expects(self) -> &'static str {
        match self {
            Role::Treated => "a boolean, a number that is 0 or 1, or what treatment() gives",
            Role::Propensity | Role::PropensityBefore => "a number from 0 to 1",
            Role::Error | Role::ImputedError | Role::Covariate => "a number",
            Role::Lambda | Role::Shrinkage => "a literal number, 0 or more",
            Role::Level => "a literal number between 0 and 1, such as 0.95",
            Role::MaxWeight | Role::Threshold => "a literal number above 0",
            Role::Bins => "a literal whole number from 1 to 10000",
            Role::Binning => "the literal 'width' or 'mass'",
            Role::Lower | Role::Upper => "a literal number from 0 to 1",
            Role::Directions => "what alarm_directions() gave",
            Role::Day => "a date, a time, a whole number or text",
            Role::DayState => "a state that alarm_state() gave",
            Role::Tolerance => "a literal number above 0, such as 0.1",
            Role::FalseAlarms => "a literal number between 0 and 1, such as 0.01",
            Role::ReferenceDays => "a literal number of whole weeks, from 14 days to 364",
        }
    }

    pub(super) fn literal(self) -> Option<Literal> {
        let number = |accepts, default| Some(Literal { kind: Kind::Number(accepts), default });
        match self {
            Role::Treated
            | Role::Propensity
            | Role::PropensityBefore
            | Role::Error
            | Role::ImputedError
            | Role::Covariate
            | Role::Directions
            | Role::Day
            | Role::DayState => None,
            Role::Lambda | Role::Shrinkage => number(|x| x >= 0.0, None),
            Role::Level => number(|x| x > 0.0 && x < 1.0, Some(0.95)),
            Role::MaxWeight | Role::Threshold => number(|x| x > 0.0, None),
            Role::Bins => number(|x| (1.0..=10_000.0).contains(&x) && x.fract() == 0.0, Some(10.0)),
            Role::Binning => Some(Literal { kind: Kind::Choice(&["width", "mass"]), default: Some(0.0) }),
            Role::Lower => number(|x| (0.0..=1.0).contains(&x), Some(0.01)),
            Role::Upper => number(|x| (0.0..=1.0).contains(&x), Some(0.99)),
            Role::Tolerance => number(|x| x > 0.0, Some(0.1)),
            Role::FalseAlarms => number(|x| x > 0.0 && x < 1.0, Some(0.01)),
            Role::ReferenceDays => number(|x| (14.0..=364.0).contains(&x) && x % 7.0 == 0.0, Some(28.0)),
        }
    }

    pub(super) fn is_optional(self) -> bool {
        self.literal().is_some_and(|literal| literal.default.is_some())
    }

    /// What an argument is where a call leaves it out; NULL, which is refused, for one that must be given.
    pub(crate) fn default_value(self) -> ScalarValue {
        match self.literal() {
            Some(Literal { kind: Kind::Choice(words), default: Some(at) }) => ScalarValue::from(words[at as usize]),
            Some(Literal { kind: Kind::Number(_), default: Some(number) }) => ScalarValue::from(number),
            _ => ScalarValue::Null,
        }
    }
}

impl Kind {
    pub(super) fn read(&self, value: &ScalarValue) -> Option<f64> {
        match (self, value) {
            (Kind::Number(accepts), ScalarValue::Float64(Some(x))) => (x.is_finite() && accepts(*x)).then_some(*x),
            (Kind::Choice(words), ScalarValue::Utf8(Some(word))) => {
                words.iter().position(|known| known.eq_ignore_ascii_case(word)).map(|place| place as f64)
            }
            _ => None,
        }
    }
}
