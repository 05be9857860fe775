//! Adam on a CPU: a step reads and writes every value and its moments once.
//!
//! Element by element libtorch would pass over them eight times, and its square root takes many times as long at zeros
//! and subnormal numbers, of which the moments of rarely seen rows are full.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::{BETA, EPSILON};
use crate::error::Torch;
use counterweight::error::{Result, invalid};
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

/// The gradients of one step.
struct Step<'a> {
    /// The rows that have a gradient; a row may come twice.
    rows: Vec<usize>,
    /// One after the other, as long as a row each.
    gradients: &'a [f32],
}

/// A table, its moments, and the gradients summed by row, which are 0 between two steps; `[rows, width]` each.
struct Table<'a> {
    width: usize,
    weights: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    sum: &'a mut [f32],
}

/// Moves every row of a table, given with its moments and sums, by the step of that number, from 1.
///
/// # Errors
/// Where `rows` or `gradient` are not of such a table, and those of [`borrow`].
pub(super) fn step_densely(
    tensors: [&mut Tensor; 4],
    spec: &AdamSpec,
    steps: i32,
    rows: &Tensor,
    gradient: &Tensor,
) -> Result<()> {
    let (width, rows) = check(tensors[0], rows, gradient)?;
    let gradient = gradient.contiguous();
    let ([weights, mean, square, sum], gradients) = borrow(tensors, &gradient)?;
    let mut table = Table::new(width, weights, [mean, square, sum])?;
    let step = Step { rows, gradients };
    table.add(&step);
    table.step_densely(Rate::new(spec, steps), &step.rows);
    Ok(())
}

/// Moves each of `rows` of a table, given with its moments and sums and a count of the steps of every row.
///
/// # Errors
/// As [`step_densely`].
pub(super) fn step_lazily(tensors: [&mut Tensor; 5], spec: &AdamSpec, rows: &Tensor, gradient: &Tensor) -> Result<()> {
    let (width, rows) = check(tensors[0], rows, gradient)?;
    let gradient = gradient.contiguous();
    let ([weights, mean, square, sum, steps], gradients) = borrow(tensors, &gradient)?;
    let mut table = Table::new(width, weights, [mean, square, sum])?;
    let step = Step { rows, gradients };
    table.add(&step);
    table.step_lazily(spec, steps, step.rows);
    Ok(())
}

impl<'a> Table<'a> {
    fn new(width: usize, weights: &'a mut [f32], [mean, square, sum]: [&'a mut [f32]; 3]) -> Result<Self> {
        if [&mean, &square, &sum].iter().any(|values| values.len() != weights.len()) {
            invalid!("an optimiser has as many values as its table");
        }
        Ok(Self { width, weights, mean, square, sum })
    }

    /// Adds the gradient of each row to its sum.
    fn add(&mut self, step: &Step) {
        for (row, gradient) in step.rows.iter().zip(step.gradients.chunks_exact(self.width)) {
            let start = row * self.width;
            for (sum, value) in self.sum[start..start + self.width].iter_mut().zip(gradient) {
                *sum += value;
            }
        }
    }

    /// A step of every row; `rows` have a gradient.
    fn step_densely(self, rate: Rate, rows: &[usize]) {
        let mut touched = vec![false; self.weights.len() / self.width];
        for row in rows {
            touched[*row] = true;
        }
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
    fn step_lazily(self, spec: &AdamSpec, steps: &mut [f32], mut rows: Vec<usize>) {
        rows.sort_unstable();
        rows.dedup();
        for row in rows {
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

/// The width of a table, and its rows that have a gradient.
///
/// # Errors
/// Where `rows` are not indices of its rows, or `gradient` does not have one of its rows for each.
fn check(table: &Tensor, rows: &Tensor, gradient: &Tensor) -> Result<(usize, Vec<usize>)> {
    let size = table.size();
    let &[height, width] = &size[..] else { invalid!("a table has rows and columns, not the shape {size:?}") };
    let rows = Vec::<i64>::try_from(rows).torch()?;
    if gradient.size() != [rows.len() as i64, width] {
        invalid!("the gradient of {} rows of {width} values has the shape {:?}", rows.len(), gradient.size());
    }
    if let Some(row) = rows.iter().find(|row| !(0..height).contains(row)) {
        invalid!("a gradient is of row {row}, and the table has {height}");
    }
    Ok((width as usize, rows.into_iter().map(|row| row as usize).collect()))
}

/// The values of tensors, row after row: of `changed` to change, of `read` to read.
///
/// # Errors
/// Where a tensor is not float32, contiguous and on the CPU, or shares memory with another of them.
fn borrow<'a, const N: usize>(
    changed: [&'a mut Tensor; N],
    read: &'a Tensor,
) -> Result<([&'a mut [f32]; N], &'a [f32])> {
    let mut ranges: Vec<Range<usize>> = Vec::with_capacity(N + 1);
    for tensor in changed.iter().map(|tensor| &**tensor).chain([read]) {
        if !(tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous()) {
            invalid!("a table and its optimiser are float32, contiguous and on the CPU");
        }
        let start = tensor.data_ptr().addr();
        let range = start..start + tensor.numel() * size_of::<f32>();
        if ranges.iter().any(|other| range.start < other.end && other.start < range.end) {
            invalid!("a table, its optimiser and its gradient share memory");
        }
        ranges.push(range);
    }
    // The pointer of a tensor without values is null.
    let is_empty = |tensor: &Tensor| tensor.numel() == 0;
    let changed = changed.map(|tensor| -> &mut [f32] {
        if is_empty(tensor) {
            return &mut [];
        }
        // SAFETY: the tensor is contiguous and on the CPU: `numel` float32 lie from its pointer on, initialised and aligned.
        // They live as long as the tensor, which is borrowed exclusively for the lifetime of the slice. None of the tensors
        // borrowed here has a byte in common with another, as was checked above. libtorch hands out no references to values,
        // and another handle to the same storage is not used meanwhile: on this thread, because only slices are used until
        // the borrow ends; on others, by the rule of every operation that changes a tensor in place.
        unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
    });
    let read: &[f32] = if is_empty(read) {
        &[]
    } else {
        // SAFETY: as above; nothing that is changed shares its memory.
        unsafe { std::slice::from_raw_parts(read.data_ptr().cast(), read.numel()) }
    };
    Ok((changed, read))
}
