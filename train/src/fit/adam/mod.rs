//! Adam over a table of which each step touches some rows.

mod cpu;

use tch::{Device, Kind, Tensor};

use self::cpu::{step_densely, step_lazily};
use counterweight::error::{Result, invalid};
use counterweight::job::{AdamKind, AdamSpec};

const BETA: (f64, f64) = (0.9, 0.999);
const EPSILON: f64 = 1e-8;

/// Adam (Kingma & Ba 2015) with an L2 penalty added to the gradient.
#[derive(Debug)]
pub(crate) struct Adam {
    spec: AdamSpec,
    mean: Tensor,
    square: Tensor,
    /// Gradients summed by row; what it holds between two steps is of no account on a GPU, and 0 on a CPU.
    sum: Tensor,
    update: Update,
}

#[derive(Debug)]
enum Update {
    /// See [`AdamKind::Dense`].
    Dense { steps: i32 },
    /// See [`AdamKind::Lazy`]; `steps` counts those that touched each row, `[rows, 1]`.
    Lazy { steps: Tensor },
}

impl Adam {
    /// The optimiser of `table`, at rest.
    pub(crate) fn new(kind: AdamKind, spec: AdamSpec, table: &Tensor) -> Self {
        let zeros = || table.zeros_like();
        let update = match kind {
            AdamKind::Dense => Update::Dense { steps: 0 },
            AdamKind::Lazy => {
                Update::Lazy { steps: Tensor::zeros([table.size()[0], 1], (Kind::Float, table.device())) }
            }
        };
        Self { spec, mean: zeros(), square: zeros(), sum: zeros(), update }
    }

    /// Moves `table` by one step, where the loss has `gradient` at `rows` and none elsewhere; a row may come twice.
    ///
    /// # Errors
    /// On a CPU, where `rows` or `gradient` are not of such a table, or tensors share memory.
    pub(crate) fn step(&mut self, table: &mut Tensor, rows: &Tensor, gradient: &Tensor) -> Result<()> {
        match table.device() {
            Device::Cpu => self.step_on_cpu(table, rows, gradient),
            _ => {
                tch::no_grad(|| self.step_on_gpu(table, rows, gradient));
                Ok(())
            }
        }
    }

    fn step_on_cpu(&mut self, table: &mut Tensor, rows: &Tensor, gradient: &Tensor) -> Result<()> {
        let Self { spec, mean, square, sum, update } = self;
        match update {
            Update::Dense { steps } => {
                *steps += 1;
                step_densely([table, mean, square, sum], spec, *steps, rows, gradient)
            }
            Update::Lazy { steps } => step_lazily([table, mean, square, sum, steps], spec, rows, gradient),
        }
    }

    /// Lazily, a row that comes twice is computed twice, to the same values: to find it the host would have to wait.
    fn step_on_gpu(&mut self, table: &mut Tensor, rows: &Tensor, gradient: &Tensor) {
        let Self { spec, mean, square, sum, update } = self;
        match update {
            Update::Dense { steps } => {
                *steps += 1;
                let correction = (1.0 - BETA.0.powi(*steps), 1.0 - BETA.1.powi(*steps));
                let _ = table.mul_scalar_out(sum, spec.weight_decay);
                let _ = sum.index_add_(0, rows, gradient);
                let _ = mean.lerp_(sum, 1.0 - BETA.0);
                let _ = square.lerp_(&sum.square(), 1.0 - BETA.1);
                let deviation = square.sqrt() / correction.1.sqrt() + EPSILON;
                let _ = table.addcdiv_(mean, &(deviation * (-correction.0 / spec.lr)));
            }
            Update::Lazy { steps } => {
                let touched = |tensor: &Tensor| tensor.index_select(0, rows);
                let _ = sum.index_fill_(0, rows, 0.0);
                let _ = sum.index_add_(0, rows, gradient);
                let weights = touched(table);
                let slope = touched(sum) + &weights * spec.weight_decay;
                let new_mean = touched(mean).lerp(&slope, 1.0 - BETA.0);
                let new_square = touched(square).lerp(&slope.square(), 1.0 - BETA.1);
                let new_steps = touched(steps) + 1.0;
                let correction = |beta: f64| 1.0 - (&new_steps * beta.ln()).exp();
                let deviation = new_square.divide(&correction(BETA.1)).sqrt() + EPSILON;
                let moved = weights - new_mean.divide(&correction(BETA.0)).divide(&deviation) * spec.lr;
                for (whole, part) in [(table, &moved), (mean, &new_mean), (square, &new_square), (steps, &new_steps)] {
                    let _ = whole.index_copy_(0, rows, part);
                }
            }
        }
    }

    /// All that the steps to come depend on, by name.
    pub(crate) fn state(&self) -> [(&'static str, Tensor); 3] {
        let steps = match &self.update {
            // A float counts to 2^24; long before, no correction is left.
            Update::Dense { steps } => Tensor::from_slice(&[*steps as f32]),
            Update::Lazy { steps } => steps.shallow_clone(),
        };
        [("mean", self.mean.shallow_clone()), ("square", self.square.shallow_clone()), ("steps", steps)]
    }

    /// Resumes from an earlier [`Adam::state`], whose tensors `read` gives by name.
    ///
    /// # Errors
    /// Where `read` fails, or a tensor has another shape than this table's.
    pub(crate) fn restore(&mut self, read: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        for (name, mut tensor) in self.state() {
            let stored = read(name)?;
            if stored.size() != tensor.size() {
                invalid!("{name} of the optimiser has the shape {:?}, not {:?}", stored.size(), tensor.size());
            }
            match &mut self.update {
                Update::Dense { steps } if name == "steps" => *steps = stored.double_value(&[0]) as i32,
                _ => tensor.copy_(&stored),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use tch::nn::{self, OptimizerConfig};

    use super::*;

    type Step = fn(&mut Adam, &mut Tensor, &Tensor, &Tensor);

    /// What a CPU does, and what a GPU does, which a CPU can do as well.
    const WAYS: [Step; 2] = [
        |adam, table, rows, gradient| adam.step_on_cpu(table, rows, gradient).unwrap(),
        |adam, table, rows, gradient| tch::no_grad(|| adam.step_on_gpu(table, rows, gradient)),
    ];

    /// libtorch's own dense Adam, on the same loss, is the reference.
    #[test]
    fn moves_as_libtorch_does() {
        WAYS.into_iter().for_each(moves_as_libtorch);
    }

    fn moves_as_libtorch(way: Step) {
        let store = nn::VarStore::new(Device::Cpu);
        let start = Tensor::arange(30, (Kind::Double, Device::Cpu)).view([6, 5]) / 10.0;
        let reference = store.root().var_copy("table", &start.to_kind(Kind::Float));
        let mut table = reference.detach().copy();
        let mut optimizer = nn::adam(0.9, 0.999, 0.1).build(&store, 0.02).unwrap();
        let mut adam = Adam::new(AdamKind::Dense, AdamSpec { lr: 0.02, weight_decay: 0.1 }, &table);
        for step in 0..20 {
            let rows = Tensor::from_slice(&[step % 6, 2, (step * 5) % 6]);
            optimizer.backward_step(&reference.index_select(0, &rows).square().sum(None::<Kind>));

            let leaf = table.index_select(0, &rows).set_requires_grad(true);
            let gradient = Tensor::run_backward(&[leaf.square().sum(None::<Kind>)], &[&leaf], false, false);
            way(&mut adam, &mut table, &rows, &gradient[0]);
        }
        let furthest = (&table - reference.detach()).abs().max().double_value(&[]);
        assert!(furthest < 1e-6, "{furthest}");
    }

    const ROWS: usize = 6;
    const WIDTH: usize = 3;
    const SPEC: AdamSpec = AdamSpec { lr: 0.03, weight_decay: 0.2 };

    fn table(rng: &mut ChaCha8Rng) -> Tensor {
        let values: Vec<f32> = (0..ROWS * WIDTH).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_slice(&values).view([ROWS as i64, WIDTH as i64])
    }

    /// Rows of which some come twice, and their gradients.
    fn random_step(rng: &mut ChaCha8Rng) -> (Vec<i64>, Vec<f32>) {
        let rows: Vec<i64> = (0..4).map(|_| rng.random_range(0..ROWS as i64 - 1)).collect();
        let gradient = (0..rows.len() * WIDTH).map(|_| rng.random_range(-2.0..2.0)).collect();
        (rows, gradient)
    }

    fn apply(way: Step, adam: &mut Adam, table: &mut Tensor, (rows, gradient): &(Vec<i64>, Vec<f32>)) {
        let gradient = Tensor::from_slice(gradient).view([-1, WIDTH as i64]);
        way(adam, table, &Tensor::from_slice(rows), &gradient);
    }

    /// Against Adam written out for each row by itself, in double precision.
    #[test]
    fn lazily_a_row_moves_only_at_the_steps_that_touch_it() {
        WAYS.into_iter().for_each(moves_lazily);
    }

    fn moves_lazily(way: Step) {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut table = table(&mut rng);
        let start = Vec::<f32>::try_from(table.flatten(0, -1)).unwrap();
        let mut expected: Vec<f64> = start.iter().map(|value| f64::from(*value)).collect();
        let (mut mean, mut square) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        let mut steps = [0; ROWS];
        let mut adam = Adam::new(AdamKind::Lazy, SPEC, &table);
        for _ in 0..30 {
            let step = random_step(&mut rng);
            apply(way, &mut adam, &mut table, &step);
            for (row, steps) in steps.iter_mut().enumerate() {
                let at: Vec<usize> = (0..step.0.len()).filter(|at| step.0[*at] == row as i64).collect();
                if at.is_empty() {
                    continue;
                }
                *steps += 1;
                for column in 0..WIDTH {
                    let value = row * WIDTH + column;
                    let gradient: f64 = at.iter().map(|at| f64::from(step.1[at * WIDTH + column])).sum();
                    let gradient = gradient + SPEC.weight_decay * expected[value];
                    mean[value] = 0.9 * mean[value] + 0.1 * gradient;
                    square[value] = 0.999 * square[value] + 0.001 * gradient * gradient;
                    let unbiased = (mean[value] / (1.0 - 0.9_f64.powi(*steps)))
                        / ((square[value] / (1.0 - 0.999_f64.powi(*steps))).sqrt() + 1e-8);
                    expected[value] -= SPEC.lr * unbiased;
                }
            }
        }
        let moved = Vec::<f32>::try_from(table.flatten(0, -1)).unwrap();
        for (moved, expected) in moved.iter().zip(&expected) {
            assert!((f64::from(*moved) - expected).abs() < 2e-5, "{moved} is not {expected}");
        }
        assert_eq!(moved[(ROWS - 1) * WIDTH..], start[(ROWS - 1) * WIDTH..], "no step touched the last row");
    }

    #[test]
    fn a_restored_optimiser_goes_on_as_if_it_had_not_stopped() {
        for kind in [AdamKind::Dense, AdamKind::Lazy] {
            let mut rng = ChaCha8Rng::seed_from_u64(9);
            let mut table = table(&mut rng);
            let mut adam = Adam::new(kind, SPEC, &table);
            for _ in 0..5 {
                apply(WAYS[0], &mut adam, &mut table, &random_step(&mut rng));
            }
            let mut table_again = table.copy();
            let mut again = Adam::new(kind, SPEC, &table_again);
            let state = adam.state().map(|(name, tensor)| (name, tensor.copy()));
            let read = |wanted: &str| {
                let found = state.iter().find(|(name, _)| *name == wanted);
                Ok(found.map(|(_, tensor)| tensor.shallow_clone()).expect("a part of the state"))
            };
            again.restore(read).unwrap();
            for _ in 0..5 {
                let step = random_step(&mut rng);
                apply(WAYS[0], &mut adam, &mut table, &step);
                apply(WAYS[0], &mut again, &mut table_again, &step);
            }
            assert_eq!(table, table_again);
            let error = again.restore(|_| Ok(Tensor::from_slice(&[1.0_f32, 2.0]))).unwrap_err().to_string();
            assert!(error.contains("mean of the optimiser has the shape [2]"), "{error}");
        }
    }

    #[test]
    fn what_is_not_of_the_table_is_refused() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let rows = Tensor::from_slice(&[0_i64, 2]);
        let gradient = Tensor::ones([2, WIDTH as i64], (Kind::Float, Device::Cpu));
        for kind in [AdamKind::Dense, AdamKind::Lazy] {
            let mut table = table(&mut rng);
            let mut adam = Adam::new(kind, SPEC, &table);
            let part_of_the_table = table.narrow(0, 1, 2);
            for (rows, gradient, wanted) in [
                (&rows, &part_of_the_table, "share memory"),
                (&rows, &gradient.to_kind(Kind::Double), "float32"),
                (&rows, &gradient.narrow(1, 0, 1), "has the shape [2, 1]"),
                (&(&rows + 4), &gradient, "of row 6"),
                (&(&rows - 1), &gradient, "of row -1"),
            ] {
                let error = adam.step(&mut table, rows, gradient).unwrap_err().to_string();
                assert!(error.contains(wanted), "{error}");
            }
            adam.mean = table.shallow_clone();
            assert!(adam.step(&mut table, &rows, &gradient).unwrap_err().to_string().contains("share memory"));
            let mut longer = Tensor::cat(&[&table, &table], 0);
            let error = Adam::new(kind, SPEC, &table).step(&mut longer, &rows, &gradient).unwrap_err().to_string();
            assert!(error.contains("as many values"), "{error}");
        }
    }

    /// A table large enough for several threads, whose rows have moments of all sizes down to 0.
    #[test]
    fn threads_change_no_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(10);
        let (rows, width) = (3000, 900);
        let start: Vec<f32> = (0..rows * width).map(|at| ((at % 977) as f32 / 300.0).powi(9)).collect();
        let start = Tensor::from_slice(&start).view([rows as i64, width as i64]);
        let touched: Vec<i64> = (0..500).map(|_| rng.random_range(0..rows as i64)).collect();
        let gradient = Tensor::ones([500, width as i64], (Kind::Float, Device::Cpu));
        let before = tch::get_num_threads();
        let moved = [1, 2, 3].map(|threads| {
            tch::set_num_threads(threads);
            let mut table = start.copy();
            let mut adam = Adam::new(AdamKind::Dense, SPEC, &table);
            for _ in 0..3 {
                adam.step(&mut table, &Tensor::from_slice(&touched), &gradient).unwrap();
            }
            table
        });
        tch::set_num_threads(before);
        assert!(moved[0] == moved[1] && moved[0] == moved[2]);
        assert_eq!(moved[0].isfinite().all().int64_value(&[]), 1);
        assert!(moved[0] != start);
    }
}
