-- Do the propensities balance the treated rows against the untreated ones?
--
-- Needs: treated, propensity
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. A treated row weighs 1/propensity, an untreated one -1/(1 - propensity); bmse is the squared length
-- of the mean of weight × phi. True propensities bring it to 0 on average over endless data, but on n rows they still
-- leave noise_floor. bmse_unbiased has that noise taken off, and may be negative. times_noise is bmse over the noise:
-- around 1 is as good as true propensities get. The noise is the larger of noise_floor, which is measured on the
-- treatments that happened, and what it would be had every row been treated with its propensity; the two differ where
-- hardly a row was treated. p_value is at most the chance that true propensities look this bad.
-- rows_skipped have a NULL treated or propensity and count nowhere.
WITH figures AS (
  SELECT
    count(balance_weight(treated, propensity)) AS n,
    count(*) - count(balance_weight(treated, propensity)) AS rows_skipped,
    avg(CAST(treated AS DOUBLE)) AS treated_rate,
    avg(propensity) AS mean_propensity,
    bmse(treated, propensity, /*phi*/ phi) AS bmse,
    bmse_unbiased(treated, propensity, /*phi*/ phi) AS bmse_unbiased,
    bmse_noise_floor(treated, propensity, /*phi*/ phi) AS noise_floor,
    avg(1 / nullif(propensity * (1 - propensity), 0)) / avg(power(balance_weight(treated, propensity), 2)) AS scatter
  FROM audited
),
noise AS (
  SELECT *, bmse / nullif(greatest(noise_floor, (noise_floor + bmse / n) * scatter), 0) AS times_noise
  FROM figures
)
SELECT
  n, rows_skipped, treated_rate, mean_propensity, bmse, bmse_unbiased, noise_floor, times_noise,
  exp(-times_noise / 2) AS p_value
FROM noise
