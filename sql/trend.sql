-- How has the balance moved, day by day?
--
-- Needs: treated, propensity, day
-- Uses:  phi (the constant is always an element), cluster
--
-- How to read it. The columns are those of the segments, day by day: imbalance is the standardised imbalance that decides,
-- p_value how likely it is within the tolerance, and q_value that corrected for the number of days, as Benjamini and Hochberg
-- do: where every day is within the tolerance, the chance that one has a q_value of at most 0.01, and is 'unbalanced', is less
-- than that. week_bmse and week_bmse_unbiased are of the day and the six before it that have rows, and week_times_noise is the
-- first over its noise. days counts all of them; out_of_balance, balanced and undecided count verdicts, shown here or not. The
-- last days come last. rows_skipped and null_ are as in the balance of the whole table; null_day counts the rows that have no
-- day, and are on none of these.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
dates AS (
  SELECT
    day,
    count(*) AS all_rows,
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    avg(CAST(treated AS DOUBLE)) FILTER (WHERE lacks IS NULL) AS treated_rate,
    avg(propensity) FILTER (WHERE lacks IS NULL) AS mean_propensity,
    balance_state(treated, propensity, /*phi*/ phi) AS state,
    sum(1.0 / nullif(propensity * (1 - propensity), 0)) FILTER (WHERE lacks IS NULL) AS expected,
    sum(power(balance_weight(treated, propensity), 2)) FILTER (WHERE lacks IS NULL) AS seen,
    imbalance(/*few_groups*/ treated, propensity, /*phi*/ phi) AS arm,
    imbalance(treated, least(1, (1 + /*tolerance*/ 0.1) * propensity), /*phi*/ phi) AS higher,
    imbalance(treated, (1 - least(0.9, /*tolerance*/ 0.1)) * propensity, /*phi*/ phi) AS lower
  FROM checked
  GROUP BY day
),
dated AS (
  SELECT *, coalesce(sum(all_rows) FILTER (WHERE day IS NULL) OVER (), 0) AS null_day
  FROM dates
),
weeks AS (
  SELECT
    *,
    balance_test_of(state) AS test,
    balance_test_of(balance_merge(state) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)) AS week,
    sum(expected) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)
      / sum(seen) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS week_scatter
  FROM dated
  WHERE day IS NOT NULL
),
-- The exact tail makes up for skewness: Student's law has the degrees of so many groups.
freed AS (
  SELECT
    *,
    array_repeat(
      greatest(1, CAST(coalesce(arm['clusters'], arm['n']) AS DOUBLE) - 1), CAST(array_length(arm['estimate']) AS BIGINT)
    ) AS degrees
  FROM weeks
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
    test['bmse'] / nullif(greatest(
      test['noise_floor'], (test['noise_floor'] + test['bmse'] / test['n']) * expected / seen
    ), 0) AS times_noise,
    week['bmse'] / nullif(greatest(
      week['noise_floor'], (week['noise_floor'] + week['bmse'] / week['n']) * week_scatter
    ), 0) AS week_times_noise,
    greatest(of_higher['p_value'], of_lower['p_value']) AS p_value
  FROM judged
),
ranked AS (
  SELECT *, least(1, p_value * count(p_value) OVER () / count(p_value) OVER (ORDER BY p_value)) AS rate
  FROM tested
),
corrected AS (
  SELECT
    *,
    min(rate) OVER (ORDER BY p_value DESC) AS q_value,
    row_number() OVER (ORDER BY day DESC) AS age
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
),
counted AS (
  SELECT
    *,
    count(*) OVER () AS days,
    count(*) FILTER (WHERE verdict = 'unbalanced') OVER () AS out_of_balance,
    count(*) FILTER (WHERE verdict = 'balanced') OVER () AS balanced,
    count(*) FILTER (WHERE verdict = 'undecided') OVER () AS undecided
  FROM decided
)
SELECT
  CAST(day AS VARCHAR) AS day,
  CAST(coalesce(test['n'], 0) AS BIGINT) AS n,
  rows_skipped, null_treated, null_propensity, null_phi, null_day, treated_rate, mean_propensity,
  test['bmse'] AS bmse, test['unbiased'] AS bmse_unbiased, test['noise_floor'] AS noise_floor, times_noise,
  CAST(judged['element'] AS BIGINT) - 1 AS element,
  array_element(arm['estimate'], CAST(judged['element'] AS BIGINT)) AS imbalance,
  p_value, q_value, verdict,
  CASE verdict WHEN 'undecided' THEN CAST(judged['rows_to_decide'] AS BIGINT) END AS rows_to_decide,
  week['bmse'] AS week_bmse, week['unbiased'] AS week_bmse_unbiased, week_times_noise,
  days, out_of_balance, balanced, undecided
FROM counted
WHERE age <= /*days*/ 30
ORDER BY age DESC
