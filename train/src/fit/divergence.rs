//! Training that breaks: which quantity stopped being a finite number, at which step, and why it likely did.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use counterweight::model::{Divergence, Quantity};

/// Steps between two looks at what a GPU has computed: each makes it wait for the host.
const STEPS_APART: usize = 64;

/// The quantities of one step, on the device that trains.
pub(crate) struct StepRecord {
    quantities: Vec<Quantity>,
    values: Tensor,
}

impl StepRecord {
    /// The record of `terms` with their `values`, and of the norm of each model's gradient.
    pub(crate) fn new<'a>(terms: &[&str], values: &Tensor, gradients: impl Iterator<Item = (&'a str, Tensor)>) -> Self {
        let mut quantities: Vec<Quantity> = terms.iter().map(|term| Quantity::Term((*term).to_owned())).collect();
        let mut norms = Vec::new();
        for (model, norm) in gradients {
            quantities.push(Quantity::Gradient(model.to_owned()));
            norms.push(norm);
        }
        Self { quantities, values: Tensor::cat(&[values, &Tensor::stack(&norms, 0)], 0) }
    }
}

/// Means by name.
type Means = BTreeMap<String, f64>;

/// What the steps of an epoch gave so far.
pub(crate) struct StepLog {
    epoch: usize,
    /// Steps whose values are still on the device.
    waiting: Vec<StepRecord>,
    sums: Vec<(Quantity, f64)>,
    steps: usize,
}

impl StepLog {
    /// The log of an epoch that begins.
    pub(crate) fn new(epoch: usize) -> Self {
        Self { epoch, waiting: Vec::new(), sums: Vec::new(), steps: 0 }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// Where this or an earlier step gave a quantity that is not finite.
    pub(crate) fn push(&mut self, record: StepRecord) -> Result<(), Divergence> {
        let apart = if record.values.device() == Device::Cpu { 1 } else { STEPS_APART };
        self.waiting.push(record);
        if self.waiting.len() < apart { Ok(()) } else { self.read() }
    }

    fn read(&mut self) -> Result<(), Divergence> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(first) = waiting.first() else { return Ok(()) };
        if self.sums.is_empty() {
            self.sums = first.quantities.iter().map(|quantity| (quantity.clone(), 0.0)).collect();
        }
        let values: Vec<&Tensor> = waiting.iter().map(|record| &record.values).collect();
        let values = Tensor::stack(&values, 0).to_device(Device::Cpu).to_kind(Kind::Double);
        let mut table = vec![0.0_f64; values.numel()];
        values.copy_data(&mut table, values.numel());
        for step in table.chunks(self.sums.len()) {
            self.steps += 1;
            for ((quantity, sum), value) in self.sums.iter_mut().zip(step) {
                if !value.is_finite() {
                    return Err(Divergence { epoch: self.epoch, step: self.steps, quantity: quantity.clone() });
                }
                *sum += value;
            }
        }
        Ok(())
    }

    /// The mean over the steps of every term, and of every model's gradient norm; none where there was no step.
    ///
    /// # Errors
    /// Where a step gave a quantity that is not finite.
    pub(crate) fn means(mut self) -> Result<Option<(Means, Means)>, Divergence> {
        self.read()?;
        let (mut terms, mut gradients) = (Means::new(), Means::new());
        for (quantity, sum) in self.sums {
            let mean = sum / self.steps as f64;
            match quantity {
                Quantity::Term(name) => terms.insert(name, mean),
                Quantity::Gradient(name) => gradients.insert(name, mean),
            };
        }
        Ok((self.steps > 0).then_some((terms, gradients)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(values: [f64; 2], gradient: [f64; 2]) -> StepRecord {
        let gradient = Tensor::from_slice(&gradient);
        StepRecord::new(
            &["propensity", "total"],
            &Tensor::from_slice(&values),
            [("prediction", gradient.norm())].into_iter(),
        )
    }

    #[test]
    fn means_are_those_of_the_steps() {
        let mut log = StepLog::new(1);
        log.push(record([1.0, 5.0], [3.0, 4.0])).unwrap();
        log.push(record([2.0, 0.0], [0.0, 1.0])).unwrap();
        let (terms, gradients) = log.means().unwrap().unwrap();
        assert_eq!(terms, Means::from([("propensity".into(), 1.5), ("total".into(), 2.5)]));
        assert_eq!(gradients, Means::from([("prediction".into(), 3.0)]));
        assert!(StepLog::new(1).means().unwrap().is_none());
    }

    #[test]
    fn the_first_quantity_that_breaks_is_named_with_a_cause() {
        let broken = |values, gradient| {
            let mut log = StepLog::new(7);
            log.push(record([1.0, 1.0], [1.0, 1.0])).unwrap();
            log.push(record(values, gradient)).unwrap_err()
        };
        let divergence = broken([f64::NAN, f64::NAN], [f64::NAN, 0.0]);
        assert_eq!((divergence.epoch, divergence.step), (7, 2));
        assert_eq!(divergence.quantity, Quantity::Term("propensity".into()));
        assert!(divergence.to_string().contains("train.optimizer.propensity.lr"), "{divergence}");

        let divergence = broken([1.0, f64::INFINITY], [1.0, 1.0]);
        assert_eq!(divergence.quantity, Quantity::Term("total".into()));
        assert!(divergence.to_string().contains("propensity_clip"), "{divergence}");

        let divergence = broken([1.0, 1.0], [f64::NAN, 1.0]);
        assert_eq!(divergence.quantity, Quantity::Gradient("prediction".into()));
        assert!(divergence.to_string().contains("gradient of the prediction model"), "{divergence}");
        assert!(divergence.to_string().contains("stop_gradient"), "{divergence}");
    }
}
