//! The vectors that a batch of rows adds to a mean, and their sums.

use crate::args::Rows;

/// A vector a row: some leading elements, then `weight · φ` for each weight.
pub(crate) struct Weighted {
    /// One entry a row each.
    pub(crate) leads: Vec<Vec<f64>>,
    /// One entry a row each.
    pub(crate) weights: Vec<Vec<f64>>,
}

impl Weighted {
    /// Vectors without φ.
    pub(crate) fn leads(leads: impl Into<Vec<Vec<f64>>>) -> Self {
        Self { leads: leads.into(), weights: Vec::new() }
    }

    /// `weight · φ` alone.
    pub(crate) fn phi(weights: Vec<f64>) -> Self {
        Self { leads: Vec::new(), weights: vec![weights] }
    }

    /// Elements of a vector.
    pub(super) fn width(&self, rows: &Rows<'_>) -> usize {
        self.leads.len() + self.weights.len() * rows.phi.width()
    }

    /// Hands out the vectors, end to end, a cache-sized run of rows at a time, with the place of the first of the run.
    pub(super) fn for_each_run(&self, rows: &Rows<'_>, mut visit: impl FnMut(usize, &mut [f64])) {
        const ELEMENTS: usize = 2048;
        let width = self.width(rows);
        let run = (ELEMENTS / width).clamp(1, rows.len());
        let mut vectors = vec![0.0; run * width];
        for start in (0..rows.len()).step_by(run) {
            let run = run.min(rows.len() - start);
            let vectors = &mut vectors[..run * width];
            for (at, lead) in self.leads.iter().enumerate() {
                for (vector, &lead) in vectors.chunks_exact_mut(width).zip(&lead[start..]) {
                    vector[at] = lead;
                }
            }
            for (at, weights) in self.weights.iter().enumerate() {
                let weights = &weights[start..][..run];
                let at = self.leads.len() + at * rows.phi.width();
                match rows.selection() {
                    None => rows.phi.weigh(weights, |i| start + i, width, at, vectors),
                    Some(selection) => {
                        let selection = &selection[start..];
                        rows.phi.weigh(weights, |i| selection[i], width, at, vectors);
                    }
                }
            }
            visit(start, vectors);
        }
    }

    /// Hands out the vector of each row, with its place.
    pub(super) fn for_each_vector(&self, rows: &Rows<'_>, mut visit: impl FnMut(usize, &[f64])) {
        let width = self.width(rows);
        self.for_each_run(rows, |start, vectors| {
            (start..).zip(vectors.chunks_exact(width)).for_each(|(row, vector)| visit(row, vector));
        });
    }

    /// Means of the elements, and sums of squared distances to them; `near` is a vector close to the mean.
    pub(super) fn moments(&self, rows: &Rows<'_>, near: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
        let width = self.width(rows);
        let mut block = near.map(Block::new);
        self.for_each_run(rows, |_, vectors| {
            block.get_or_insert_with(|| Block::new(&vectors[..width])).add(vectors);
        });
        match block {
            Some(block) => block.finish(width, rows.len()),
            None => (vec![0.0; width], vec![0.0; width]),
        }
    }
}

const LANES: usize = 8;

/// Sums of `x − near` and `(x − near)²`, kept for several vectors side by side so that every
/// step of the loop is a whole number of lanes.
struct Block {
    near: Vec<[f64; LANES]>,
    sum: Vec<[f64; LANES]>,
    square: Vec<[f64; LANES]>,
}

impl Block {
    fn new(near: &[f64]) -> Self {
        let width = near.len();
        let side_by_side = LANES / gcd(width, LANES);
        let near: Vec<_> = near.repeat(side_by_side).as_chunks().0.to_vec();
        Self { sum: vec![[0.0; LANES]; near.len()], square: vec![[0.0; LANES]; near.len()], near }
    }

    fn add(&mut self, vectors: &[f64]) {
        let stride = self.near.len() * LANES;
        let whole = vectors.len() - vectors.len() % stride;
        let tiles = self.near.iter().zip(&mut self.sum).zip(&mut self.square);
        for (at, ((&near, sum), square)) in tiles.enumerate() {
            let (mut s, mut q) = (*sum, *square);
            for vectors in vectors[..whole].chunks_exact(stride) {
                let tile = &vectors[at * LANES..][..LANES];
                for k in 0..LANES {
                    let distance = tile[k] - near[k];
                    s[k] += distance;
                    q[k] += distance * distance;
                }
            }
            (*sum, *square) = (s, q);
        }
        let near = self.near.as_flattened().iter();
        let sum = self.sum.as_flattened_mut().iter_mut();
        let square = self.square.as_flattened_mut().iter_mut();
        for (((x, near), sum), square) in vectors[whole..].iter().zip(near).zip(sum).zip(square) {
            let distance = x - near;
            *sum += distance;
            *square += distance * distance;
        }
    }

    fn finish(self, width: usize, count: usize) -> (Vec<f64>, Vec<f64>) {
        let count = count as f64;
        let fold = |lanes: &[[f64; LANES]]| {
            let mut total = vec![0.0; width];
            for vector in lanes.as_flattened().chunks_exact(width) {
                total.iter_mut().zip(vector).for_each(|(total, x)| *total += x);
            }
            total
        };
        let (sum, square) = (fold(&self.sum), fold(&self.square));
        let near = self.near.as_flattened();
        let mean = sum.iter().zip(near).map(|(s, near)| near + s / count).collect();
        let at_least_zero = |spread: f64| if spread < 0.0 { 0.0 } else { spread };
        let spread = square.iter().zip(&sum).map(|(q, s)| at_least_zero(q - s * s / count)).collect();
        (mean, spread)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
