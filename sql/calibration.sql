-- Are the propensities calibrated: of the rows said to be treated with p, is a share of p treated?
--
-- Needs: treated, propensity
--
-- How to read it. Rows are put into bins of about equally many rows by propensity. gap is treated_rate less
-- mean_propensity: positive where the propensities are too low. gap_sd is the gap in standard deviations of what true
-- propensities would show; beyond ±4 is not chance. calibration_error is the mean |gap| over all rows, the same in every
-- row. Bins are cut between cells of a fine grid of log-odds, so that one pass over the table is enough; where many rows
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
    (sum(treated) - sum(expected)) / nullif(sqrt(sum(variance)), 0) AS gap_sd
  FROM ranked
  GROUP BY floor(rank * /*bins*/ 10)
)
SELECT *, sum(abs(gap) * n) OVER () / sum(n) OVER () AS calibration_error
FROM bins
ORDER BY lowest
