//! The parts that the functions' documentation has in common.

use datafusion_expr::{DocSection, Documentation};

use crate::args::{Role, Spec};

pub(crate) const BALANCE: DocSection = DocSection {
    include: true,
    label: "Balance Functions",
    description: Some("How far the propensity weights are from making treated and untreated rows alike."),
};

pub(crate) const ESTIMATORS: DocSection = DocSection {
    include: true,
    label: "Estimator Functions",
    description: Some("Estimates of the mean prediction error over the whole population, from treated rows."),
};

pub(crate) const DIAGNOSTICS: DocSection = DocSection {
    include: true,
    label: "Diagnostic Functions",
    description: Some("What the propensity weights cost in precision."),
};

pub(crate) const ROWS: DocSection = DocSection {
    include: true,
    label: "Row Functions",
    description: Some("Errors and weights of single rows, as arguments for the aggregates."),
};

/// Documents an aggregate; its arguments are described by what they mean.
pub(crate) fn aggregate(
    spec: &Spec,
    section: DocSection,
    description: &str,
    example: &str,
    related: &[&str],
) -> Documentation {
    let mut documentation =
        Documentation::builder(section, description, spec.syntax()).with_sql_example(format!("```sql\n{example}\n```"));
    for &role in spec.roles {
        documentation = documentation.with_argument(role.name(), argument(spec, role));
    }
    if spec.phi {
        documentation = documentation.with_argument("phi", PHI);
    }
    for name in related {
        documentation = documentation.with_related_udf(*name);
    }
    documentation.build()
}

const PHI: &str = "The balancing representation φ: any count of numeric or boolean columns, or one `List`, \
    `LargeList` or `FixedSizeList` of numbers, all of one length. Left out, φ = 1. A row with a NULL in φ, also \
    within the list, is skipped; NaN or infinity is an error.";

fn argument(spec: &Spec, role: Role) -> &'static str {
    match role {
        Role::Treated => {
            "The treatment o: a boolean, or a number that is 0 or 1 (clicked, rated, exposed). Anything else is \
             an error; a NULL row is skipped."
        }
        Role::Propensity if spec.phi => {
            "The learned propensity p, from 0 to 1. A treated row with propensity 0 and an untreated row with \
             propensity 1 are errors; a NULL row is skipped."
        }
        Role::Propensity => {
            "The learned propensity p, from 0 to 1. A treated row with propensity 0 is an error; a NULL row is \
             skipped."
        }
        Role::Error => {
            "The prediction error e, e.g. `squared_error(prediction, outcome)`. It is not read where `treated` is \
             0 and may be NULL there: the row still counts. A treated row with a NULL error is skipped; NaN or \
             infinity on a treated row is an error."
        }
        Role::ImputedError => {
            "The imputed error ê, a model's guess of the error, needed on every row. A NULL row is skipped; NaN \
             or infinity is an error."
        }
        Role::Lambda => "The balance weight λ: a literal number, 0 or more, that multiplies the BMSE.",
    }
}
