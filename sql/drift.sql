-- Has the balance changed between the last seven days and the seven before?
--
-- Needs: treated, propensity, day
-- Uses:  phi (1 balances the plain counts), cluster
--
-- How to read it. The last seven days that have rows are compared with the seven before, element of phi by element.
-- before and recent are the imbalances (the mean of weight × the element), change is recent less before, std_error how
-- far from 0 true propensities leave it, and z the change in such errors. p_value is the chance of such a change where
-- the propensities are as good as they were, and p_corrected at most that of any of the elements (Bonferroni). The
-- largest changes come first. elements counts all of them and changed those with a p_corrected below 0.01, shown here or
-- not. Imbalance that is there in both weeks alike is no change: balance and elements find it. rows_skipped and null_ are
-- as in the balance of the whole table, of these days.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
days AS (
  SELECT
    day,
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    balance_state(/*treatment*/ treated, propensity, /*phi*/ phi) AS state
  FROM checked
  WHERE day IS NOT NULL
  GROUP BY day
),
aged AS (
  SELECT *, row_number() OVER (ORDER BY day DESC) AS age
  FROM days
  WHERE state IS NOT NULL
),
weeks AS (
  SELECT
    balance_merge(state) FILTER (WHERE age > 7) AS before,
    balance_merge(state) FILTER (WHERE age <= 7) AS recent,
    sum(rows_skipped) AS rows_skipped,
    sum(null_treated) AS null_treated,
    sum(null_propensity) AS null_propensity,
    sum(null_phi) AS null_phi
  FROM aged
  WHERE age <= 14
),
tests AS (
  SELECT
    balance_vector_of(before) AS before,
    balance_vector_of(recent) AS recent,
    balance_drift(before, recent) AS drift,
    rows_skipped, null_treated, null_propensity, null_phi
  FROM weeks
  WHERE before IS NOT NULL
),
elements AS (
  SELECT
    unnest(range(1, CAST(array_length(recent) AS BIGINT) + 1)) AS element,
    unnest(before) AS before,
    unnest(recent) AS recent,
    unnest(drift['change']) AS change,
    unnest(drift['std_errors']) AS std_error,
    unnest(drift['p_values']) AS p_value,
    CAST(array_length(recent) AS BIGINT) AS elements,
    CAST(drift['n_before'] AS BIGINT) AS n_before,
    CAST(drift['n_after'] AS BIGINT) AS n,
    rows_skipped, null_treated, null_propensity, null_phi
  FROM tests
),
corrected AS (
  SELECT *, change / nullif(std_error, 0) AS z, least(1, p_value * count(p_value) OVER ()) AS p_corrected
  FROM elements
)
SELECT
  element,
  CASE
    WHEN array_length(/*phi_columns*/ ['phi']) = elements THEN array_element(/*phi_columns*/ ['phi'], element)
    ELSE concat(array_element(/*phi_columns*/ ['phi'], 1), '[', element, ']')
  END AS name,
  n_before, n, before, recent, change, std_error, z, p_value, p_corrected,
  elements,
  count(*) FILTER (WHERE p_corrected < /*level*/ 0.01) OVER () AS changed,
  rows_skipped, null_treated, null_propensity, null_phi
FROM corrected
ORDER BY abs(z) DESC NULLS LAST, element
LIMIT /*worst*/ 10
