//! Regularizers, which may be put on any method.

use tch::{Kind, Tensor};

use crate::data::sampler::Layout;
use crate::model::{BatchWeights, Scores};
use counterweight::job::{LossSpec, Phi, Regularizer};

/// The values of a batch's pairs that regularizers are made of.
#[derive(Debug)]
pub struct Pairs<'a> {
    /// o.
    pub treated: &'a Tensor,
    /// p̂.
    pub propensity: &'a Tensor,
    /// p̂ kept from 0 and 1.
    pub divisor: &'a Tensor,
    /// r̂.
    pub prediction: &'a Tensor,
    /// e, or e − ê where the method imputes.
    pub residual: &'a Tensor,
}

/// The regularizer that `spec` names. Its gradient reaches every model whose values it is made of.
///
/// `scores` are the propensity model's, of whose embeddings or last hidden layer φ may be made.
pub fn regularizer(spec: &LossSpec, pairs: &Pairs, layout: Layout, scores: &Scores) -> Tensor {
    let &Pairs { treated, propensity, divisor, prediction, residual } = pairs;
    let weighted_phi = |weight: &Tensor| weighted_phi(spec.phi, layout, weight, scores, || prediction.shallow_clone());
    match spec.regularizer {
        Regularizer::Bmse => bmse(&weighted_phi(&balance_weight(treated, divisor)), treated.numel()),
        Regularizer::BmseUnbiased => {
            let weight = balance_weight(treated, divisor);
            let squares = weighted_square(spec.phi, layout, &weight, scores, || prediction.shallow_clone());
            bmse_unbiased(&weighted_phi(&weight), &squares, treated.numel())
        }
        Regularizer::Sv => sample_variance(propensity),
        Regularizer::Mis => mean_inverse_square(divisor),
        Regularizer::Variance => estimator_variance(treated, residual, divisor),
    }
}

/// The balance weight of every pair: o/p̂ − (1 − o)/(1 − p̂).
pub fn balance_weight(treated: &Tensor, propensity: &Tensor) -> Tensor {
    treated / propensity - (1.0 - treated) / (1.0 - propensity)
}

/// Σ w·φ over the pairs of a batch, `[dim φ]`, without φ of any pair of a block being made, but for one that scoring has
/// made.
///
/// `scores` are the propensity model's, `prediction` is r̂.
pub fn weighted_phi(
    phi: Phi,
    layout: Layout,
    weight: &Tensor,
    scores: &Scores,
    prediction: impl FnOnce() -> Tensor,
) -> Tensor {
    let BatchWeights { user, item, .. } = &scores.weights;
    weighted_sum(phi, layout, weight, (user, item), || of_pairs(phi, scores, prediction))
}

/// Σ w²‖φ‖² over the pairs of a batch: every φ is made of products or entries of the embeddings, or is there for every
/// pair, so its squares are the φ of their squares.
fn weighted_square(
    phi: Phi,
    layout: Layout,
    weight: &Tensor,
    scores: &Scores,
    prediction: impl FnOnce() -> Tensor,
) -> Tensor {
    let (user, item) = (scores.weights.user.square(), scores.weights.item.square());
    let squares = || of_pairs(phi, scores, prediction).square();
    weighted_sum(phi, layout, &weight.square(), (&user, &item), squares).sum(None::<Kind>)
}

/// φ of every pair of a batch laid out as pairs, `[pairs, dim φ]`, from the propensity model's `scores`, and from r̂.
pub fn phi(phi: Phi, scores: &Scores, prediction: impl FnOnce() -> Tensor) -> Tensor {
    let BatchWeights { user, item, .. } = &scores.weights;
    match phi {
        Phi::Constant => scores.logit.ones_like().unsqueeze(1),
        Phi::Product => user * item,
        Phi::Concat => Tensor::cat(&[user, item], 1),
        Phi::Prediction => prediction().unsqueeze(1),
        Phi::Learned => of_pairs(phi, scores, prediction),
    }
}

/// A φ that scoring makes of every pair: r̂, laid out as the scores are, or the last hidden layer, `[pairs, width]`.
fn of_pairs(phi: Phi, scores: &Scores, prediction: impl FnOnce() -> Tensor) -> Tensor {
    match phi {
        Phi::Learned => scores.representation.as_ref().expect("an MLP head has a hidden layer").shallow_clone(),
        _ => prediction(),
    }
}

/// Σ w·φ for the φ that `user` and `item` give or, where it is not made of them, `of_pairs`.
fn weighted_sum(
    phi: Phi,
    layout: Layout,
    weight: &Tensor,
    (user, item): (&Tensor, &Tensor),
    of_pairs: impl FnOnce() -> Tensor,
) -> Tensor {
    let over_rows = |values: Tensor| values.sum_dim_intlist(0, false, None::<Kind>);
    match (phi, layout) {
        (Phi::Constant, _) => weight.sum(None::<Kind>).view(1),
        (Phi::Prediction, _) => (weight * of_pairs()).sum(None::<Kind>).view(1),
        (Phi::Learned, _) => of_pairs().transpose(0, 1).mv(&weight.flatten(0, -1)),
        // Σ_ui w_ui p_u ⊙ q_i = Σ_u p_u ⊙ (W·Q)_u
        (Phi::Product, Layout::Block) => over_rows(user * weight.matmul(item)),
        (Phi::Product, Layout::Pairs) => (user * item).transpose(0, 1).mv(weight),
        // Σ_ui w_ui [p_u : q_i] = [Σ_u p_u (W·1)_u : Σ_i q_i (Wᵀ·1)_i]
        (Phi::Concat, Layout::Block) => {
            let (by_user, by_item) =
                (weight.sum_dim_intlist(1, false, None::<Kind>), over_rows(weight.shallow_clone()));
            Tensor::cat(&[user.transpose(0, 1).mv(&by_user), item.transpose(0, 1).mv(&by_item)], 0)
        }
        (Phi::Concat, Layout::Pairs) => {
            Tensor::cat(&[user.transpose(0, 1).mv(weight), item.transpose(0, 1).mv(weight)], 0)
        }
    }
}

/// BMSE = ‖mean(w·φ)‖², from Σ w·φ over `pairs` pairs.
pub fn bmse(weighted_phi: &Tensor, pairs: usize) -> Tensor {
    (weighted_phi / pairs as f64).square().sum(None::<Kind>)
}

/// (‖S‖² − Q) / (n(n − 1)) from S = Σ w·φ and Q = Σ w²‖φ‖² over n pairs: the mean of (w·φ)ᵀ(w'·φ') over two different
/// pairs. One pair gives 0.
pub fn bmse_unbiased(weighted_phi: &Tensor, weighted_square: &Tensor, pairs: usize) -> Tensor {
    let couples = (pairs * pairs.saturating_sub(1)).max(1) as f64;
    (weighted_phi.square().sum(None::<Kind>) - weighted_square) / couples
}

/// Σ (p̂ − mean p̂)² / (n − 1); of one pair 0.
pub fn sample_variance(propensity: &Tensor) -> Tensor {
    let deviation = propensity - propensity.mean(None::<Kind>);
    deviation.square().sum(None::<Kind>) / propensity.numel().saturating_sub(1).max(1) as f64
}

/// mean(1/p̂²).
pub fn mean_inverse_square(propensity: &Tensor) -> Tensor {
    propensity.square().reciprocal().mean(None::<Kind>)
}

/// Σ o(1 − p̂)·residual²/p̂² / n²: the estimated variance of IPS where the residual is e, of DR where it is e − ê.
pub fn estimator_variance(treated: &Tensor, residual: &Tensor, propensity: &Tensor) -> Tensor {
    let spread: Tensor = treated * (1.0 - propensity) * (residual / propensity).square();
    spread.mean(None::<Kind>) / treated.numel() as f64
}
