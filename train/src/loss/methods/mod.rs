//! Training methods: what each minimises in place of the ideal loss, one file a method.
//!
//! The list of methods is [`counterweight::training_methods!`]; a file has the losses of one of them, its constant
//! `LOSSES`. What may be added to any method (L_p, the click-and-convert loss, a regularizer) is not in it, and whether
//! gradients reach p̂ and ê is up to `stop_gradient` and `stop_imputation_gradient`: [`terms`](super::terms) puts
//! constants in their place.

use tch::Tensor;

use counterweight::job::Method;

/// What the losses of a method are made of: one value for each pair.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// o.
    pub treated: &'a Tensor,
    /// e, known where o = 1.
    pub error: &'a Tensor,
    /// p̂, kept from 0 and 1.
    pub propensity: &'a Tensor,
    /// Γ.
    pub odds_ratio_bound: f64,
}

/// An estimate of the ideal loss, given by `F`.
#[derive(Debug, Clone, Copy)]
pub enum Estimate<F> {
    /// The mean over all pairs of what `F` gives for each.
    Mean(F),
    /// The scalar that `F` gives: a ratio of two such means.
    Ratio(F),
    /// None: other losses train the prediction.
    None,
}

impl<F> Estimate<F> {
    /// The same estimate, given by what `give` makes of `F`.
    pub fn map<T>(self, give: impl FnOnce(F) -> T) -> Estimate<T> {
        match self {
            Self::Mean(f) => Estimate::Mean(give(f)),
            Self::Ratio(f) => Estimate::Ratio(give(f)),
            Self::None => Estimate::None,
        }
    }
}

/// The losses of a method.
#[derive(Debug, Clone, Copy)]
pub enum Losses {
    /// Of a method without an imputation model.
    Plain {
        /// The estimate.
        estimate: Estimate<fn(&Observed) -> Tensor>,
    },
    /// Of a method with one. Each function takes ê of every pair, too.
    Imputing {
        /// The estimate.
        estimate: Estimate<fn(&Observed, &Tensor) -> Tensor>,
        /// What every pair gives to L_e, a mean over all pairs.
        imputation: fn(&Observed, &Tensor) -> Tensor,
        /// A scalar that trains the propensity model for the sake of the estimate.
        stabilization: Option<fn(&Observed, &Tensor) -> Tensor>,
    },
}

impl Losses {
    const fn imputes(&self) -> bool {
        matches!(self, Self::Imputing { .. })
    }

    const fn estimates_by_mean(&self) -> bool {
        matches!(self, Self::Plain { estimate: Estimate::Mean(_) } | Self::Imputing { estimate: Estimate::Mean(_), .. })
    }

    const fn stabilizes(&self) -> bool {
        matches!(self, Self::Imputing { stabilization: Some(_), .. })
    }
}

macro_rules! declare_methods {
    ($($(#[$documentation:meta])* $file:ident $variant:ident $name:tt { $($about:tt)* })*) => {
        $(pub(in crate::loss) mod $file;)*

        /// The losses of `method`.
        pub const fn losses(method: Method) -> &'static Losses {
            match method {
                $(Method::$variant => &$file::LOSSES,)*
            }
        }

        // What the list says of a method is what its file has.
        const _: () = {
            $(
                let (losses, method) = ($file::LOSSES, Method::$variant);
                assert!(losses.imputes() == method.imputes(), concat!($name, ": L_e"));
                assert!(losses.estimates_by_mean() == method.estimates_by_mean(), concat!($name, ": the estimate"));
                assert!(losses.stabilizes() == method.info().stabilization.is_some(), concat!($name, ": stabilization"));
            )*
        };
    };
}

counterweight::training_methods!(declare_methods);
