-- Are the propensities calibrated: of the rows said to be treated with p, is a share of p treated?
--
-- Needs: treated, propensity
--
-- How to read it. Rows are put into bins of about equally many rows by propensity. gap is treated_rate less
-- mean_propensity: positive where the propensities are too low. gap_sd is the gap in standard deviations of what true
-- propensities would show; p_value bounds the chance of a gap as large where the propensities are within the tolerance, by
-- Bennett's inequality, which holds however rare treatment is, but takes rows for independent. calibration_error is the mean
-- |gap| over all rows, the same in every row. Bins are cut between cells of a fine grid of log-odds, so that one pass over the table is enough; where many rows
-- share one propensity there are fewer bins.
WITH cells AS (
  SELECT
    floor(16 * log2(propensity / (1 - propensity))) AS cell,
    count(*) AS n,
    min(propensity) AS lowest,
    max(propensity) AS highest,
    sum(propensity) AS expected,
    sum(CAST(treated AS DOUBLE)) AS treated,
    sum(propensity * (1 - propensity)) AS variance
  FROM audited
  WHERE treated IS NOT NULL AND propensity IS NOT NULL
  GROUP BY 1
),
ranked AS (
  SELECT *, (sum(n) OVER (ORDER BY cell) - n / 2.0) / sum(n) OVER () AS rank
  FROM cells
),
bins AS (
  SELECT
    min(lowest) AS lowest,
    max(highest) AS highest,
    sum(n) AS n,
    sum(expected) / sum(n) AS mean_propensity,
    sum(treated) / sum(n) AS treated_rate,
    (sum(treated) - sum(expected)) / sum(n) AS gap,
    (sum(treated) - sum(expected)) / nullif(sqrt(sum(variance)), 0) AS gap_sd,
    sum(variance) + /*tolerance*/ 0.1 * sum(expected) AS scatter,
    greatest(abs(sum(treated) - sum(expected)) - /*tolerance*/ 0.1 * sum(expected), 0) AS beyond
  FROM ranked
  GROUP BY floor(rank * /*bins*/ 10)
)
SELECT
  lowest, highest, n, mean_propensity, treated_rate, gap, gap_sd,
  least(1, 2 * exp(beyond - (scatter + beyond) * ln(1 + beyond / nullif(scatter, 0)))) AS p_value,
  sum(abs(gap) * n) OVER () / sum(n) OVER () AS calibration_error,
  /*level*/ 0.01 AS level
FROM bins
ORDER BY lowest
