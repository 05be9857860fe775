//! Propensities by logistic regression of the treatment on who the user and what the item is.
//!
//! logit p̂ = b + a_u + a_i + x_uᵀβ + x_iᵀβ', with an effect a of each user and item and coefficients β of their
//! covariates, x, which are first brought to mean 0 and variance 1 over the users, or over the items. The fit minimises
//! the sum over the population of the cross-entropy of p̂ against o, plus l2/2 times the sum of all squared effects and
//! coefficients; b has no penalty. A user of whom little is known has, by that, about the propensity of users with such
//! covariates.
//!
//! The score is a sum of one number of the user's and one of the item's, so that it is a matrix factorisation without
//! embeddings: see [`model`].

mod classes;
mod log;
mod matrix;
#[cfg(test)]
mod tests;

use tch::{Device, Kind, Tensor};
use tokio_util::sync::CancellationToken;

use self::classes::Classes;
use self::log::Log;
use self::matrix::Matrix;
use crate::data::population::Covariates;
use crate::data::sampler::{Row, Sampler};
use crate::model::{Head, Model};
use counterweight::error::{Error, Result, invalid};

/// A logit's change by which a step counts as the last.
const TOLERANCE: f64 = 1e-8;
/// How far a step moves a logit at most.
const FARTHEST: f64 = 8.0;
const STEPS: usize = 100;
const HALVINGS: i32 = 50;
/// How much of the squared error of a step, in the norm of the preconditioner, is left.
const LEFT: f64 = 1e-6;
const CONJUGATE_STEPS: usize = 100;

/// Users or items: how many there are, and their covariates.
pub type Side<'a> = (usize, Option<&'a Covariates>);

/// The table of a matrix whose treated pairs are `rows`, `[users + items]` of float64: the score of a pair is the sum of
/// its user's and its item's entry. `l2` is the penalty.
///
/// # Errors
/// Where every pair is treated or none is, the fit does not converge, or `interrupt` came.
pub fn fit_matrix(
    rows: &[Row],
    sides: [Side<'_>; 2],
    l2: f64,
    device: Device,
    interrupt: &CancellationToken,
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let users: Vec<u32> = rows.iter().map(|row| row.user).collect();
    let items: Vec<u32> = rows.iter().map(|row| row.item).collect();
    let classes = [Classes::new(&users, sides[0]), Classes::new(&items, sides[1])];
    let design =
        Design::new([0, 1].map(|side| (classes[side].sizes(), classes[side].columns(sides[side].1))), l2, device);
    let table = fit(&Matrix::new(&classes, device), &design, interrupt)?;
    let (users, items) = (classes[0].count(), classes[1].count());
    let parts = [table.narrow(0, 0, users), table.narrow(0, users, items)];
    let expanded = parts.iter().zip(&classes).map(|(part, classes)| part.index_select(0, &classes.members(device)));
    Ok(Tensor::cat(&expanded.collect::<Vec<_>>(), 0))
}

/// The table of a log of `rows` rows, `treated` of them treated, that `sampler` gives; it has `users` and `items`.
///
/// # Errors
/// As those of [`fit_matrix`], and where the rows cannot be read.
pub fn fit_log(
    sampler: &dyn Sampler,
    [rows, treated]: [u64; 2],
    [users, items]: [usize; 2],
    l2: f64,
    device: Device,
    interrupt: &CancellationToken,
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let alone = |count: usize| (Tensor::ones([count as i64], (Kind::Double, Device::Cpu)), None);
    let design = Design::new([alone(users), alone(items)], l2, device);
    fit(&Log { sampler, rows, treated, interrupt }, &design, interrupt)
}

/// The model whose scores are those of `table`: its biases, without embeddings.
pub fn model(table: &Tensor, users: usize) -> Model {
    Model::from_table(table.to_kind(Kind::Float).unsqueeze(1), users, Head::Dot)
}

/// Where the pairs of a population meet users and items, or classes of them that have one entry in the table. The users
/// come first.
trait Pairs {
    /// How many pairs there are, and how many of them are treated.
    fn counts(&self) -> (f64, f64);

    /// By entry, the sums over its pairs of p − o and of p(1 − p), where the logits are those of `table`.
    fn moments(&self, table: &Tensor) -> Result<Moments>;

    /// By entry, the sum over its pairs of p(1 − p)·direction of the entry at the other end.
    fn cross(&self, table: &Tensor, direction: &Tensor) -> Result<Tensor>;
}

/// Sums over the pairs of each entry of a table.
struct Moments {
    /// Of p − o: the slope of the cross-entropy.
    residual: Tensor,
    /// Of p(1 − p): its curvature.
    weight: Tensor,
}

/// What the logits depend on beside the effects, and how parameters make a table: table = effects + columns·coefficients.
///
/// Parameters are one vector: the effects, one for each entry, and then the coefficients, the first of them b.
struct Design {
    /// `[entries, coefficients]`: 1 for users, the users' covariates, the items'; 0 elsewhere.
    columns: Tensor,
    /// The penalty of each parameter: of an effect, l2 times how many users or items have it.
    penalty: Tensor,
}

impl Design {
    /// `sides` are how many users, and items, have each entry, and its covariates `[entries, covariates]`.
    fn new(sides: [(Tensor, Option<Tensor>); 2], l2: f64, device: Device) -> Self {
        let sizes = Tensor::cat(&[&sides[0].0, &sides[1].0], 0);
        let zeros = |columns: i64| Tensor::zeros([sizes.size()[0], columns], (Kind::Double, Device::Cpu));
        let intercept = zeros(1);
        let _ = intercept.narrow(0, 0, sides[0].0.size()[0]).fill_(1.0);
        let mut columns = vec![intercept];
        let mut start = 0;
        for (sizes, covariates) in &sides {
            let entries = sizes.size()[0];
            if let Some(covariates) = covariates {
                let part = zeros(covariates.size()[1]);
                part.narrow(0, start, entries).copy_(covariates);
                columns.push(part);
            }
            start += entries;
        }
        let columns = Tensor::cat(&columns, 1);
        let of_coefficients = Tensor::full([columns.size()[1]], l2, (Kind::Double, Device::Cpu));
        let _ = of_coefficients.get(0).fill_(0.0);
        let penalty = Tensor::cat(&[sizes * l2, of_coefficients], 0);
        Self { columns: columns.to_device(device), penalty: penalty.to_device(device) }
    }

    /// The effects and the coefficients among parameters.
    fn split(&self, parameters: &Tensor) -> (Tensor, Tensor) {
        let [rows, coefficients] = self.columns.size()[..] else { unreachable!("a matrix has two dimensions") };
        (parameters.narrow(0, 0, rows), parameters.narrow(0, rows, coefficients))
    }

    fn table(&self, parameters: &Tensor) -> Tensor {
        let (effects, coefficients) = self.split(parameters);
        effects + self.columns.mv(&coefficients)
    }

    /// The transpose of [`Design::table`].
    fn transposed(&self, table: &Tensor) -> Tensor {
        Tensor::cat(&[table, &self.columns.transpose(0, 1).mv(table)], 0)
    }

    /// The slope of the penalised loss.
    fn gradient(&self, parameters: &Tensor, moments: &Moments) -> Tensor {
        self.transposed(&moments.residual) + &self.penalty * parameters
    }

    /// The solution x of H·x = `right`, H being the curvature without what users and items have in common: the effects
    /// are eliminated, which leaves a system of the coefficients.
    fn solve_separately(&self, weight: &Tensor, right: &Tensor) -> Tensor {
        let (effects, coefficients) = self.split(right);
        let (of_effects, of_coefficients) = self.split(&self.penalty);
        let kept = weight / (weight + &of_effects);
        let across = self.columns.transpose(0, 1);
        let system = across.matmul(&(&self.columns * (&kept * &of_effects).unsqueeze(1))) + of_coefficients.diag(0);
        let coefficients = coefficients - across.mv(&(kept * &effects));
        let coefficients = Tensor::linalg_solve(&system, &coefficients, true);
        let effects = (effects - weight * self.columns.mv(&coefficients)) / (weight + of_effects);
        Tensor::cat(&[effects, coefficients], 0)
    }
}

/// Fits the table of `pairs`, by Newton's method with conjugate gradients.
fn fit(pairs: &dyn Pairs, design: &Design, interrupt: &CancellationToken) -> Result<Tensor> {
    let (count, treated) = pairs.counts();
    if treated == 0.0 || treated == count {
        let which = if treated == 0.0 { "no" } else { "every" };
        invalid!(
            "train.propensity.source = \"logistic\": {which} element of the population is treated, which leaves nothing \
             to fit; in a log the untreated rows belong to train.data.train"
        );
    }
    let mut parameters = start(pairs, design, treated / count)?;
    let mut table = design.table(&parameters);
    let mut moments = pairs.moments(&table)?;
    for step in 1..=STEPS {
        if interrupt.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let gradient = design.gradient(&parameters, &moments);
        let curve = |direction: &Tensor| -> Result<Tensor> {
            let of_table = design.table(direction);
            let curved = &moments.weight * &of_table + pairs.cross(&table, &of_table)?;
            Ok(design.transposed(&curved) + &design.penalty * direction)
        };
        let precondition = |right: &Tensor| design.solve_separately(&moments.weight, right);
        let direction = conjugate_gradients(curve, precondition, &gradient.neg())?;
        let moved = design.table(&direction).abs().max().double_value(&[]);
        if moved < TOLERANCE {
            tracing::info!(steps = step, "fitted the logistic regression of the propensities");
            return Ok(design.table(&(parameters + direction)));
        }
        let longest = (FARTHEST / moved).min(1.0);
        let Some(next) = line_search(design, pairs, &parameters, &gradient, &(direction * longest))? else { break };
        (parameters, moments) = next;
        table = design.table(&parameters);
    }
    invalid!("the logistic regression of the propensities does not converge; raise train.propensity.l2")
}

/// Parameters to start from: b is the logit of `share`, that of the population that is treated, and the effect of an entry
/// moves it to that of its own pairs, together with l2/p(1 − p) pairs like all others, which stand for the penalty.
///
/// From 0, a step of Newton's would move an entry of a thousand times the usual share by a thousand.
fn start(pairs: &dyn Pairs, design: &Design, share: f64) -> Result<Tensor> {
    let base = (share / (1.0 - share)).ln();
    let parameters = design.penalty.zeros_like();
    let (mut effects, coefficients) = design.split(&parameters);
    let _ = coefficients.get(0).fill_(base);
    let Moments { residual, weight } = pairs.moments(&design.table(&parameters))?;
    let variance = share * (1.0 - share);
    let (own, added) = (weight / variance, design.split(&design.penalty).0 / variance);
    let treated = (&own * share - residual).clamp_min(0.0) + &added * share;
    let of_entry = treated / (own + added);
    let odds: Tensor = &of_entry / (1.0 - &of_entry);
    effects.copy_(&(odds.log() - base));
    Ok(parameters)
}

/// A point on the line from `parameters` in `direction` where the convex loss does not yet rise by more than half the slope
/// at which it falls at the start: all of `direction` if that is one, else a half, a quarter, and so on.
fn line_search(
    design: &Design,
    pairs: &dyn Pairs,
    parameters: &Tensor,
    gradient: &Tensor,
    direction: &Tensor,
) -> Result<Option<(Tensor, Moments)>> {
    let falls = -dot(gradient, direction);
    for halvings in 0..HALVINGS {
        let length = 0.5_f64.powi(halvings);
        let there = parameters + direction * length;
        let moments = pairs.moments(&design.table(&there))?;
        if dot(&design.gradient(&there, &moments), direction) <= falls / 2.0 {
            return Ok(Some((there, moments)));
        }
    }
    Ok(None)
}

/// An approximate solution x of `apply`(x) = `right` for a positive definite `apply`, of which `precondition` roughly is
/// the inverse.
fn conjugate_gradients(
    apply: impl Fn(&Tensor) -> Result<Tensor>,
    precondition: impl Fn(&Tensor) -> Tensor,
    right: &Tensor,
) -> Result<Tensor> {
    let mut solution = right.zeros_like();
    let mut residual = right.copy();
    let mut direction = precondition(&residual);
    let mut error = dot(&residual, &direction);
    let enough = error * LEFT;
    for _ in 0..CONJUGATE_STEPS {
        if error <= enough {
            break;
        }
        let applied = apply(&direction)?;
        let length = error / dot(&direction, &applied);
        solution += &direction * length;
        residual -= applied * length;
        let next = precondition(&residual);
        let before = std::mem::replace(&mut error, dot(&residual, &next));
        direction = next + direction * (error / before);
    }
    Ok(solution)
}

/// p(1 − p): by how much p grows with its logit.
fn variance(p: &Tensor) -> Tensor {
    (1.0 - p) * p
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.dot(b).double_value(&[])
}
