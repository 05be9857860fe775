-- Which elements of phi are out of balance?
--
-- Needs: treated, propensity
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. imbalance is the mean of weight × the element, in the element's unit: above 0 the propensities are
-- too low where the element is large, below 0 too high; bmse is the sum of the squares. z is the imbalance in standard
-- errors, whatever the unit. The standard error is the larger of the one measured on the treatments that happened and
-- the one had every row been treated with its propensity; the two differ where hardly a row was treated. p_value is
-- the chance that true propensities leave one element so far off, and p_corrected at most that of any of the elements
-- (Bonferroni), however they hang together. The furthest off come first. elements counts all of them and
-- out_of_balance those with a p_corrected below 0.01, shown here or not.
WITH states AS (
  SELECT
    balance_state(treated, propensity, /*phi*/ phi) AS seen,
    -- Weighs a row by 1/√(p(1 − p)): the square is the mean square of its balance weight, were it treated with p.
    balance_state(
      CASE WHEN treated IS NOT NULL THEN 1 END,
      nullif(sqrt(CAST(propensity AS DOUBLE) * (1 - CAST(propensity AS DOUBLE))), 0),
      /*phi*/ phi
    ) AS expected
  FROM audited
),
elements AS (
  SELECT *, unnest(range(1, elements + 1)) AS element, array_length(seen['comoment']) > elements AS is_triangle
  FROM (SELECT *, CAST(array_length(seen['mean']) AS BIGINT) AS elements FROM states) AS sized
),
-- Where the covariances of the elements are kept, the variances are the diagonal of a lower triangle, row by row.
spreads AS (
  SELECT
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
    sqrt(nullif(greatest(
      spread / nullif(n - 1, 0),
      (expected_spread + n_expected * power(expected_mean, 2)) / n
    ), 0) / n) AS std_error
  FROM spreads
),
tested AS (
  SELECT
    *,
    imbalance / std_error AS z,
    CASE WHEN std_error > 0 THEN balance_test_of(named_struct(
      'count', CAST(n AS BIGINT UNSIGNED), 'mean', [imbalance], 'comoment', [n * (n - 1) * power(std_error, 2)]
    ))['p_value'] END AS p_value
  FROM errors
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
  CAST(n AS BIGINT) AS n, imbalance, std_error, z, p_value, p_corrected,
  elements,
  count(*) FILTER (WHERE p_corrected < 0.01) OVER () AS out_of_balance
FROM corrected
ORDER BY abs(z) DESC NULLS LAST, element
LIMIT /*worst*/ 10
