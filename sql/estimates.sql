-- What is the error of the predictions over everyone, not only over the treated?
--
-- Needs: treated, propensity, error
-- Uses:  imputed_error (eib, dr and dr_v2 are left out where it is NULL), phi, true_error (known in simulations)
--
-- How to read it. Every row estimates the mean of error over all rows, treated or not; n is how many rows count.
-- naive takes the untreated for free of error; naive_treated is the mean over the treated, right only where they are
-- like the rest. ips and snips weigh the treated by 1/propensity: right where the propensities are. eib trusts the
-- imputed errors instead; dr needs only one of the two to be right. ips_v2 and dr_v2 add λ·BMSE, the imbalance of the
-- propensities: they are losses to train on, and far from ips and dr where the propensities cannot be trusted. gap is
-- estimate less true_error.
WITH figures AS (
  SELECT
    count(*) FILTER (WHERE CAST(treated AS DOUBLE) = 0 OR error IS NOT NULL) AS n,
    count(*) FILTER (WHERE (CAST(treated AS DOUBLE) = 0 OR error IS NOT NULL) AND imputed_error IS NOT NULL) AS n_imputed,
    naive(treated, error) AS naive,
    naive_treated(treated, error) AS naive_treated,
    ips(treated, propensity, error) AS ips,
    snips(treated, propensity, error) AS snips,
    ips_v2(treated, propensity, error, /*lambda*/ 1.0, /*phi*/ phi) AS ips_v2,
    eib(treated, error, imputed_error) AS eib,
    dr(treated, propensity, error, imputed_error) AS dr,
    dr_v2(treated, propensity, error, imputed_error, /*lambda*/ 1.0, /*phi*/ phi) AS dr_v2,
    avg(true_error) AS true_error
  FROM audited
),
estimates AS (
  SELECT
    unnest([1, 2, 3, 4, 5, 6, 7, 8]) AS position,
    unnest(['naive', 'naive_treated', 'ips', 'snips', 'ips_v2', 'eib', 'dr', 'dr_v2']) AS estimator,
    unnest([n, n, n, n, n, n_imputed, n_imputed, n_imputed]) AS n,
    unnest([naive, naive_treated, ips, snips, ips_v2, eib, dr, dr_v2]) AS estimate,
    true_error
  FROM figures
)
SELECT estimator, n, estimate, true_error, estimate - true_error AS gap
FROM estimates
WHERE estimate IS NOT NULL
ORDER BY position
