-- In which segments do the propensities fail to balance?
--
-- Needs: treated, propensity, segment
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. The columns are those of the balance of the whole table, segment by segment; p_value is that of one
-- segment on its own, and with many segments some are small by chance. q_value takes that into account, by Benjamini
-- and Hochberg: of the segments whose q_value is below 0.01, not one in a hundred is expected to be there by chance,
-- and where no segment is off, that there is one at all has less than that chance. Those come first, largest
-- bmse_unbiased on top, and the others follow in the same order: raw bmse would rank segments by how small they are.
-- segments counts all of them and out_of_balance those with a q_value below 0.01, shown here or not. segment is NULL for
-- the rows that have none, which are a segment, too.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
figures AS (
  SELECT
    segment,
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
  GROUP BY segment
),
noise AS (
  SELECT *, bmse / nullif(greatest(noise_floor, (noise_floor + bmse / n) * scatter), 0) AS times_noise
  FROM figures
),
tested AS (
  SELECT *, exp(-times_noise / 2) AS p_value
  FROM noise
),
ranked AS (
  SELECT *, least(1, p_value * count(p_value) OVER () / count(p_value) OVER (ORDER BY p_value)) AS rate
  FROM tested
),
corrected AS (
  SELECT *, min(rate) OVER (ORDER BY p_value DESC) AS q_value
  FROM ranked
)
SELECT
  /*segment_column*/ 'segment' AS segment_column,
  CAST(segment AS VARCHAR) AS segment,
  n, rows_skipped, null_treated, null_propensity, null_phi, treated_rate, mean_propensity,
  bmse, bmse_unbiased, noise_floor, times_noise, p_value, q_value,
  count(*) OVER () AS segments,
  count(*) FILTER (WHERE q_value < /*significance*/ 0.01) OVER () AS out_of_balance
FROM corrected
ORDER BY coalesce(q_value < /*significance*/ 0.01, false) DESC, bmse_unbiased DESC NULLS LAST, n DESC, segment
LIMIT /*worst*/ 10
