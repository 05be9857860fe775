-- Which elements of phi are out of balance?
--
-- Needs: treated, propensity
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. imbalance is the mean of weight × the element, in the element's unit: above 0 the propensities are
-- too low where the element is large, below 0 too high; bmse is the sum of the squares. std_error is how far from 0
-- true propensities leave it, z the imbalance in such errors, whatever the unit. p_value is the chance that true
-- propensities leave one element so far off, and p_corrected at most that of any of the elements (Bonferroni), however
-- they hang together. The furthest off come first. elements counts all of them and out_of_balance those with a
-- p_corrected below 0.01, shown here or not. An element that is 0 in every row has no p_value: untested counts those.
-- rows_skipped and null_ are as in the balance of the whole table.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
tests AS (
  SELECT
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    balance_vector(treated, propensity, /*phi*/ phi) AS imbalances,
    balance_test(treated, propensity, /*phi*/ phi) AS test
  FROM checked
),
elements AS (
  SELECT
    unnest(range(1, CAST(array_length(imbalances) AS BIGINT) + 1)) AS element,
    unnest(imbalances) AS imbalance,
    unnest(test['std_errors']) AS std_error,
    unnest(test['p_values']) AS p_value,
    CAST(array_length(imbalances) AS BIGINT) AS elements,
    CAST(test['n'] AS BIGINT) AS n,
    rows_skipped, null_treated, null_propensity, null_phi
  FROM tests
),
corrected AS (
  SELECT *, imbalance / nullif(std_error, 0) AS z, least(1, p_value * count(p_value) OVER ()) AS p_corrected
  FROM elements
)
SELECT
  element,
  CASE
    WHEN array_length(/*phi_columns*/ ['phi']) = elements THEN array_element(/*phi_columns*/ ['phi'], element)
    ELSE concat(array_element(/*phi_columns*/ ['phi'], 1), '[', element, ']')
  END AS name,
  n, imbalance, std_error, z, p_value, p_corrected,
  elements,
  count(*) FILTER (WHERE p_corrected < /*significance*/ 0.01) OVER () AS out_of_balance,
  elements - count(p_value) OVER () AS untested,
  rows_skipped, null_treated, null_propensity, null_phi
FROM corrected
ORDER BY abs(z) DESC NULLS LAST, element
LIMIT /*worst*/ 10
