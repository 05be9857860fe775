//! Adam over a table of which each step touches some rows.

use tch::{Device, Tensor};

use crate::job::AdamSpec;

const BETA: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;
/// Values updated at a time on a CPU: they and their moments stay in its cache.
const CACHED: i64 = 1 << 18;

/// Adam (Kingma & Ba 2015) with an L2 penalty added to the gradient.
///
/// Every row of the table moves at every step, whether or not the step saw it: momentum and decay go on.
#[derive(Debug)]
pub(crate) struct Adam {
    spec: AdamSpec,
    steps: i32,
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    scratch: Tensor,
}

impl Adam {
    /// The optimiser of `table`, at rest.
    pub(crate) fn new(spec: AdamSpec, table: &Tensor) -> Self {
        let zeros = || table.zeros_like();
        Self { spec, steps: 0, mean: zeros(), square: zeros(), gradient: zeros(), scratch: zeros() }
    }

    /// Moves `table` by one step, where the loss has `gradient` at `rows` and none elsewhere; a row may come twice.
    pub(crate) fn step(&mut self, table: &mut Tensor, rows: &Tensor, gradient: &Tensor) {
        tch::no_grad(|| {
            let _ = table.mul_scalar_out(&self.gradient, self.spec.weight_decay);
            let _ = self.gradient.index_add_(0, rows, gradient);
            self.steps += 1;
            let [count, width] = table.size()[..] else { unreachable!("a table has two dimensions") };
            let chunk = if table.device() == Device::Cpu { (CACHED / width).max(1) } else { count };
            for start in (0..count).step_by(chunk as usize) {
                self.update(table, start, chunk.min(count - start));
            }
        });
    }

    fn update(&mut self, table: &Tensor, start: i64, count: i64) {
        let part = |tensor: &Tensor| tensor.narrow(0, start, count);
        let (gradient, mut mean, mut square) = (part(&self.gradient), part(&self.mean), part(&self.square));
        let (mut table, mut scratch) = (part(table), part(&self.scratch));
        let correction = (1.0 - BETA.0.powi(self.steps), 1.0 - BETA.1.powi(self.steps));
        let scale = -correction.0 / self.spec.lr;

        let _ = mean.lerp_(&gradient, 1.0 - BETA.0);
        let _ = gradient.square_out(&scratch);
        let _ = square.lerp_(&scratch, 1.0 - BETA.1);
        let _ = square.sqrt_out(&scratch);
        let _ = scratch.g_mul_scalar_(scale / correction.1.sqrt());
        let _ = scratch.g_add_scalar_(scale * EPSILON);
        let _ = table.addcdiv_(&mean, &scratch);
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;
    use tch::nn::{self, OptimizerConfig};

    use super::*;

    /// libtorch's own dense Adam, on the same loss, is the reference.
    #[test]
    fn moves_as_libtorch_does() {
        let store = nn::VarStore::new(Device::Cpu);
        let start = Tensor::arange(30, (Kind::Double, Device::Cpu)).view([6, 5]) / 10.0;
        let reference = store.root().var_copy("table", &start.to_kind(Kind::Float));
        let mut table = reference.detach().copy();
        let mut optimizer = nn::adam(0.9, 0.999, 0.1).build(&store, 0.02).unwrap();
        let mut adam = Adam::new(AdamSpec { lr: 0.02, weight_decay: 0.1 }, &table);
        for step in 0..20 {
            let rows = Tensor::from_slice(&[step % 6, 2, (step * 5) % 6]);
            optimizer.backward_step(&reference.index_select(0, &rows).square().sum(None::<Kind>));

            let leaf = table.index_select(0, &rows).set_requires_grad(true);
            let gradient = Tensor::run_backward(&[leaf.square().sum(None::<Kind>)], &[&leaf], false, false);
            adam.step(&mut table, &rows, &gradient[0]);
        }
        let furthest = (&table - reference.detach()).abs().max().double_value(&[]);
        assert!(furthest < 1e-6, "{furthest}");
    }
}
