-- Has the balance changed between the last seven days and the seven before?
--
-- Needs: treated, propensity, day
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. The last seven days that have rows are compared with the seven before, element of phi by element.
-- before and recent are the imbalances (the mean of weight × the element), change is recent less before, and z the
-- change in standard errors. The standard error is that of the difference of two means, each with the larger of the
-- error that is measured and the one had every row been treated with its propensity. p_value is the chance of such a
-- change where the propensities are as good as they were, and p_corrected at most that of any of the elements
-- (Bonferroni). The largest changes come first. elements counts all of them and changed those with a p_corrected below
-- 0.01, shown here or not. Imbalance that is there in both weeks alike is no change: balance and elements find it.
WITH days AS (
  SELECT
    day,
    balance_state(treated, propensity, /*phi*/ phi) AS seen,
    -- Weighs a row by 1/√(p(1 − p)): the square is the mean square of its balance weight, were it treated with p.
    balance_state(
      CASE WHEN treated IS NOT NULL THEN 1 END,
      nullif(sqrt(CAST(propensity AS DOUBLE) * (1 - CAST(propensity AS DOUBLE))), 0),
      /*phi*/ phi
    ) AS expected
  FROM audited
  WHERE day IS NOT NULL
  GROUP BY day
),
aged AS (
  SELECT *, row_number() OVER (ORDER BY day DESC) AS age
  FROM days
  WHERE seen IS NOT NULL
),
weeks AS (
  SELECT
    age > 7 AS is_before,
    balance_merge(seen) AS seen,
    balance_merge(expected) AS expected
  FROM aged
  WHERE age <= 14
  GROUP BY 1
),
elements AS (
  SELECT *, unnest(range(1, elements + 1)) AS element, array_length(seen['comoment']) > elements AS is_triangle
  FROM (SELECT *, CAST(array_length(seen['mean']) AS BIGINT) AS elements FROM weeks) AS sized
),
-- Where the covariances of the elements are kept, the variances are the diagonal of a lower triangle, row by row.
spreads AS (
  SELECT
    is_before,
    element,
    elements,
    CAST(seen['count'] AS DOUBLE) AS n,
    CAST(expected['count'] AS DOUBLE) AS n_expected,
    array_element(seen['mean'], element) AS imbalance,
    array_element(expected['mean'], element) AS expected_mean,
    array_element(seen['comoment'], diagonal) AS spread,
    array_element(expected['comoment'], diagonal) AS expected_spread
  FROM (SELECT *, CASE WHEN is_triangle THEN element * (element + 1) / 2 ELSE element END AS diagonal FROM elements)
    AS placed
),
errors AS (
  SELECT
    *,
    nullif(greatest(
      spread / nullif(n - 1, 0),
      (expected_spread + n_expected * power(expected_mean, 2)) / n
    ), 0) / n AS variance
  FROM spreads
),
changes AS (
  SELECT
    recent.element,
    recent.elements,
    before.n AS n_before,
    recent.n AS n,
    before.imbalance AS before,
    recent.imbalance AS recent,
    recent.imbalance - before.imbalance AS change,
    sqrt(recent.variance + before.variance) AS std_error,
    least(recent.n, before.n) AS fewest
  FROM (SELECT * FROM errors WHERE NOT is_before) AS recent
  JOIN (SELECT * FROM errors WHERE is_before) AS before ON recent.element = before.element
),
tested AS (
  SELECT
    *,
    change / std_error AS z,
    CASE WHEN std_error > 0 THEN balance_test_of(named_struct(
      'count', CAST(fewest AS BIGINT UNSIGNED),
      'mean', [change],
      'comoment', [fewest * (fewest - 1) * power(std_error, 2)]
    ))['p_value'] END AS p_value
  FROM changes
),
corrected AS (
  SELECT *, least(1, p_value * count(p_value) OVER ()) AS p_corrected
  FROM tested
)
SELECT
  element,
  CASE
    WHEN array_length(/*phi_columns*/ ['phi']) = elements THEN array_element(/*phi_columns*/ ['phi'], element)
    ELSE concat(array_element(/*phi_columns*/ ['phi'], 1), '[', element, ']')
  END AS name,
  CAST(n_before AS BIGINT) AS n_before, CAST(n AS BIGINT) AS n, before, recent, change, std_error, z, p_value,
  p_corrected,
  elements,
  count(*) FILTER (WHERE p_corrected < 0.01) OVER () AS changed
FROM corrected
ORDER BY abs(z) DESC NULLS LAST, element
LIMIT /*worst*/ 10
