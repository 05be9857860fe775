use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::Side;
use crate::data::population::Covariates;

/// Users, or items, by what tells them apart in a matrix: how many of their pairs are treated, and their covariates. Those
/// of a class have the same propensities, since the loss is strictly convex and treats them alike.
#[derive(Debug)]
pub(super) struct Classes {
    /// The class of each member.
    of: Vec<i64>,
    /// A member of each class.
    first: Vec<i64>,
    /// How many members each class has.
    sizes: Vec<f64>,
    /// How many treated pairs they have together.
    treated: Vec<f64>,
}

impl Classes {
    /// The classes of those of a `side` of which `treated` lists one for each treated pair.
    pub(super) fn new(treated: &[u32], (count, covariates): Side<'_>) -> Self {
        let mut degrees = vec![0_u64; count];
        treated.iter().for_each(|member| degrees[*member as usize] += 1);
        let width = covariates.map_or(0, |covariates| covariates.names.len());
        let mut known: HashMap<Vec<u64>, usize> = HashMap::new();
        let mut classes = Self { of: Vec::with_capacity(count), first: vec![], sizes: vec![], treated: vec![] };
        let mut key = Vec::with_capacity(1 + width);
        for (member, degree) in degrees.into_iter().enumerate() {
            key.clear();
            key.push(degree);
            let values = covariates.map_or(&[][..], |covariates| &covariates.values[member * width..][..width]);
            key.extend(values.iter().map(|value| value.to_bits()));
            let class = known.get(&key).copied().unwrap_or_else(|| {
                known.insert(key.clone(), classes.first.len());
                classes.first.push(member as i64);
                classes.sizes.push(0.0);
                classes.treated.push(0.0);
                classes.first.len() - 1
            });
            classes.of.push(class as i64);
            classes.sizes[class] += 1.0;
            classes.treated[class] += degree as f64;
        }
        classes
    }

    /// How many classes there are.
    pub(super) fn count(&self) -> i64 {
        self.first.len() as i64
    }

    /// The class of each member.
    pub(super) fn members(&self, device: Device) -> Tensor {
        Tensor::from_slice(&self.of).to_device(device)
    }

    /// How many members each class has.
    pub(super) fn sizes(&self) -> Tensor {
        Tensor::from_slice(&self.sizes)
    }

    /// How many treated pairs the members of each class have together.
    pub(super) fn treated(&self) -> Tensor {
        Tensor::from_slice(&self.treated)
    }

    /// The covariates of each class, which have mean 0 and variance 1 over the members; one that is constant is 0.
    pub(super) fn columns(&self, covariates: Option<&Covariates>) -> Option<Tensor> {
        let covariates = covariates?;
        let values = Tensor::from_slice(&covariates.values).view([-1, covariates.names.len() as i64]);
        let centred = &values - values.mean_dim(0, true, Kind::Double);
        let deviation = centred.square().mean_dim(0, true, Kind::Double).sqrt();
        let scaled = &centred / deviation.where_self(&deviation.gt(0.0), &deviation.ones_like());
        Some(scaled.index_select(0, &Tensor::from_slice(&self.first)))
    }
}
