-- In which segments do the propensities fail to balance?
--
-- Needs: treated, propensity, segment
-- Uses:  phi (the constant is always an element), cluster
--
-- How to read it. bmse and what follows are those of the balance of the whole table, segment by segment. imbalance is the
-- standardised imbalance that decides, of the element of that number (0 is the constant). p_value is how likely such
-- imbalances are within the tolerance: the larger of what their intervals say, and of the exact tail for propensities that
-- are too low or too high by the tolerance. With many segments some are small by chance: q_value takes that into account, by
-- Benjamini and Hochberg. Of the segments with a q_value of at most 0.01, not one in a hundred is expected to be within the
-- tolerance, and where all are, that there is one at all has less than that chance. These are 'unbalanced'; 'balanced' are
-- those whose intervals of 90 % lie within the tolerance, and of the others, 'undecided', rows_to_decide says how many rows
-- would decide. The unbalanced ones come first, largest bmse_unbiased on top, and the others follow in the same order: raw
-- bmse would rank segments by how small they are. segments counts all of them; out_of_balance, balanced and undecided count
-- verdicts, shown here or not. segment is NULL for the rows that have none, which are a segment, too.
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
      / avg(power(balance_weight(treated, propensity), 2)) FILTER (WHERE lacks IS NULL) AS scatter,
    imbalance(/*few_groups*/ treated, propensity, /*phi*/ phi) AS arm,
    imbalance(treated, least(1, (1 + /*tolerance*/ 0.1) * propensity), /*phi*/ phi) AS higher,
    imbalance(treated, (1 - least(0.9, /*tolerance*/ 0.1)) * propensity, /*phi*/ phi) AS lower
  FROM checked
  GROUP BY segment
),
-- The exact tail makes up for skewness: Student's law has the degrees of so many groups.
freed AS (
  SELECT
    *,
    array_repeat(
      greatest(1, CAST(coalesce(arm['clusters'], arm['n']) AS DOUBLE) - 1), CAST(array_length(arm['estimate']) AS BIGINT)
    ) AS degrees
  FROM figures
),
-- The intervals, with the exact tail of propensities at either end of what is tolerated.
judged AS (
  SELECT
    *,
    balance_verdict(arm, NULL, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99) AS judged,
    balance_verdict(
      named_struct(
        'n', arm['n'], 'estimate', arm['estimate'], 'std_error', arm['std_error'], 'lower', arm['lower'],
        'upper', arm['upper'], 'degrees', degrees, 'p_value', higher['p_value'], 'clusters', arm['clusters'],
        'largest_share', arm['largest_share']
      ),
      NULL, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99
    ) AS of_higher,
    balance_verdict(
      named_struct(
        'n', arm['n'], 'estimate', arm['estimate'], 'std_error', arm['std_error'], 'lower', arm['lower'],
        'upper', arm['upper'], 'degrees', degrees, 'p_value', lower['p_value'], 'clusters', arm['clusters'],
        'largest_share', arm['largest_share']
      ),
      NULL, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99
    ) AS of_lower
  FROM freed
),
tested AS (
  SELECT
    *,
    bmse / nullif(greatest(noise_floor, (noise_floor + bmse / n) * scatter), 0) AS times_noise,
    greatest(of_higher['p_value'], of_lower['p_value']) AS p_value
  FROM judged
),
ranked AS (
  SELECT *, least(1, p_value * count(p_value) OVER () / count(p_value) OVER (ORDER BY p_value)) AS rate
  FROM tested
),
corrected AS (
  SELECT *, min(rate) OVER (ORDER BY p_value DESC) AS q_value
  FROM ranked
),
decided AS (
  SELECT
    *,
    CASE
      WHEN q_value <= /*level*/ 0.01 THEN 'unbalanced'
      WHEN judged['verdict'] = 'balanced' THEN 'balanced'
      ELSE 'undecided'
    END AS verdict
  FROM corrected
)
SELECT
  /*segment_column*/ 'segment' AS segment_column,
  CAST(segment AS VARCHAR) AS segment,
  n, rows_skipped, null_treated, null_propensity, null_phi, treated_rate, mean_propensity,
  bmse, bmse_unbiased, noise_floor, times_noise,
  CAST(judged['element'] AS BIGINT) - 1 AS element,
  array_element(arm['estimate'], CAST(judged['element'] AS BIGINT)) AS imbalance,
  p_value, q_value, verdict,
  CASE verdict WHEN 'undecided' THEN CAST(judged['rows_to_decide'] AS BIGINT) END AS rows_to_decide,
  count(*) OVER () AS segments,
  count(*) FILTER (WHERE verdict = 'unbalanced') OVER () AS out_of_balance,
  count(*) FILTER (WHERE verdict = 'balanced') OVER () AS balanced,
  count(*) FILTER (WHERE verdict = 'undecided') OVER () AS undecided
FROM decided
ORDER BY verdict = 'unbalanced' DESC, bmse_unbiased DESC NULLS LAST, n DESC, segment
LIMIT /*worst*/ 10
