//! Adam on a CPU: a step reads and writes every value and its moments once.
//!
//! Element by element libtorch would pass over them eight times, and its square root takes many times as long at zeros
//! and subnormal numbers, of which the moments of rarely seen rows are full.

use tch::{Device, Kind, Tensor};

use super::{BETA, EPSILON};
use counterweight::job::AdamSpec;

/// Values below which a further thread costs more than it gives.
const VALUES_PER_THREAD: usize = 1 << 20;

/// What a step does to a row, `steps` of them after the start.
#[derive(Clone, Copy)]
struct Rate {
    weight_decay: f32,
    /// lr / (1 − β₁ᵗ)
    scale: f32,
    /// 1 / √(1 − β₂ᵗ)
    deviation_scale: f32,
}

impl Rate {
    fn new(spec: &AdamSpec, steps: i32) -> Self {
        Self {
            weight_decay: spec.weight_decay as f32,
            scale: (spec.lr / (1.0 - BETA.0.powi(steps))) as f32,
            deviation_scale: (1.0 / (1.0 - BETA.1.powi(steps)).sqrt()) as f32,
        }
    }

    /// Moves values of one row; the slices are equally long.
    fn apply(self, weights: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32]) {
        let count = weights.len();
        let (mean, square, gradient) = (&mut mean[..count], &mut square[..count], &gradient[..count]);
        for at in 0..count {
            let slope = gradient[at] + self.weight_decay * weights[at];
            mean[at] += (1.0 - BETA.0) as f32 * (slope - mean[at]);
            square[at] += (1.0 - BETA.1) as f32 * (slope * slope - square[at]);
            let deviation = square[at].sqrt() * self.deviation_scale + EPSILON as f32;
            weights[at] -= self.scale * mean[at] / deviation;
        }
    }
}

/// A table, its moments, and the gradients summed by row, which are 0 between two steps; `[rows, width]` each.
pub(super) struct Table<'a> {
    width: usize,
    weights: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    sum: &'a mut [f32],
}

impl<'a> Table<'a> {
    pub(super) fn new(
        weights: &'a mut Tensor,
        mean: &'a mut Tensor,
        square: &'a mut Tensor,
        sum: &'a mut Tensor,
    ) -> Self {
        let width = weights.size()[1] as usize;
        Self {
            width,
            weights: values_mut(weights),
            mean: values_mut(mean),
            square: values_mut(square),
            sum: values_mut(sum),
        }
    }

    /// Adds the gradient of each of `rows` to its sum.
    fn add(&mut self, rows: &[i64], gradient: &Tensor) {
        let gradient = gradient.contiguous();
        for (row, gradient) in rows.iter().zip(values(&gradient).chunks_exact(self.width)) {
            let start = *row as usize * self.width;
            for (sum, value) in self.sum[start..start + self.width].iter_mut().zip(gradient) {
                *sum += value;
            }
        }
    }

    /// The step of that number, from 1, of every row.
    pub(super) fn step_densely(mut self, spec: &AdamSpec, steps: i32, rows: &Tensor, gradient: &Tensor) {
        let rows = indices(rows);
        self.add(&rows, gradient);
        let mut touched = vec![false; self.weights.len() / self.width];
        for row in rows {
            touched[row as usize] = true;
        }
        let rate = Rate::new(spec, steps);
        let threads = (self.weights.len() / VALUES_PER_THREAD).clamp(1, tch::get_num_threads().max(1) as usize);
        let rows = touched.len().div_ceil(threads);
        let size = rows * self.width;
        let parts = self.weights.chunks_mut(size).zip(self.mean.chunks_mut(size)).zip(self.square.chunks_mut(size));
        let parts = parts.zip(self.sum.chunks_mut(size)).zip(touched.chunks(rows));
        let mut parts = parts.map(|((((weights, mean), square), sum), touched)| {
            let part = Table { width: self.width, weights, mean, square, sum };
            move || part.apply(rate, touched)
        });
        std::thread::scope(|scope| {
            let here = parts.next();
            for part in parts {
                scope.spawn(part);
            }
            if let Some(part) = here {
                part();
            }
        });
    }

    fn apply(self, rate: Rate, touched: &[bool]) {
        let none = vec![0.0; self.width];
        let rows = self.weights.chunks_exact_mut(self.width).zip(self.mean.chunks_exact_mut(self.width));
        let rows = rows.zip(self.square.chunks_exact_mut(self.width)).zip(self.sum.chunks_exact_mut(self.width));
        for ((((weights, mean), square), sum), touched) in rows.zip(touched) {
            if *touched {
                rate.apply(weights, mean, square, sum);
                sum.fill(0.0);
            } else {
                rate.apply(weights, mean, square, &none);
            }
        }
    }

    /// A step of each of `rows`; `steps` counts those of every row.
    pub(super) fn step_lazily(mut self, spec: &AdamSpec, steps: &mut Tensor, rows: &Tensor, gradient: &Tensor) {
        let mut rows = indices(rows);
        self.add(&rows, gradient);
        rows.sort_unstable();
        rows.dedup();
        let steps = values_mut(steps);
        for row in rows {
            let row = row as usize;
            steps[row] += 1.0;
            let values = row * self.width..(row + 1) * self.width;
            let sum = &mut self.sum[values.clone()];
            Rate::new(spec, steps[row] as i32).apply(
                &mut self.weights[values.clone()],
                &mut self.mean[values.clone()],
                &mut self.square[values],
                sum,
            );
            sum.fill(0.0);
        }
    }
}

fn indices(rows: &Tensor) -> Vec<i64> {
    Vec::try_from(rows).expect("rows are a vector of int64")
}

fn assert_plain(tensor: &Tensor) {
    let plain = tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous();
    assert!(plain, "a table is float32, contiguous and on the CPU");
}

/// The values of a tensor, row after row.
fn values(tensor: &Tensor) -> &[f32] {
    assert_plain(tensor);
    // SAFETY: it holds that many float32 one after the other, and lives as long as the borrow.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// The values of a tensor, row after row, to change.
fn values_mut(tensor: &mut Tensor) -> &mut [f32] {
    assert_plain(tensor);
    // SAFETY: as in `values`; no other tensor of this module's callers shares the storage while this one is borrowed.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}
