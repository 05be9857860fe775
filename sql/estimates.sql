-- What is the error of the predictions over everyone, not only over the treated?
--
-- Needs: treated, propensity, error
-- Uses:  imputed_error (eib, dr, snips_dr and dr_v2 are left out where it is NULL), phi, true_error (known in
--        simulations), cluster
--
-- How to read it. Every row estimates the mean of error over all rows, treated or not; n is how many rows count.
-- naive takes the untreated for free of error; naive_treated is the mean over the treated, right only where they are
-- like the rest. ips and snips weigh the treated by 1/propensity: right where the propensities are. eib trusts the
-- imputed errors instead; dr and snips_dr need only one of the two to be right. ips_v2 and dr_v2 add λ·BMSE, the
-- imbalance of the propensities: they are losses to train on, and far from ips and dr where the propensities cannot be
-- trusted; they have no interval. std_error is what another sample of as many rows would scatter by, lower to upper the
-- interval that holds the mean of the estimate in 95 of 100 samples: it holds for many rows (or clusters of rows, where
-- there are any), and knows nothing of wrong propensities. gap is estimate less true_error. rows_skipped is how many rows the estimate leaves out, for a NULL in a
-- column that it reads: null_treated have no treated, null_error of the others are treated and have no error (no outcome
-- or no prediction, where it is derived from them), and of the rest null_propensity, null_phi and null_imputed_error lack
-- those.
WITH checked AS (
  SELECT
    *,
    CASE WHEN treated IS NULL THEN 'treated' WHEN CAST(treated AS DOUBLE) <> 0 AND error IS NULL THEN 'error' END AS lacks,
    skipped_for(treated, propensity, /*phi*/ phi) AS lacks_too
  FROM audited
),
figures AS (
  SELECT
    count(*) AS all_rows,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'error') AS null_error,
    count(*) FILTER (WHERE lacks IS NULL AND lacks_too = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks IS NULL AND lacks_too = 'phi') AS null_phi,
    count(*) FILTER (WHERE lacks IS NULL AND imputed_error IS NULL) AS null_imputed_error,
    CAST(count(*) FILTER (WHERE lacks IS NULL AND lacks_too IS NULL) AS BIGINT UNSIGNED) AS n_ips_v2,
    CAST(
      count(*) FILTER (WHERE lacks IS NULL AND lacks_too IS NULL AND imputed_error IS NOT NULL) AS BIGINT UNSIGNED
    ) AS n_dr_v2,
    naive_interval(/*treatment*/ treated, error) AS naive,
    naive_treated_interval(/*treatment*/ treated, error) AS naive_treated,
    ips_interval(/*treatment*/ treated, propensity, error) AS ips,
    snips_interval(/*treatment*/ treated, propensity, error) AS snips,
    ips_v2(treated, propensity, error, /*lambda*/ 1.0, /*phi*/ phi) AS ips_v2,
    eib_interval(/*treatment*/ treated, error, imputed_error) AS eib,
    dr_interval(/*treatment*/ treated, propensity, error, imputed_error) AS dr,
    snips_dr_interval(/*treatment*/ treated, propensity, error, imputed_error) AS snips_dr,
    dr_v2(treated, propensity, error, imputed_error, /*lambda*/ 1.0, /*phi*/ phi) AS dr_v2,
    avg(true_error) AS true_error
  FROM checked
),
estimates AS (
  SELECT
    unnest([1, 2, 3, 4, 5, 6, 7, 8, 9]) AS position,
    unnest(['naive', 'naive_treated', 'ips', 'snips', 'ips_v2', 'eib', 'dr', 'snips_dr', 'dr_v2']) AS estimator,
    unnest([
      naive['n'], naive_treated['n'], ips['n'], snips['n'], n_ips_v2, eib['n'], dr['n'], snips_dr['n'],
      n_dr_v2
    ]) AS n,
    unnest([
      naive['estimate'], naive_treated['estimate'], ips['estimate'], snips['estimate'], ips_v2, eib['estimate'],
      dr['estimate'], snips_dr['estimate'], dr_v2
    ]) AS estimate,
    unnest([
      naive['std_error'], naive_treated['std_error'], ips['std_error'], snips['std_error'], NULL, eib['std_error'],
      dr['std_error'], snips_dr['std_error'], NULL
    ]) AS std_error,
    unnest([
      naive['lower'], naive_treated['lower'], ips['lower'], snips['lower'], NULL, eib['lower'], dr['lower'],
      snips_dr['lower'], NULL
    ]) AS lower,
    unnest([
      naive['upper'], naive_treated['upper'], ips['upper'], snips['upper'], NULL, eib['upper'], dr['upper'],
      snips_dr['upper'], NULL
    ]) AS upper,
    true_error,
    all_rows, null_treated, null_error, null_propensity, null_phi, null_imputed_error
  FROM figures
)
SELECT
  estimator, n, estimate, std_error, lower, upper, true_error, estimate - true_error AS gap,
  all_rows - CAST(n AS BIGINT) AS rows_skipped, null_treated, null_error, null_propensity, null_phi, null_imputed_error
FROM estimates
WHERE estimate IS NOT NULL
ORDER BY position
