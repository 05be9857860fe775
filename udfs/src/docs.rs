//! The functions' documentation in the SQL reference.

use datafusion_expr::{DocSection, Documentation};

use crate::args::{Role, Spec};

/// A function with documentation, as the macro at the head of its file gives it.
pub(crate) trait Documented {
    /// The lines of its doc comment.
    const DOC: &'static str;

    const SECTION: DocSection;
}

/// Documents a function for the SQL reference; `arguments` are names and meanings.
pub(crate) fn documentation<F: Documented>(
    syntax: impl Into<String>,
    arguments: &[(&str, &str)],
    example: &str,
    related: &[&str],
) -> Documentation {
    let mut documentation = Documentation::builder(F::SECTION, description(F::DOC), syntax)
        .with_sql_example(format!("```sql\n{example}\n```"));
    for (name, meaning) in arguments {
        documentation = documentation.with_argument(*name, *meaning);
    }
    for name in related {
        documentation = documentation.with_related_udf(*name);
    }
    documentation.build()
}

/// Documents an aggregate; its arguments are described by what they mean.
pub(crate) fn aggregate<F: Documented>(spec: &Spec, example: &str, related: &[&str]) -> Documentation {
    let mut arguments: Vec<_> = spec.roles.iter().map(|&role| (role.name(), argument(spec, role))).collect();
    if spec.phi {
        arguments.push((spec.vector, if spec.vector == "phi" { PHI } else { COVARIATES }));
    }
    documentation::<F>(spec.syntax(), &arguments, example, related)
}

/// What stands before the details, as one paragraph.
fn description(doc: &str) -> String {
    let lines = doc.lines().map(str::trim).take_while(|line| *line != "# Details").filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// What the functions of a state take.
pub(crate) const STATE: &str = "A value that `balance_state` or `balance_merge` gave.";

const PHI: &str = "The balancing representation φ: any count of numeric or boolean columns, or one \
    column of lists of numbers (of any list type), all of one length. Left out, φ = 1. A row with a NULL in φ, also \
    within the list, is skipped; NaN or infinity is an error.";

const COVARIATES: &str = "What should be alike in treated and untreated rows: any count of numeric or boolean \
    columns, or one column of lists of numbers (of any list type), all of one length. A row with a NULL in one of them \
    is skipped; NaN or infinity is an error.";

fn argument(spec: &Spec, role: Role) -> &'static str {
    match role {
        Role::Treated if spec.is_lenient() => {
            "The treatment o: a boolean, or a number that is 0 or 1 (clicked, rated, exposed), or what `treatment` gives. \
             Other values and NULL are counted."
        }
        Role::Treated => {
            "The treatment o: a boolean, or a number that is 0 or 1 (clicked, rated, exposed), or what `treatment` gives. \
             Anything else is an error; a NULL row is skipped."
        }
        Role::Propensity if spec.is_lenient() => {
            "The learned propensity p, from 0 to 1, above 0 on treated rows. Other values and NULL are counted."
        }
        Role::Propensity if spec.divides_both() => {
            "The learned propensity p, from 0 to 1. A treated row with propensity 0 and an untreated row with \
             propensity 1 are errors; a NULL row is skipped."
        }
        Role::Propensity if spec.divides_neither() => "The learned propensity p, from 0 to 1. A NULL row is skipped.",
        Role::Propensity if !spec.takes(Role::Treated) => {
            "The learned propensity p, above 0 and up to 1. Propensity 0 is an error; a NULL row is skipped."
        }
        Role::Propensity => {
            "The learned propensity p, from 0 to 1. A treated row with propensity 0 is an error; a NULL row is \
             skipped."
        }
        Role::PropensityBefore => "The propensity before the change, like `propensity`.",
        Role::Error => {
            "The prediction error e, e.g. `squared_error(prediction, outcome)`. It is not read where `treated` is \
             0 and may be NULL there: the row still counts. A treated row with a NULL error is skipped; NaN or \
             infinity on a treated row is an error."
        }
        Role::ImputedError => {
            "The imputed error ê, a model's guess of the error, needed on every row. A NULL row is skipped; NaN \
             or infinity is an error."
        }
        Role::Covariate => "A number a row. A NULL row is skipped; NaN or infinity is an error.",
        Role::Lambda => "The balance weight λ: a literal number, 0 or more, that multiplies the BMSE.",
        Role::Level => "The confidence level: a literal number between 0 and 1, 0.95 if left out.",
        Role::MaxWeight => "The largest weight `1/p`: a literal number above 0; larger ones are cut to it.",
        Role::Threshold => {
            "The largest weight `1/p` that is used: a literal number above 0; rows with a larger one fall back to \
             their imputed error."
        }
        Role::Shrinkage => "How much weights are shrunk: a literal number, 0 or more; 0 takes all correction away.",
        Role::Bins => "How many bins: a literal whole number from 1 to 10000, 10 if left out.",
        Role::Binning => {
            "`'width'` for bins of equal width (also if left out), `'mass'` for bins of equal numbers of rows."
        }
        Role::Lower => "Propensities below this literal number are counted; 0.01 if left out.",
        Role::Upper => "Propensities above this literal number are counted; 0.99 if left out.",
        Role::Directions => {
            "What `alarm_directions` gave for a reference period and the same phi. A row with NULL is skipped."
        }
        Role::Day => {
            "The day that a state is of: a date, a time, a whole number or text, in whose order days follow each other. NULL \
             and a day with two states are errors."
        }
        Role::DayState => "A value that `alarm_state` gave. NULL, a day without a row, is skipped.",
        Role::Tolerance => {
            "The change of a standardised imbalance that is tolerated: a literal number above 0, 0.1 if left out."
        }
        Role::FalseAlarms => {
            "The chance of a false alarm in the first 365 days: a literal number between 0 and 1, 0.01 if left out."
        }
        Role::ReferenceDays => {
            "How many of the first days are the reference: a literal number of whole weeks, 14 or more; 28 if left out."
        }
    }
}
