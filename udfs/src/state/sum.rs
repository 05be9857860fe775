//! Sums that do not lose what is small beside what is large.

/// A sum that carries its rounding error along (Knuth's two-sum).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) high: f64,
    pub(super) low: f64,
}

impl Sum {
    pub(super) const ZERO: Self = Self { high: 0.0, low: 0.0 };

    pub(super) fn add(&mut self, term: f64) {
        let high = self.high + term;
        let rounded = high - self.high;
        self.low += (self.high - (high - rounded)) + (term - rounded);
        self.high = high;
    }

    /// Adds or subtracts many terms, whose order does not matter.
    pub(super) fn add_all(&mut self, terms: &[f64], sign: f64) {
        const LANES: usize = 8;
        let mut lanes = [Self::ZERO; LANES];
        let (pieces, rest) = terms.as_chunks::<LANES>();
        for piece in pieces {
            lanes.iter_mut().zip(piece).for_each(|(lane, &term)| lane.add(term));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, &term)| lane.add(term));
        for lane in lanes {
            self.add(sign * lane.high);
            self.low += sign * lane.low;
        }
    }

    /// Adds `a · b`, with the rounding error of the product.
    pub(super) fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.low += a.mul_add(b, -product);
    }

    pub(super) fn add_sum(&mut self, other: Self) {
        self.add(other.high);
        self.low += other.low;
    }

    pub(super) fn scaled(self, factor: f64) -> Self {
        let mut scaled = Self::ZERO;
        scaled.add_product(self.high, factor);
        scaled.low += self.low * factor;
        scaled
    }

    pub(super) fn squared(self) -> Self {
        let mut square = self.scaled(self.high);
        square.low += self.high * self.low;
        square
    }

    pub(super) fn value(self) -> f64 {
        self.high + self.low
    }
}
