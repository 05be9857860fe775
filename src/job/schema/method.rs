//! The list of training methods: what a job file, the guide and the crate that trains know of each.
//!
//! A method is an entry of [`training_methods!`](crate::training_methods) and a file of the same name in
//! `train/src/loss/methods/`, which holds its losses. Adding one touches nothing else.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table as Toml, Value};

use super::LossSpec;
use crate::error::{Error, Result};

/// Hands the list of training methods to the macro `$consumer`.
///
/// An entry has the documentation of the method, the name of its file, that of its variant of
/// [`Method`], its name in job files, and then:
///
/// - `estimate`: the estimate of the ideal loss, as an [`EstimateFormula`];
/// - `has_propensity`: whether p̂ occurs in the estimate or in L_e;
/// - `imputation`: L_e, if an imputation model is trained by it;
/// - `stabilization`: what else trains the propensity model, if anything;
/// - `reference`: the paper;
/// - `defaults`: what `[train.loss]` holds unless a job or its preset says otherwise. A key that is absent has the same
///   default with every method.
#[macro_export]
macro_rules! training_methods {
    ($consumer:ident) => {
        $consumer! {
            /// Σ o·e / Σ o: the models are fitted to what is seen, without a propensity (Koren et al., *Computer* 2009; "MF" in
            /// the tables of Li et al.). It trains them as Σ o·e / n does, of which it is a multiple.
            naive Naive "naive" {
                estimate: EstimateFormula::Ratio("Σ o·e / Σ o"),
                has_propensity: false,
                imputation: None,
                stabilization: None,
                reference: "Koren et al., *Computer* 2009",
                defaults: {},
            }

            /// mean(o·e/p̂) (Schnabel et al., ICML 2016).
            ips Ips "ips" {
                estimate: EstimateFormula::Mean("mean(o·e/p̂)"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Schnabel et al., ICML 2016",
                defaults: { stop_gradient = true },
            }

            /// Σ(o·e/p̂) / Σ(o/p̂) (Swaminathan and Joachims, NeurIPS 2015).
            snips Snips "snips" {
                estimate: EstimateFormula::Ratio("Σ(o·e/p̂) / Σ(o/p̂)"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Swaminathan and Joachims, NeurIPS 2015",
                defaults: { stop_gradient = true },
            }

            /// mean(o·e + (1 − o)·ê), with L_e = mean(o·(ê − e)²) (Steck, KDD 2010). No propensity in it.
            eib Eib "eib" {
                estimate: EstimateFormula::Mean("mean(o·e + (1−o)·ê)"),
                has_propensity: false,
                imputation: Some("L_e = mean(o·(ê−e)²)"),
                stabilization: None,
                reference: "Steck, KDD 2010",
                defaults: { imputed_error = "pseudo-label", stop_imputation_gradient = true },
            }

            /// mean(ê + o·(e − ê)/p̂), each model with a loss of its own: DR-JL (Wang et al., ICML 2019). There the models take
            /// turns; here each step moves them all, from where they were before it.
            dr Dr "dr" {
                estimate: EstimateFormula::Mean("mean(ê + o·(e−ê)/p̂)"),
                has_propensity: true,
                imputation: Some("L_e = mean(o·(ê−e)²/p̂)"),
                stabilization: None,
                reference: "Wang et al., ICML 2019 (DR-JL)",
                defaults: { imputed_error = "pseudo-label", stop_gradient = true, stop_imputation_gradient = true },
            }

            /// `dr` whose L_e = mean(o·(1 − p̂)/p̂²·(ê − e)²) is the variance of the estimate (Guo et al., SIGIR 2021).
            mrdr Mrdr "mrdr" {
                estimate: EstimateFormula::Mean("as `dr`"),
                has_propensity: true,
                imputation: Some("L_e = mean(o·(1−p̂)/p̂²·(ê−e)²)"),
                stabilization: None,
                reference: "Guo et al., SIGIR 2021",
                defaults: { imputed_error = "pseudo-label", stop_gradient = true, stop_imputation_gradient = true },
            }

            /// Σ(o·e/p̂) / Σ(o/p̂), which is doubly robust while mean((1 − o/p̂)(ê − mean ê)) = 0: the square of that mean, the
            /// stabilisation, trains the propensities (Li et al., ICLR 2023).
            stable_dr StableDr "stable-dr" {
                estimate: EstimateFormula::Ratio("as `snips`"),
                has_propensity: true,
                imputation: Some("L_e of `dr`"),
                stabilization: Some("η·mean((1−o/p̂)(ê−mean ê))²"),
                reference: "Li et al., ICLR 2023",
                defaults: { imputed_error = "pseudo-label", stop_gradient = true, stop_imputation_gradient = true },
            }

            /// max over w of mean(o·e·w), 1 + (1/p̂ − 1)/Γ ≤ w ≤ 1 + (1/p̂ − 1)·Γ: the worst that a hidden confounder can do that
            /// moves the odds of treatment by a factor of at most Γ (Ding et al., KDD 2022).
            rd_ips RdIps "rd-ips" {
                estimate: EstimateFormula::Mean("max over w of mean(o·e·w)"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Ding et al., KDD 2022",
                defaults: { stop_gradient = true },
            }

            /// max over w of mean(ê + o·(e − ê)·w), and L_e = max over w of mean(o·(ê − e)²·w), with the bounds of `rd-ips`
            /// (Ding et al., KDD 2022).
            rd_dr RdDr "rd-dr" {
                estimate: EstimateFormula::Mean("max over w of mean(ê + o·(e−ê)·w)"),
                has_propensity: true,
                imputation: Some("L_e = max over w of mean(o·(ê−e)²·w)"),
                stabilization: None,
                reference: "Ding et al., KDD 2022",
                defaults: { imputed_error = "pseudo-label", stop_gradient = true, stop_imputation_gradient = true },
            }

            /// No estimate: the click-and-convert loss alone trains the prediction (Ma et al., SIGIR 2018).
            esmm Esmm "esmm" {
                estimate: EstimateFormula::None,
                has_propensity: false,
                imputation: None,
                stabilization: None,
                reference: "Ma et al., SIGIR 2018",
                defaults: { ctcvr_weight = 1.0 },
            }

            /// `ips` whose estimate trains the propensities too: Multi-IPW (Zhang et al., WWW 2020).
            multi_ips MultiIps "multi-ips" {
                estimate: EstimateFormula::Mean("as `ips`"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Zhang et al., WWW 2020",
                defaults: {},
            }

            /// `dr` whose estimate and L_e train all three models (Zhang et al., WWW 2020).
            multi_dr MultiDr "multi-dr" {
                estimate: EstimateFormula::Mean("as `dr`"),
                has_propensity: true,
                imputation: Some("L_e of `dr`"),
                stabilization: None,
                reference: "Zhang et al., WWW 2020",
                defaults: { imputed_error = "pseudo-label" },
            }

            /// `ips` + α·click-and-convert loss (Wang et al., SIGIR 2022).
            escm2_ips Escm2Ips "escm2-ips" {
                estimate: EstimateFormula::Mean("as `ips`"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Wang et al., SIGIR 2022",
                defaults: { ctcvr_weight = 1.0, stop_gradient = true },
            }

            /// `dr` + α·click-and-convert loss, its estimate and L_e training prediction and imputation (Wang et al., SIGIR 2022).
            escm2_dr Escm2Dr "escm2-dr" {
                estimate: EstimateFormula::Mean("as `dr`"),
                has_propensity: true,
                imputation: Some("L_e of `dr`"),
                stabilization: None,
                reference: "Wang et al., SIGIR 2022",
                defaults: { ctcvr_weight = 1.0, imputed_error = "pseudo-label", stop_gradient = true },
            }

            /// IPS + λ·BMSE (Li et al., ICML 2023).
            ips_v2 IpsV2 "ips-v2" {
                estimate: EstimateFormula::Mean("as `ips`"),
                has_propensity: true,
                imputation: None,
                stabilization: None,
                reference: "Li et al., ICML 2023",
                defaults: { lambda = 1.0 },
            }

            /// DR + λ·BMSE (Li et al., ICML 2023).
            dr_v2 DrV2 "dr-v2" {
                estimate: EstimateFormula::Mean("as `dr`"),
                has_propensity: true,
                imputation: Some("L_e of `dr`"),
                stabilization: None,
                reference: "Li et al., ICML 2023",
                defaults: { lambda = 1.0 },
            }
        }
    };
}

/// The estimate of the ideal loss that a method minimises, as a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstimateFormula {
    /// A mean over all pairs of what each gives.
    Mean(&'static str),
    /// A ratio of two such means.
    Ratio(&'static str),
    /// None: other losses train the prediction.
    None,
}

/// What is known of a method without training it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodInfo {
    /// Its name in job files.
    pub name: &'static str,
    /// What it minimises in place of the ideal loss.
    pub estimate: EstimateFormula,
    /// Whether p̂ occurs in the estimate or in L_e.
    pub has_propensity: bool,
    /// L_e, where it has an imputation model.
    pub imputation: Option<&'static str>,
    /// The term that trains the propensity model for the sake of the estimate, where there is one.
    pub stabilization: Option<&'static str>,
    /// The paper.
    pub reference: &'static str,
}

macro_rules! define_methods {
    ($(
        $(#[$documentation:meta])*
        $file:ident $variant:ident $name:tt {
            estimate: $estimate:expr,
            has_propensity: $has_propensity:expr,
            imputation: $imputation:expr,
            stabilization: $stabilization:expr,
            reference: $reference:expr,
            defaults: { $($key:ident = $value:literal),* },
        }
    )*) => {
        /// What is minimised, by the name that the literature gives it.
        ///
        /// Every method has a propensity model, which L_p trains, so that `score` gives propensities whatever the method. The
        /// formulas are those of the estimate of the ideal loss; where ê occurs an imputation model is trained by L_e, the mean of
        /// o·(ê − e)²/p̂ unless said otherwise.
        ///
        /// Whose gradient trains what is decided by `stop_gradient` and `stop_imputation_gradient`; where a job says nothing of
        /// them, of `ctcvr_weight`, `lambda` or `imputed_error`, the method decides.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum Method {
            $($(#[$documentation])* #[serde(rename = $name)] $variant,)*
        }

        impl Method {
            /// Every method.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What is known of it.
            pub const fn info(self) -> MethodInfo {
                match self {
                    $(Self::$variant => MethodInfo {
                        name: $name,
                        estimate: $estimate,
                        has_propensity: $has_propensity,
                        imputation: $imputation,
                        stabilization: $stabilization,
                        reference: $reference,
                    },)*
                }
            }

            /// What `[train.loss]` holds where neither the job nor its preset says otherwise.
            pub(in crate::job) fn defaults(self) -> Toml {
                let defaults: Vec<(&str, Value)> = match self {
                    $(Self::$variant => vec![$((stringify!($key), $value.into())),*],)*
                };
                defaults.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }
        }
    };
}

training_methods!(define_methods);

impl Method {
    /// The method of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.info().name == name)
    }

    /// Whether it has an imputation model.
    pub const fn imputes(self) -> bool {
        self.info().imputation.is_some()
    }

    /// Whether its estimate is a mean over all pairs of what each gives; otherwise it is a ratio of two such means, or
    /// there is none.
    pub const fn estimates_by_mean(self) -> bool {
        matches!(self.info().estimate, EstimateFormula::Mean(_))
    }

    /// The loss of the method, everything else by default.
    fn loss(self) -> Result<LossSpec> {
        let mut loss = self.defaults();
        loss.insert("method".to_owned(), self.info().name.into());
        loss.try_into().map_err(|error| Error::Invalid(format!("{}: {error}", self.info().name)))
    }
}

/// The page of the training methods: what each minimises, whose gradient trains what, and its defaults.
///
/// # Errors
/// Where the defaults of a method are not valid.
pub fn methods_markdown() -> Result<String> {
    let mut page = METHODS_HEAD.to_owned();
    // The methods whose terms train the same models.
    let mut trained: Vec<(_, Vec<String>)> = Vec::new();
    let mut defaults = String::new();
    for method in Method::ALL {
        let (info, loss) = (method.info(), method.loss()?);
        let name = format!("`{}`", info.name);
        let estimate = match info.estimate {
            EstimateFormula::Mean(formula) | EstimateFormula::Ratio(formula) => formula,
            EstimateFormula::None => "none",
        };
        let ctcvr = (loss.ctcvr_weight > 0.0).then_some("α·CTCVR");
        let balance = (!loss.lambda.is_zero()).then_some("λ·BMSE");
        let beside: Vec<&str> = [info.imputation, info.stabilization, ctcvr, balance].into_iter().flatten().collect();
        let _ = writeln!(page, "| {name} | {estimate} | {} | {} |", beside.join("; "), info.reference);

        let trains = trains(info, &loss);
        match trained.iter_mut().find(|(known, _)| *known == trains) {
            Some((_, names)) => names.push(name.clone()),
            None => trained.push((trains, vec![name.clone()])),
        }
        let entailed: Vec<String> = method.defaults().iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
        let _ = writeln!(defaults, "| {name} | {} |", entailed.join(", "));
    }
    page.push_str(TRAINED_HEAD);
    for (trains, names) in trained {
        let _ = writeln!(page, "| {} | {} |", names.join(", "), trains.join(" | "));
    }
    page.push_str(DEFAULTS_HEAD);
    page.push_str(&defaults);
    page.push_str(PAPERS_TABLE);
    Ok(page)
}

/// The models that the estimate, L_e and the click-and-convert loss train.
fn trains(info: MethodInfo, loss: &LossSpec) -> [String; 3] {
    let by_propensity = info.has_propensity && !loss.stop_gradient;
    let jointly = !loss.stop_imputation_gradient;
    let list = |present: bool, propensity: bool, prediction: bool, imputation: bool| {
        let models = [(propensity, "propensity"), (prediction, "prediction"), (imputation, "imputation")];
        let names: Vec<&str> = models.into_iter().filter(|(trained, _)| present && *trained).map(|(_, n)| n).collect();
        names.join(", ")
    };
    let imputes = info.imputation.is_some();
    [
        list(info.estimate != EstimateFormula::None, by_propensity, true, imputes && jointly),
        list(imputes, by_propensity, jointly, true),
        list(loss.ctcvr_weight > 0.0, true, true, false),
    ]
}

const METHODS_HEAD: &str = "# Training methods

Generated by `counterweight schema methods`. The symbols are those of the [guide](guide.md#methods).

A method is an estimate of the ideal loss, the mean of e over the whole population, and what is trained beside it. L_p
always trains the propensity model.

| `method` | estimate | beside L_p | reference |
|---|---|---|---|
";

const PAPERS_TABLE: &str = "
## Rows of the paper's table 1 that are other methods

In the authors' code of Li et al., ICML 2023, three names of table 1 stand for losses that are not those of the papers they
cite, and a fourth is tuned otherwise. The methods above are the published ones: figures of these rows are not to be
expected of them.

| row of table 1 | as published, and here | in the authors' code |
|---|---|---|
| Multi-IPS, Multi-DR | a treated pair weighs 1/p̂; L_p trains the propensity model | it weighs p̂, and there is no L_p |
| ESCM2-DR | L_e is over treated pairs, weighed by 1/p̂ | L_e is over untreated pairs, too, as if their outcome were 0 |
| ESCM2-IPS | | their IPS-V2 without BMSE (γ = 0), at dim 64 and patience 20, where IPS-V2 has 256 and 60: the gap between the two mixes BMSE with tuning |
";

const TRAINED_HEAD: &str = "
## Whose gradient trains what

Unless `stop_gradient` or `stop_imputation_gradient` says otherwise:

| method | the estimate trains | L_e trains | CTCVR trains |
|---|---|---|---|
";

const DEFAULTS_HEAD: &str = "
## Defaults

What `[train.loss]` holds unless the job or its preset sets it. Any key may be set with any method; keys that are not
listed have the same [default](job-reference.md) with every method.

| method | defaults |
|---|---|
";
