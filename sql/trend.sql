-- How has the balance moved, day by day?
--
-- Needs: treated, propensity, day
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. The columns are those of the balance of the whole table, day by day. q_value is p_value corrected
-- for the number of days, as Benjamini and Hochberg do: where the propensities are true on every day, the chance that
-- one of the days has a q_value below 0.01 is less than that. week_ tells the same of the day and the six before it
-- that have rows: a small lasting fault shows there first. days counts all of them, out_of_balance those with a
-- q_value below 0.01, and weeks_out_of_balance the days with such a week_q_value, shown here or not. The last days
-- come last. rows_skipped and null_ are as in the balance of the whole table; null_day counts the rows that have no
-- day, and are on none of these.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
days AS (
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
    sum(power(balance_weight(treated, propensity), 2)) FILTER (WHERE lacks IS NULL) AS seen
  FROM checked
  GROUP BY day
),
dated AS (
  SELECT *, coalesce(sum(all_rows) FILTER (WHERE day IS NULL) OVER (), 0) AS null_day
  FROM days
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
noise AS (
  SELECT
    *,
    test['bmse'] / nullif(greatest(
      test['noise_floor'], (test['noise_floor'] + test['bmse'] / test['n']) * expected / seen
    ), 0) AS times_noise,
    week['bmse'] / nullif(greatest(
      week['noise_floor'], (week['noise_floor'] + week['bmse'] / week['n']) * week_scatter
    ), 0) AS week_times_noise
  FROM weeks
),
tested AS (
  SELECT *, exp(-times_noise / 2) AS p_value, exp(-week_times_noise / 2) AS week_p_value
  FROM noise
),
ranked AS (
  SELECT
    *,
    least(1, p_value * count(p_value) OVER () / count(p_value) OVER (ORDER BY p_value)) AS rate,
    least(1, week_p_value * count(week_p_value) OVER () / count(week_p_value) OVER (ORDER BY week_p_value)) AS week_rate
  FROM tested
),
corrected AS (
  SELECT
    *,
    min(rate) OVER (ORDER BY p_value DESC) AS q_value,
    min(week_rate) OVER (ORDER BY week_p_value DESC) AS week_q_value,
    row_number() OVER (ORDER BY day DESC) AS age
  FROM ranked
),
counted AS (
  SELECT
    *,
    count(*) OVER () AS days,
    count(*) FILTER (WHERE q_value < /*significance*/ 0.01) OVER () AS out_of_balance,
    count(*) FILTER (WHERE week_q_value < /*significance*/ 0.01) OVER () AS weeks_out_of_balance
  FROM corrected
)
SELECT
  CAST(day AS VARCHAR) AS day,
  CAST(coalesce(test['n'], 0) AS BIGINT) AS n,
  rows_skipped, null_treated, null_propensity, null_phi, null_day, treated_rate, mean_propensity,
  test['bmse'] AS bmse, test['unbiased'] AS bmse_unbiased, test['noise_floor'] AS noise_floor, times_noise, p_value,
  q_value,
  week['bmse'] AS week_bmse, week['unbiased'] AS week_bmse_unbiased, week_times_noise, week_p_value, week_q_value,
  days, out_of_balance, weeks_out_of_balance
FROM counted
WHERE age <= /*days*/ 30
ORDER BY age DESC
