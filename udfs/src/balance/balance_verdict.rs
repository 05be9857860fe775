use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, UInt64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature};

use super::bias::bias_fields;
use super::effect::imbalance_fields;
use crate::args::{is_number, named_signature};
use crate::docs;
use crate::inference::{sidak, student_quantile, student_tail};
use crate::results::{counts, numbers, struct_fields, structs};

scalar! {
    /// Whether rows are `'balanced'`, `'unbalanced'` or `'undecided'`, by the intervals of their effect sizes beside what is
    /// tolerated, never by a p-value alone.
    ///
    /// Gives a struct of `verdict`; `effect` (`'imbalance'` or `'bias'`: the one that decides, or keeps from deciding; or
    /// `'cluster'`) and its `element` (1 is the constant; NULL of the bias); `p_value`, of effects within the tolerance: at
    /// most 1 - confidence where the verdict is `'unbalanced'`, and what to correct where there are many segments; and
    /// `rows_to_decide`, of which an undecided case needs about as many. `'unbalanced'`: an effect lies beyond its tolerance
    /// at the confidence, which holds for all effects together, and right propensities do not explain it
    /// (`p_value` of `imbalance`). `'balanced'`: the interval of 90 % of each effect lies within its tolerance, and no group
    /// of clusters has more than a tenth of the variance that propensities imply for the constant. `'undecided'`: neither.
    /// NULL where `imbalance` is.
    ///
    /// # Details
    /// An effect that is as large as its tolerance is called balanced with a probability of 5 %, and unbalanced with one of
    /// `1 − confidence`; one of 0 hardly ever is unbalanced. With `c` the quantile of Student's law that the interval in
    /// question takes, `rows_to_decide` is `n·((c + 0.84)·std_error/(tolerance − |estimate|))²`, of the effect that needs the
    /// most, or where one is beyond its tolerance, of the one that needs the fewest to be shown to be: then four in five such
    /// tables are decided by that effect. NULL where the verdict stands, and where more rows of the same kind do not help.
    /// Elements that do not vary are left out; an effect without an error or a bias that is NULL is never balanced, nor is
    /// anything shown of propensities that were fitted on the same rows.
    ///
    /// Source: Schuirmann, *A comparison of the two one-sided tests procedure*, 1987; Šidák, 1967.
    balance_verdict(
        imbalance: Expr,
        bias: Option<Expr>,
        tolerance: Option<Expr>,
        bias_tolerance: Option<Expr>,
        confidence: Option<Expr>
    ), balance_verdict_udf: BalanceVerdict
}

const NAME: &str = "balance_verdict";

const SYNTAX: &str = "balance_verdict(imbalance [, bias [, tolerance [, bias_tolerance [, confidence]]]])";

const EXAMPLE: &str = "> SELECT v['verdict'] AS verdict, v['effect'] AS effect, v['rows_to_decide'] AS rows_to_decide
  FROM (SELECT balance_verdict(imbalance(n % 2 = 0, 0.5)) AS v FROM generate_series(1, 100) AS log (n));
+-----------+-----------+----------------+
| verdict   | effect    | rows_to_decide |
+-----------+-----------+----------------+
| undecided | imbalance | 632            |
+-----------+-----------+----------------+";

const PARAMETERS: [(&str, &str); 5] = [
    ("imbalance", "What `imbalance` gave, or `imbalance_both`."),
    ("bias", "What `imbalance_bias` or `imbalance_bias_dr` gave; none if left out or the literal NULL."),
    ("tolerance", "The standardised imbalance that is tolerated: a number above 0, 0.1 if left out."),
    ("bias_tolerance", "The bias that is tolerated, as a share of the mean error: a number above 0, 0.05 if left out."),
    ("confidence", "The confidence of `'unbalanced'`: a number between 0 and 1, 0.99 if left out."),
];

const DEFAULTS: [f64; 3] = [0.1, 0.05, 0.99];

/// What an interval leaves on either side to show that an effect is within its tolerance.
const BALANCED_TAIL: f64 = 0.05;

/// The quantile of the normal law that four in five numbers are below.
const POWER: f64 = 0.84;

/// The largest share of a group of clusters in the implied variance.
const LARGEST_SHARE: f64 = 0.1;

#[derive(Debug, PartialEq, Eq, Hash)]
struct BalanceVerdict {
    signature: Signature,
    documentation: Documentation,
}

impl BalanceVerdict {
    fn new() -> Self {
        Self {
            signature: named_signature(PARAMETERS.map(|(name, _)| name).to_vec()),
            documentation: docs::documentation::<Self>(
                SYNTAX,
                &PARAMETERS,
                EXAMPLE,
                &["imbalance", "imbalance_bias", "balance_test"],
            ),
        }
    }
}

fn verdict_fields() -> Fields {
    struct_fields([
        ("verdict", DataType::Utf8),
        ("effect", DataType::Utf8),
        ("element", DataType::UInt64),
        ("p_value", DataType::Float64),
        ("rows_to_decide", DataType::UInt64),
    ])
}

/// Whether a type is a struct of these fields, some of which may be NULL.
fn has_fields(data_type: &DataType, fields: &Fields) -> bool {
    let of = |fields: &Fields| fields.iter().map(|field: &Arc<Field>| field.name().clone()).collect::<Vec<_>>();
    matches!(data_type, DataType::Struct(own) if of(own) == of(fields))
}

impl ScalarUDFImpl for BalanceVerdict {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if !(1..=PARAMETERS.len()).contains(&arg_types.len()) {
            return plan_err!("{NAME} takes 1 to 5 arguments, not {}; usage: {SYNTAX}", arg_types.len());
        }
        let coerced = arg_types.iter().enumerate().map(|(at, data_type)| {
            let expects = match (at, data_type) {
                (0, given) if has_fields(given, &imbalance_fields()) || *given == DataType::Null => {
                    return Ok(DataType::Struct(imbalance_fields()));
                }
                (0, _) => "what imbalance() or imbalance_both() gave",
                (1, DataType::Null) => return Ok(DataType::Null),
                (1, given) if has_fields(given, &bias_fields()) => return Ok(DataType::Struct(bias_fields())),
                (1, _) => "what imbalance_bias() or imbalance_bias_dr() gave, or NULL",
                (_, given) if is_number(given) => return Ok(DataType::Float64),
                _ => "a number",
            };
            let (name, _) = PARAMETERS[at];
            plan_err!("argument {} ({name}) of {NAME} must be {expects}, not {data_type}; usage: {SYNTAX}", at + 1)
        });
        coerced.collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(verdict_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let bias = arrays.get(1).and_then(|array| array.as_struct_opt());
        let verdict = |row: usize| {
            let number = |at: usize| match arrays.get(2 + at) {
                None => Some(DEFAULTS[at]),
                Some(array) => array.is_valid(row).then(|| array.as_primitive::<Float64Type>().value(row)),
            };
            let (Some(tolerance), Some(of_bias), Some(confidence)) = (number(0), number(1), number(2)) else {
                return Ok(None);
            };
            for (at, value, fine) in [
                (2, tolerance, tolerance > 0.0),
                (3, of_bias, of_bias > 0.0),
                (4, confidence, confidence > 0.0 && confidence < 1.0),
            ] {
                if !fine {
                    let (name, expects) = PARAMETERS[at];
                    let place = at + 1;
                    return exec_err!(
                        "{NAME}: argument {place} ({name}) is {value}: it must be as described: {expects}"
                    );
                }
            }
            let Some(mut case) = Case::of_imbalance(arrays[0].as_struct(), row, tolerance) else { return Ok(None) };
            if let Some(bias) = bias {
                case.add_bias(bias, row, of_bias);
            }
            Ok(Some(case.verdict(1.0 - confidence)))
        };
        let verdicts = (0..args.number_rows).map(verdict).collect::<Result<Vec<_>>>()?;
        let words = |f: fn(&Verdict) -> Option<&'static str>| -> ArrayRef {
            Arc::new(verdicts.iter().map(|verdict| f(verdict.as_ref()?)).collect::<StringArray>())
        };
        let columns = vec![
            words(|verdict| Some(verdict.verdict)),
            words(|verdict| verdict.effect),
            counts(verdicts.iter().map(|verdict| verdict.as_ref()?.element)),
            numbers(verdicts.iter().map(|verdict| verdict.as_ref()?.p_value)),
            counts(verdicts.iter().map(|verdict| verdict.as_ref()?.rows_to_decide)),
        ];
        let is_valid = verdicts.iter().map(Option::is_some).collect();
        Ok(ColumnarValue::Array(structs(verdict_fields(), columns, is_valid)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct Verdict {
    verdict: &'static str,
    effect: Option<&'static str>,
    element: Option<u64>,
    p_value: Option<f64>,
    rows_to_decide: Option<u64>,
}

/// An effect size with its error, beside what is tolerated.
#[derive(Debug)]
struct Effect {
    name: &'static str,
    element: Option<u64>,
    /// How large it is, whichever its sign.
    size: f64,
    error: f64,
    degrees: f64,
    tolerance: f64,
    /// The p-value of right propensities.
    chance: f64,
}

impl Effect {
    /// How many standard errors the effect is beyond its tolerance.
    fn beyond(&self) -> f64 {
        let beyond = (self.size - self.tolerance) / self.error;
        if beyond.is_nan() { f64::NEG_INFINITY } else { beyond }
    }

    /// The p-value of an effect within the tolerance, among `tests` effects.
    fn p_value(&self, tests: usize) -> f64 {
        let alone = match self.beyond() {
            f64::INFINITY => 0.0,
            f64::NEG_INFINITY => 1.0,
            beyond => student_tail(beyond, self.degrees),
        };
        let together = -(tests as f64 * (-alone).ln_1p()).exp_m1();
        together.max(self.chance)
    }

    /// What its interval takes of its tolerance: less than 1 where it lies within.
    fn reach(&self) -> f64 {
        (self.size + student_quantile(BALANCED_TAIL, self.degrees) * self.error) / self.tolerance
    }

    /// By which factor there must be more rows.
    fn more_rows(&self, tail: f64) -> f64 {
        ((student_quantile(tail, self.degrees) + POWER) / self.beyond()).powi(2)
    }
}

/// The effects of some rows.
#[derive(Debug)]
struct Case {
    n: u64,
    effects: Vec<Effect>,
    /// An effect whose error is not known.
    unknown: Option<(&'static str, Option<u64>)>,
    largest_share: Option<f64>,
}

fn number(column: &ArrayRef, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
}

impl Case {
    fn of_imbalance(imbalance: &StructArray, row: usize, tolerance: f64) -> Option<Self> {
        let columns = imbalance.columns();
        if imbalance.is_null(row) || columns[..7].iter().any(|column| column.is_null(row)) {
            return None;
        }
        let list = |at: usize| columns[at].as_list::<i32>().value(row);
        let [estimates, errors, degrees, chances] = [1, 2, 5, 6].map(list);
        let mut case = Self {
            n: columns[0].as_primitive::<UInt64Type>().value(row),
            effects: Vec::new(),
            unknown: None,
            largest_share: number(&columns[8], row),
        };
        let lengths = [&errors, &degrees, &chances].map(|list| list.len());
        for k in 0..lengths.into_iter().min().unwrap_or_default().min(estimates.len()) {
            let Some(estimate) = number(&estimates, k) else { continue };
            let element = Some(k as u64 + 1);
            match (number(&errors, k), number(&degrees, k), number(&chances, k)) {
                (Some(error), Some(degrees), Some(chance)) => case.effects.push(Effect {
                    name: "imbalance",
                    element,
                    size: estimate.abs(),
                    error,
                    degrees,
                    tolerance,
                    chance,
                }),
                _ => case.unknown = Some(("imbalance", element)),
            }
        }
        Some(case)
    }

    fn add_bias(&mut self, bias: &StructArray, row: usize, tolerance: f64) {
        let figure = |at: usize| number(bias.column(at), row).filter(|_| bias.is_valid(row));
        // The bias is one of the elements' imbalances: that any of them is no chance is what is asked for.
        let chance = self.effects.iter().map(|effect| effect.chance).fold(1.0, f64::min);
        match (figure(1), figure(2), figure(5)) {
            (Some(estimate), Some(error), Some(degrees)) => self.effects.push(Effect {
                name: "bias",
                element: None,
                size: estimate.abs(),
                error,
                degrees,
                tolerance,
                chance,
            }),
            _ => self.unknown = self.unknown.or(Some(("bias", None))),
        }
    }

    fn verdict(&self, level: f64) -> Verdict {
        let tests = self.effects.len();
        let by = |f: &dyn Fn(&Effect) -> f64| self.effects.iter().min_by(|a, b| f(a).total_cmp(&f(b)));
        let least = by(&|effect| effect.p_value(tests));
        let p_value = least.map(|effect| effect.p_value(tests));
        let of = |verdict, effect: Option<&Effect>, rows_to_decide| Verdict {
            verdict,
            effect: effect.map(|effect| effect.name),
            element: effect.and_then(|effect| effect.element),
            p_value,
            rows_to_decide,
        };
        if p_value.is_some_and(|p_value| p_value <= level) {
            return of("unbalanced", least, None);
        }
        let rows = |factor: f64| {
            let rows = (factor * self.n as f64).ceil();
            (rows.is_finite() && rows < 1e18).then_some(rows as u64)
        };
        let each = sidak(level, tests);
        let beyond = self.effects.iter().filter(|effect| effect.beyond() > 0.0);
        if let Some(effect) = beyond.min_by(|a, b| a.more_rows(each).total_cmp(&b.more_rows(each))) {
            return of("undecided", Some(effect), rows(effect.more_rows(each)));
        }
        if let Some((effect, element)) = self.unknown {
            return Verdict { effect: Some(effect), element, ..of("undecided", None, None) };
        }
        let widest = by(&|effect| -effect.reach());
        if let Some(effect) = widest.filter(|effect| effect.reach() >= 1.0) {
            let most = by(&|effect| -effect.more_rows(BALANCED_TAIL)).unwrap_or(effect);
            return of("undecided", Some(most), rows(most.more_rows(BALANCED_TAIL)));
        }
        if self.largest_share.is_some_and(|share| share > LARGEST_SHARE) {
            return Verdict { effect: Some("cluster"), ..of("undecided", None, None) };
        }
        match widest {
            Some(effect) => of("balanced", Some(effect), None),
            None => of("undecided", None, None),
        }
    }
}
