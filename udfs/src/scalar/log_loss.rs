use datafusion_common::Result;
use datafusion_expr::Expr;

use super::{RowFunction, RowUdf};

scalar! {
    /// The cross-entropy, in nats, of a predicted probability and an outcome: `-ln(prediction)` for outcome 1,
    /// `-ln(1 - prediction)` for outcome 0.
    ///
    /// It is infinite where the prediction is certain and wrong, which the estimators refuse: keep predictions between,
    /// say, 1e-6 and 1 - 1e-6. NULL where the outcome is not known.
    ///
    /// # Details
    /// `−r·ln(q) − (1−r)·ln(1−q)` of prediction `q` and outcome `r`. NULL if an argument is.
    log_loss(prediction: Expr, outcome: Expr), log_loss_udf: RowUdf<LogLoss, 2>
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LogLoss;

impl RowFunction<2> for LogLoss {
    const NAME: &'static str = "log_loss";
    const EXAMPLE: &'static str = "> SELECT log_loss(0.9, true) AS error;
+---------------------+
| error               |
+---------------------+
| 0.10536051565782628 |
+---------------------+";
    const PARAMETERS: [(&'static str, &'static str); 2] = [
        ("prediction", "The predicted probability, from 0 to 1."),
        ("outcome", "The observed outcome: a boolean or a number from 0 to 1; NULL where it is not known."),
    ];

    fn value([prediction, outcome]: [f64; 2]) -> Result<f64> {
        for (place, value) in [prediction, outcome].into_iter().enumerate() {
            if !(0.0..=1.0).contains(&value) {
                return Err(Self::error(place, value, "it must be from 0 to 1"));
            }
        }
        let surprise = |share: f64, probability: f64| match share {
            0.0 => 0.0,
            _ => -share * probability.ln(),
        };
        Ok(surprise(outcome, prediction) + surprise(1.0 - outcome, 1.0 - prediction))
    }
}
