-- In which segments do the propensities fail to balance?
--
-- Needs: treated, propensity, segment
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. The columns are those of the balance of the whole table, segment by segment. Raw bmse ranks segments
-- by how small they are: a handful of rows is noise. So the segments whose imbalance cannot be chance (p_value below
-- 0.01, corrected for the number of segments looked at) come first, largest bmse_unbiased on top; the others follow in
-- the same order. segments counts all of them and out_of_balance those beyond chance, shown here or not.
WITH figures AS (
  SELECT
    segment,
    count(balance_weight(treated, propensity)) AS n,
    avg(CAST(treated AS DOUBLE)) AS treated_rate,
    avg(propensity) AS mean_propensity,
    bmse(treated, propensity, /*phi*/ phi) AS bmse,
    bmse_unbiased(treated, propensity, /*phi*/ phi) AS bmse_unbiased,
    bmse_noise_floor(treated, propensity, /*phi*/ phi) AS noise_floor,
    avg(1 / nullif(propensity * (1 - propensity), 0)) / avg(power(balance_weight(treated, propensity), 2)) AS scatter
  FROM audited
  GROUP BY segment
),
noise AS (
  SELECT *, bmse / nullif(greatest(noise_floor, (noise_floor + bmse / n) * scatter), 0) AS times_noise
  FROM figures
),
tested AS (
  SELECT *, least(1, count(*) OVER () * exp(-times_noise / 2)) AS p_value, count(*) OVER () AS segments
  FROM noise
)
SELECT
  /*segment_column*/ 'segment' AS segment_column,
  coalesce(CAST(segment AS VARCHAR), 'NULL') AS segment,
  n, treated_rate, mean_propensity, bmse, bmse_unbiased, noise_floor, times_noise, p_value,
  segments,
  count(*) FILTER (WHERE p_value < 0.01) OVER () AS out_of_balance
FROM tested
ORDER BY coalesce(p_value < 0.01, false) DESC, bmse_unbiased DESC NULLS LAST, n DESC, segment
LIMIT /*worst*/ 10
