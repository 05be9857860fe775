//! The λ at which an estimate of the ideal loss and λ·BMSE together vary least from batch to batch:
//! −Cov(L, BMSE) / Var(BMSE) (Li et al., ICML 2023, theorem 4.2).
//!
//! A batch is taken for a sample of n pairs, over which treatments, outcomes and the pairs themselves vary. L is the mean of
//! the pairs' losses l, and BMSE = ‖z̄‖² the squared mean of their z = w·φ. With μ and Σ the mean and covariance of z,
//! s = μᵀz and d = ‖z − μ‖², to order n⁻²
//!
//! - Cov(L, BMSE) = 2Cov(l, s)/n + Cov(l, d)/n²,
//! - Var(BMSE) = 4Var(s)/n + 4Cov(s, d)/n² + 2tr(Σ²)/n², the last term for a z̄ that is nearly normal.
//!
//! Neither needs a product of two elements of φ: every batch gives these moments for as much work as its scores. They are
//! averaged over the batches of an epoch, whose loss, a mean over batches, then varies least at the ratio of the averages.

use tch::{Device, Kind, Tensor};

use super::regularizers::weighted_phi;
use crate::data::sampler::Layout;
use crate::model::{BatchWeights, Scores};
use counterweight::job::Phi;
use counterweight::model::Optimum;

/// From the [`moments`] of batches; none where BMSE does not vary.
///
/// Var(BMSE) is held above 2tr(Σ²)/n², what it is for perfect balance, and ρ within −1 and 1, so that λ·BMSE never
/// varies more than L does.
pub fn optimum(moments: &[Tensor]) -> Option<Optimum> {
    if moments.is_empty() {
        return None;
    }
    let means = Tensor::stack(moments, 0).mean_dim(0, false, None::<Kind>).to_device(Device::Cpu);
    let [covariance, of_bmse, balanced, of_loss] = [0, 1, 2, 3].map(|at| means.double_value(&[at]));
    let of_bmse = of_bmse.max(balanced);
    let correlation = (covariance / (of_loss * of_bmse).sqrt()).clamp(-1.0, 1.0);
    let lambda = -correlation * (of_loss / of_bmse).sqrt();
    lambda.is_finite().then_some(Optimum { lambda, correlation })
}

/// What a batch says of the moments of its L and BMSE, `[4]` of double precision, without gradient: Cov(L, BMSE),
/// Var(BMSE), the 2tr(Σ²)/n² in it, Var(L). All 0 of fewer than three pairs.
///
/// They are estimates with μ̂ = z̄ for μ, less the bias of that; tr(Σ²) is the mean of ((z − μ̂)ᵀ(z' − μ̂))² over pairs, z'
/// being that of another pair. `losses` are the pairs' l, `weight` their w; `scores` are the propensity model's,
/// `prediction` is r̂.
pub fn moments(
    phi: Phi,
    layout: Layout,
    losses: &Tensor,
    weight: &Tensor,
    scores: &Scores,
    prediction: &Tensor,
) -> Tensor {
    let _guard = tch::no_grad_guard();
    let n = weight.numel() as f64;
    if n < 3.0 {
        return Tensor::zeros([4], (Kind::Double, weight.device()));
    }
    let double = |tensor: Tensor| tensor.to_kind(Kind::Double);
    let factors = Factors::new(phi, layout, scores, prediction);
    let mean = weighted_phi(phi, layout, weight, scores, || prediction.shallow_clone()) / n;
    let length = double(mean.square().sum(None::<Kind>));

    let s = double(weight * factors.along(&mean));
    let d = double(weight.square() * factors.product(&factors)) - &s * 2.0 + &length;
    let other = factors.shifted();
    let of_others = double(weight * shift(weight, layout) * factors.product(&other)) - &s - shift(&s, layout) + &length;
    let balanced = of_others.square().mean(None::<Kind>) * 2.0 / (n * n);

    let centred = |values: &Tensor| values - values.mean(None::<Kind>);
    let (l, s, d) = (centred(&double(losses.shallow_clone())), centred(&s), centred(&d));
    let covariance = |a: &Tensor, b: &Tensor| (a * b).sum(None::<Kind>) / (n - 1.0);
    let of_bmse = covariance(&s, &s) * 4.0 / n - covariance(&s, &d) * 4.0 / (n * n) - &balanced;
    let with_bmse = covariance(&l, &s) * 2.0 / n - covariance(&l, &d) / (n * n);
    Tensor::stack(&[with_bmse, of_bmse, balanced, covariance(&l, &l) / n], 0)
}

/// The values of the next pair, the last one's being the first's: of a block, of the next user with the next item.
fn shift(values: &Tensor, layout: Layout) -> Tensor {
    match layout {
        Layout::Block => values.roll([-1, -1], [0, 1]),
        Layout::Pairs => values.roll([-1], [0]),
    }
}

/// What φ of a batch's pairs is made of. A product of two φ is the sum, over users and items or over both together, of the
/// products of their factors, so that φ itself is made of no pair, but for one that scoring has made.
struct Factors {
    phi: Phi,
    layout: Layout,
    user: Tensor,
    item: Tensor,
    /// φ itself, laid out as the pairs are, where it is not made of `user` and `item`: `[…, dim φ]`.
    of_pairs: Option<Tensor>,
}

impl Factors {
    fn new(phi: Phi, layout: Layout, scores: &Scores, prediction: &Tensor) -> Self {
        let of_pairs = match phi {
            Phi::Product | Phi::Concat => None,
            Phi::Constant => Some(prediction.ones_like().unsqueeze(-1)),
            Phi::Prediction => Some(prediction.unsqueeze(-1)),
            Phi::Learned => {
                let mut shape = prediction.size();
                shape.push(-1);
                scores.representation.as_ref().map(|learned| learned.view(&shape[..]))
            }
        };
        let BatchWeights { user, item, .. } = &scores.weights;
        Self { phi, layout, user: user.shallow_clone(), item: item.shallow_clone(), of_pairs }
    }

    /// Those of the next pair in place of each.
    fn shifted(&self) -> Self {
        let next = |rows: &Tensor| rows.roll([-1], [0]);
        let (user, item) = (next(&self.user), next(&self.item));
        Self { user, item, of_pairs: self.of_pairs.as_ref().map(|phi| shift(phi, self.layout)), ..*self }
    }

    /// φᵀφ' of every pair.
    fn product(&self, other: &Self) -> Tensor {
        match (&self.of_pairs, &other.of_pairs) {
            (Some(phi), Some(other)) => (phi * other).sum_dim_intlist(-1, false, None::<Kind>),
            _ => self.sum(&(&self.user * &other.user), &(&self.item * &other.item)),
        }
    }

    /// φᵀ`direction` of every pair.
    fn along(&self, direction: &Tensor) -> Tensor {
        match (&self.of_pairs, self.phi) {
            (Some(phi), _) => phi.matmul(direction),
            (None, Phi::Product) => self.sum(&(&self.user * direction), &self.item),
            (None, _) => {
                let halves = direction.chunk(2, 0);
                self.sum(&(&self.user * &halves[0]), &(&self.item * &halves[1]))
            }
        }
    }

    /// Σ over the elements of φ, for each pair: of the products of `user` and `item`, or of both.
    fn sum(&self, user: &Tensor, item: &Tensor) -> Tensor {
        let over_elements = |values: &Tensor| values.sum_dim_intlist(1, false, None::<Kind>);
        match (self.phi, self.layout) {
            (Phi::Product, Layout::Block) => user.matmul(&item.transpose(0, 1)),
            (Phi::Product, Layout::Pairs) => over_elements(&(user * item)),
            (_, Layout::Block) => over_elements(user).unsqueeze(1) + over_elements(item),
            (_, Layout::Pairs) => over_elements(user) + over_elements(item),
        }
    }
}

#[cfg(test)]
mod tests;
