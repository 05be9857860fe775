-- How far are the propensities from balancing the treated rows against the untreated ones?
--
-- Needs: treated, propensity
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. A treated row weighs 1/propensity, an untreated one -1/(1 - propensity); bmse is the squared length
-- of the mean of weight × phi. True propensities bring it to 0 on average over endless data, but on n rows they still
-- leave noise_floor. bmse_unbiased has that noise taken off, and may be negative. times_noise is bmse over the noise:
-- around 1 is as good as true propensities get. The noise is the larger of noise_floor, which is measured on the
-- treatments that happened, and what it would be had every row been treated with its propensity; the two differ where
-- hardly a row was treated. Whether it matters, the verdict says: BMSE grows with the unit of phi, and against its noise
-- with the number of rows.
-- rows_skipped count nowhere, for a NULL: in null_treated of them treated is, in null_propensity of the others the
-- propensity, and in null_phi of the rest phi or an element of it.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
figures AS (
  SELECT
    count(*) FILTER (WHERE lacks IS NULL) AS n,
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    avg(CAST(treated AS DOUBLE)) FILTER (WHERE lacks IS NULL) AS treated_rate,
    avg(propensity) FILTER (WHERE lacks IS NULL) AS mean_propensity,
    bmse(treated, propensity, /*phi*/ phi) AS bmse,
    bmse_unbiased(treated, propensity, /*phi*/ phi) AS bmse_unbiased,
    bmse_noise_floor(treated, propensity, /*phi*/ phi) AS noise_floor,
    avg(1 / nullif(propensity * (1 - propensity), 0)) FILTER (WHERE lacks IS NULL)
      / avg(power(balance_weight(treated, propensity), 2)) FILTER (WHERE lacks IS NULL) AS scatter
  FROM checked
),
noise AS (
  SELECT *, bmse / nullif(greatest(noise_floor, (noise_floor + bmse / n) * scatter), 0) AS times_noise
  FROM figures
)
SELECT
  n, rows_skipped, null_treated, null_propensity, null_phi, treated_rate, mean_propensity,
  bmse, bmse_unbiased, noise_floor, times_noise
FROM noise
