-- How well do the propensities predict who is treated?
--
-- Needs: treated, propensity
-- Uses:  true_propensity (known in simulations)
--
-- How to read it. log_loss is the mean cross-entropy of the propensities against the treatments, and perplexity
-- e to that power; constant_log_loss is what the plain treated rate would score, and explained the share of it that the
-- propensities save: below 0 they are worse than a constant. p_value bounds the chance that right ones, of independent rows, look so much
-- worse than the constant that fits best, by Wilks' theorem. A good fit is no proof of balance, which is a question of
-- its own. propensity_variance and mean_inverse_square (the mean of 1/propensity²) tell how far apart and how close to 0
-- the propensities are. propensity_rmse and propensity_bias compare them with the true ones.
WITH figures AS (
  SELECT
    count(log_loss(propensity, CAST(treated AS DOUBLE))) AS n,
    avg(log_loss(propensity, CAST(treated AS DOUBLE))) AS log_loss,
    avg(CAST(treated AS DOUBLE)) AS rate,
    var_samp(propensity) AS propensity_variance,
    avg(1 / power(nullif(propensity, 0), 2)) AS mean_inverse_square,
    sqrt(avg(power(propensity - true_propensity, 2))) AS propensity_rmse,
    avg(propensity - true_propensity) AS propensity_bias
  FROM audited
),
constant AS (
  SELECT *, CASE WHEN rate > 0 AND rate < 1 THEN -rate * ln(rate) - (1 - rate) * ln(1 - rate) END AS constant_log_loss
  FROM figures
)
SELECT
  n, log_loss, exp(log_loss) AS perplexity, constant_log_loss, 1 - log_loss / constant_log_loss AS explained,
  least(1, exp(-n * (log_loss - constant_log_loss))) AS p_value,
  propensity_variance, mean_inverse_square, propensity_rmse, propensity_bias,
  /*level*/ 0.01 AS level
FROM constant
