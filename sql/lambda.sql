-- Which λ makes IPS-V2 and DR-V2 vary least?
--
-- Needs: treated, propensity, error
-- Uses:  imputed_error (dr_v2 is left out where it is NULL), phi (1 balances the plain counts)
--
-- How to read it. The estimate ips + λ·BMSE varies from one sample of n rows to the next, and least at this lambda, in
-- the unit of the error over that of phi squared; lambda may be negative, where the two rise together. variance_at_0
-- is the variance of plain ips (or dr) and variance_at_opt that at lambda; saved is the share of the former that
-- lambda takes away, the square of the correlation of the estimate and BMSE over samples. It is about variance alone:
-- where the propensities are wrong, BMSE is large, and λ trades bias as well. lambda is NULL with fewer than three
-- rows, or where phi has more than the 62 elements whose covariances are kept. rows_skipped is how many rows do not
-- count, for a NULL in one of the columns that the estimate reads: how many in which, null_ tells, as in the estimates.
WITH checked AS (
  SELECT
    *,
    coalesce(
      skipped_for(treated, propensity, /*phi*/ phi),
      CASE WHEN CAST(treated AS DOUBLE) <> 0 AND error IS NULL THEN 'error' END
    ) AS lacks
  FROM audited
),
figures AS (
  SELECT
    count(*) FILTER (WHERE lacks IS NULL) AS n,
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    count(*) FILTER (WHERE lacks = 'error') AS null_error,
    count(*) FILTER (WHERE lacks IS NULL AND imputed_error IS NULL) AS null_imputed_error,
    array_length(balance_vector(treated, propensity, /*phi*/ phi)) AS elements
  FROM checked
),
optima AS (
  SELECT
    lambda_opt(treated, propensity, error, /*phi*/ phi) AS ips,
    lambda_opt_dr(treated, propensity, error, imputed_error, /*phi*/ phi) AS dr
  FROM audited
  WHERE coalesce((SELECT elements FROM figures), 0) <= /*lambda_elements*/ 62
),
both AS (
  SELECT
    unnest(['ips_v2', 'dr_v2']) AS estimator,
    unnest([n, n - null_imputed_error]) AS n,
    unnest([rows_skipped, rows_skipped + null_imputed_error]) AS rows_skipped,
    null_treated, null_propensity, null_phi, null_error, null_imputed_error,
    elements,
    unnest([ips['lambda'], dr['lambda']]) AS lambda,
    unnest([ips['variance_at_0'], dr['variance_at_0']]) AS variance_at_0,
    unnest([ips['variance_at_opt'], dr['variance_at_opt']]) AS variance_at_opt,
    unnest([ips['correlation'], dr['correlation']]) AS correlation
  FROM optima CROSS JOIN figures
)
SELECT
  estimator, n, elements, lambda, variance_at_0, variance_at_opt,
  1 - variance_at_opt / nullif(variance_at_0, 0) AS saved,
  correlation,
  rows_skipped, null_treated, null_propensity, null_phi, null_error, null_imputed_error
FROM both
WHERE estimator = 'ips_v2' OR n > 0
ORDER BY estimator DESC
