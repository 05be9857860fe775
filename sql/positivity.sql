-- Where are the propensities too close to 0 or 1?
--
-- Needs: treated, propensity
--
-- How to read it. n counts the rows that have a propensity and a treatment; n_null and n_invalid (not 0 or 1, not from
-- 0 to 1, or treated with propensity 0) are the others. p01 to p99 are percentiles of the propensity. share_below and
-- share_above are the shares of the rows beyond the bounds; weight_below is the share of the weight 1/propensity of
-- the treated rows that those below have, and weight_above the share of the weight 1/(1 - propensity) of the untreated
-- rows that those above have. True propensities give a group of rows as much of the weight as of the rows, on average:
-- where a small share of the rows has a large share of the weight, those few decide the estimate. n_certain counts
-- propensities of exactly 0 or 1: weighting cannot stand for the rows that such a propensity rules out. ess is the
-- effective sample size, and design_effect the number of treated rows over it.
WITH figures AS (
  SELECT
    propensity_profile(treated, propensity, /*lower*/ 0.01, /*upper*/ 0.99) AS profile,
    sum(1.0 / nullif(valid, 0)) FILTER (WHERE CAST(treated AS DOUBLE) = 1) AS treated_weight,
    sum(1.0 / nullif(valid, 0)) FILTER (WHERE CAST(treated AS DOUBLE) = 1 AND valid < /*lower*/ 0.01) AS below,
    sum(1.0 / nullif(1 - valid, 0)) FILTER (WHERE CAST(treated AS DOUBLE) = 0) AS untreated_weight,
    sum(1.0 / nullif(1 - valid, 0)) FILTER (WHERE CAST(treated AS DOUBLE) = 0 AND valid > /*upper*/ 0.99)
      AS above,
    count(*) FILTER (WHERE treated IS NOT NULL AND (propensity = 0 OR propensity = 1)) AS n_certain
  FROM (SELECT *, CASE WHEN propensity BETWEEN 0 AND 1 THEN propensity END AS valid FROM audited) AS checked
)
SELECT
  CAST(coalesce(profile['n'], 0) AS BIGINT) AS n,
  profile['n_null'] AS n_null,
  profile['n_invalid'] AS n_invalid,
  n_certain,
  profile['treated_rate'] AS treated_rate,
  profile['mean'] AS mean_propensity,
  profile['min'] AS min_propensity,
  profile['p01'] AS p01,
  profile['p05'] AS p05,
  profile['p25'] AS p25,
  profile['p50'] AS p50,
  profile['p75'] AS p75,
  profile['p95'] AS p95,
  profile['p99'] AS p99,
  profile['max'] AS max_propensity,
  /*lower*/ 0.01 AS lower_bound,
  profile['share_below'] AS share_below,
  coalesce(below, 0) / treated_weight AS weight_below,
  /*upper*/ 0.99 AS upper_bound,
  profile['share_above'] AS share_above,
  coalesce(above, 0) / untreated_weight AS weight_above,
  profile['max_weight'] AS max_weight,
  profile['ess'] AS ess,
  profile['design_effect'] AS design_effect
FROM figures
