//! Sums of powers of a vector's distances to a fixed vector near its mean.
//!
//! Of such sums the moments around any other vector follow without a loss of digits, however far from 0 the vectors lie
//! beside how much they vary. That is not so of sums of powers of the vectors themselves.

use nalgebra::{DMatrix, DMatrixView};

use super::packed::{add_products, diagonal, is_full, packed_length, place};

/// Where each sum is. `y` is a vector less its origin; a row has three weights: `m`, `w` and `f`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    width: usize,
}

impl Layout {
    pub(crate) fn new(width: usize) -> Self {
        Self { width }
    }

    fn packed(self) -> usize {
        packed_length(self.width)
    }

    /// Numbers in all.
    pub(crate) fn len(self) -> usize {
        self.fourth() + self.packed()
    }

    /// `Σ m y`; before it `Σ m`, `Σ w` and `Σ f`.
    fn first_m(self) -> usize {
        3
    }

    /// `Σ w y`.
    fn first_w(self) -> usize {
        self.first_m() + self.width
    }

    /// `Σ f y`.
    fn first_f(self) -> usize {
        self.first_w() + self.width
    }

    /// `Σ m yₖyₗ`, packed as [`super::packed`] says.
    fn second_m(self) -> usize {
        self.first_f() + self.width
    }

    /// `Σ f yₖyₗ`, packed.
    fn second_f(self) -> usize {
        self.second_m() + self.packed()
    }

    /// `Σ f yₖ²yₗ`, row by row; the diagonal where packed matrices are their diagonals.
    fn third(self) -> usize {
        self.second_f() + self.packed()
    }

    /// `Σ f yₖ²yₗ²`, packed.
    fn fourth(self) -> usize {
        self.third() + if is_full(self.width) { self.width * self.width } else { self.width }
    }

    /// Adds one row, whose `y` is squared.
    pub(super) fn add_row(self, sums: &mut [f64], y: &mut [f64], [m, w, f]: [f64; 3]) {
        let (weights, rest) = sums.split_at_mut(self.first_m());
        weights.iter_mut().zip([m, w, f]).for_each(|(sum, weight)| *sum += weight);
        let (first, rest) = rest.split_at_mut(3 * self.width);
        for (sums, weight) in first.chunks_exact_mut(self.width).zip([m, w, f]) {
            sums.iter_mut().zip(&*y).for_each(|(sum, y)| *sum += weight * y);
        }
        let (second_m, rest) = rest.split_at_mut(self.packed());
        let (second_f, rest) = rest.split_at_mut(self.packed());
        let (third, fourth) = rest.split_at_mut(self.fourth() - self.third());
        add_products(second_m, y, m);
        add_products(second_f, y, f);
        if is_full(self.width) {
            for (sums, square) in third.chunks_exact_mut(self.width).zip(y.iter().map(|y| f * y * y)) {
                sums.iter_mut().zip(&*y).for_each(|(sum, y)| *sum += square * y);
            }
        } else {
            third.iter_mut().zip(&*y).for_each(|(sum, y)| *sum += f * y * y * y);
        }
        y.iter_mut().for_each(|y| *y *= *y);
        add_products(fourth, y, f);
    }

    /// The sums around an origin that lies `by` further from all vectors, of those around another.
    pub(super) fn shifted(self, sums: &[f64], by: &[f64]) -> Vec<f64> {
        let mut shifted = sums.to_vec();
        if by.iter().all(|by| *by == 0.0) {
            return shifted;
        }
        let old = Sums { layout: self, sums };
        let [m, w, f] = [sums[0], sums[1], sums[2]];
        for (k, &d) in by.iter().enumerate() {
            shifted[self.first_m() + k] += d * m;
            shifted[self.first_w() + k] += d * w;
            shifted[self.first_f() + k] += d * f;
        }
        let mut pair = |k: usize, l: usize| {
            let (d, e, at) = (by[k], by[l], self.place(k, l));
            shifted[self.second_m() + at] += e * old.first_m(k) + d * old.first_m(l) + d * e * m;
            shifted[self.second_f() + at] += e * old.first_f(k) + d * old.first_f(l) + d * e * f;
            shifted[self.fourth() + at] += 2.0 * (e * old.third(k, l) + d * old.third(l, k))
                + e * e * old.second_f(k, k)
                + d * d * old.second_f(l, l)
                + 4.0 * d * e * old.second_f(k, l)
                + 2.0 * d * e * (e * old.first_f(k) + d * old.first_f(l))
                + d * d * e * e * f;
        };
        for k in 0..self.width {
            match is_full(self.width) {
                true => (0..=k).for_each(|l| pair(k, l)),
                false => pair(k, k),
            }
        }
        for k in 0..self.width {
            let square = &mut shifted[self.second_m() + diagonal(self.width, k)];
            if *square < 0.0 {
                *square = 0.0;
            }
        }
        let mut third = |at: usize, k: usize, l: usize| {
            let (d, e) = (by[k], by[l]);
            shifted[self.third() + at] += e * old.second_f(k, k)
                + 2.0 * d * old.second_f(k, l)
                + 2.0 * d * e * old.first_f(k)
                + d * d * old.first_f(l)
                + d * d * e * f;
        };
        for k in 0..self.width {
            match is_full(self.width) {
                true => (0..self.width).for_each(|l| third(k * self.width + l, k, l)),
                false => third(k, k, k),
            }
        }
        shifted
    }

    /// Whether every sum of a power is finite, and no sum of squares is below 0.
    pub(super) fn is_sound(self, sums: &[f64]) -> bool {
        let sums_of = Sums { layout: self, sums };
        let of_element = |k| {
            let (second, fourth) = (sums_of.second_m(k, k), sums_of.fourth(k, k));
            second >= 0.0 && second.is_finite() && fourth.is_finite()
        };
        sums[..self.first_m()].iter().all(|sum| sum.is_finite()) && (0..self.width).all(of_element)
    }

    fn place(self, k: usize, l: usize) -> usize {
        if is_full(self.width) { place(k, l) } else { k }
    }
}

/// Adds the rows of a batch, many at a time, where the whole matrices are kept.
pub(super) struct Batch {
    width: usize,
    second_m: DMatrix<f64>,
    second_f: DMatrix<f64>,
    third: DMatrix<f64>,
    fourth: DMatrix<f64>,
    weighted: Vec<f64>,
}

impl Batch {
    pub(super) fn new(width: usize) -> Self {
        let zeros = || DMatrix::zeros(width, width);
        Self { width, second_m: zeros(), second_f: zeros(), third: zeros(), fourth: zeros(), weighted: Vec::new() }
    }

    /// Adds rows to the sums of weights and first powers, and keeps their products; `y` are their vectors, end to end,
    /// and are squared.
    pub(super) fn add(&mut self, sums: &mut [f64], y: &mut [f64], [m, w, f]: [&[f64]; 3]) {
        let layout = Layout::new(self.width);
        for (weights, (at, first)) in
            [m, w, f].into_iter().zip([(0, layout.first_m()), (1, layout.first_w()), (2, layout.first_f())])
        {
            sums[at] += weights.iter().sum::<f64>();
            let first = &mut sums[first..][..self.width];
            for (y, weight) in y.chunks_exact(self.width).zip(weights) {
                first.iter_mut().zip(y).for_each(|(sum, y)| *sum += weight * y);
            }
        }
        let count = y.len() / self.width;
        let product = |to: &mut DMatrix<f64>, left: &[f64], right: &[f64]| {
            let right = DMatrixView::from_slice(right, self.width, count).transpose();
            to.gemm(1.0, &DMatrixView::from_slice(left, self.width, count), &right, 1.0);
        };
        weigh(&mut self.weighted, y, m, self.width);
        product(&mut self.second_m, &self.weighted, y);
        weigh(&mut self.weighted, y, f, self.width);
        product(&mut self.second_f, &self.weighted, y);
        let plain = y.to_vec();
        y.iter_mut().for_each(|y| *y *= *y);
        weigh(&mut self.weighted, y, f, self.width);
        product(&mut self.third, &self.weighted, &plain);
        product(&mut self.fourth, &self.weighted, y);
    }

    /// Adds the products to the sums.
    pub(super) fn finish(self, sums: &mut [f64]) {
        let layout = Layout::new(self.width);
        for (at, matrix) in
            [(layout.second_m(), &self.second_m), (layout.second_f(), &self.second_f), (layout.fourth(), &self.fourth)]
        {
            for k in 0..self.width {
                (0..=k).for_each(|l| sums[at + place(k, l)] += matrix[(k, l)]);
            }
        }
        for k in 0..self.width {
            (0..self.width).for_each(|l| sums[layout.third() + k * self.width + l] += self.third[(k, l)]);
        }
    }
}

fn weigh(to: &mut Vec<f64>, vectors: &[f64], weights: &[f64], width: usize) {
    to.clear();
    for (vector, weight) in vectors.chunks_exact(width).zip(weights) {
        to.extend(vector.iter().map(|x| weight * x));
    }
}

/// Reads sums by what they are.
#[derive(Debug, Clone, Copy)]
struct Sums<'a> {
    layout: Layout,
    sums: &'a [f64],
}

impl Sums<'_> {
    fn first_m(&self, k: usize) -> f64 {
        self.sums[self.layout.first_m() + k]
    }

    fn first_f(&self, k: usize) -> f64 {
        self.sums[self.layout.first_f() + k]
    }

    fn second_m(&self, k: usize, l: usize) -> f64 {
        self.sums[self.layout.second_m() + self.layout.place(k, l)]
    }

    fn second_f(&self, k: usize, l: usize) -> f64 {
        self.sums[self.layout.second_f() + self.layout.place(k, l)]
    }

    fn third(&self, k: usize, l: usize) -> f64 {
        let width = self.layout.width;
        self.sums[self.layout.third() + if is_full(width) { k * width + l } else { k }]
    }

    fn fourth(&self, k: usize, l: usize) -> f64 {
        self.sums[self.layout.fourth() + self.layout.place(k, l)]
    }
}

/// What is known of the mean of `w·φ` over treatments drawn with the propensities: its value, its covariance V and its
/// fourth cumulants `κ(x, x, y, y)`. They are kept around an origin, so that they lose no digits where φ lies far from 0.
#[derive(Debug, Clone)]
pub(crate) struct MeanMoments {
    layout: Layout,
    origin: Vec<f64>,
    /// With `m` the second moment, `w` the value and `f` the fourth cumulant of a row's part in the mean.
    sums: Vec<f64>,
}

impl MeanMoments {
    /// Of the mean over `count` rows.
    pub(super) fn new(count: u64, origin: &[f64], sums: &[f64]) -> Self {
        let (n, layout) = (count as f64, Layout::new(origin.len()));
        let mut of_mean = Self { layout, origin: origin.to_vec(), sums: sums.to_vec() };
        of_mean.scale([n.powi(-2), 1.0 / n, n.powi(-4)]);
        of_mean
    }

    /// Multiplies by a factor for each kind of weight.
    fn scale(&mut self, factors: [f64; 3]) {
        let layout = self.layout;
        let (m, w, f) = (
            layout.first_m()..layout.first_w(),
            layout.first_w()..layout.first_f(),
            layout.first_f()..layout.second_m(),
        );
        let [of_m, of_w, of_f] = factors;
        self.sums.iter_mut().zip(factors).take(3).for_each(|(sum, factor)| *sum *= factor);
        let rest = [(m, of_m), (w, of_w), (f, of_f)]
            .into_iter()
            .chain([(layout.second_m()..layout.second_f(), of_m), (layout.second_f()..layout.len(), of_f)]);
        for (range, factor) in rest {
            self.sums[range].iter_mut().for_each(|sum| *sum *= factor);
        }
    }

    /// Of this mean less another, of rows that it shares none with.
    pub(crate) fn less(mut self, mut other: Self) -> Self {
        other.scale([1.0, -1.0, 1.0]);
        let by: Vec<f64> = other.origin.iter().zip(&self.origin).map(|(other, own)| other - own).collect();
        let others = self.layout.shifted(&other.sums, &by);
        self.sums.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        self
    }

    /// Elements of φ.
    pub(crate) fn width(&self) -> usize {
        self.layout.width
    }

    /// The mean of element `k` of `w·φ`.
    pub(crate) fn value(&self, k: usize) -> f64 {
        self.sums[1] * self.origin[k] + self.sums[self.layout.first_w() + k]
    }

    /// The same moments around the mean of φ, weighted by `m`.
    pub(crate) fn centred(&self) -> Centred {
        let sums = Sums { layout: self.layout, sums: &self.sums };
        let by: Vec<f64> = (0..self.width()).map(|k| -sums.first_m(k) / self.sums[0]).collect();
        let mut centred = self.layout.shifted(&self.sums, &by);
        for k in 0..self.width() {
            /// What rounding leaves of a square that should be 0.
            const ROUNDING: f64 = 1e-13;
            let at = self.layout.second_m() + diagonal(self.width(), k);
            if centred[at] <= ROUNDING * sums.second_m(k, k) {
                centred[at] = 0.0;
            }
        }
        let centre = self.origin.iter().zip(&by).map(|(origin, by)| origin - by).collect();
        Centred { layout: self.layout, centre, sums: centred }
    }

    /// The fourth cumulants of the mean of `w·φ` itself.
    pub(crate) fn plain_fourth(&self) -> impl Fn(usize, usize) -> f64 + use<> {
        let (layout, plain) = (self.layout, self.layout.shifted(&self.sums, &self.origin));
        move |k, l| Sums { layout, sums: &plain }.fourth(k, l)
    }
}

/// [`MeanMoments`] around the mean of φ: of `w` and of `w·(φ − centre)`, whose covariance is 0.
#[derive(Debug)]
pub(crate) struct Centred {
    layout: Layout,
    pub(crate) centre: Vec<f64>,
    sums: Vec<f64>,
}

impl Centred {
    fn sums(&self) -> Sums<'_> {
        Sums { layout: self.layout, sums: &self.sums }
    }

    /// Variance of the mean of `w`.
    pub(crate) fn weight(&self) -> f64 {
        self.sums[0]
    }

    /// The mean of `w`.
    pub(crate) fn tilt(&self) -> f64 {
        self.sums[1]
    }

    /// The mean of element `k` of `w·(φ − centre)`.
    pub(crate) fn value(&self, k: usize) -> f64 {
        self.sums[self.layout.first_w() + k]
    }

    /// Covariance of elements `k` and `l` of the mean of `w·(φ − centre)`; 0 for an element that is the same in every row.
    pub(crate) fn covariance(&self, k: usize, l: usize) -> f64 {
        self.sums().second_m(k, l)
    }

    /// Fourth cumulant of the mean of `w`.
    pub(crate) fn fourth_of_weight(&self) -> f64 {
        self.sums[2]
    }

    /// Fourth cumulant of the mean of `w` and element `k` of that of `w·(φ − centre)`.
    pub(crate) fn fourth_with_weight(&self, k: usize) -> f64 {
        self.sums().second_f(k, k)
    }

    /// Fourth cumulant of elements `k` and `l` of the mean of `w·(φ − centre)`.
    pub(crate) fn fourth(&self, k: usize, l: usize) -> f64 {
        self.sums().fourth(k, l)
    }
}
