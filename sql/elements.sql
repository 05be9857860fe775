-- Which elements of phi are out of balance?
--
-- Needs: treated, propensity
-- Uses:  phi (the constant is always an element), cluster
--
-- How to read it. imbalance is the standardised imbalance of the weighted treated rows, in standard deviations of the
-- element, and for the constant the sum of the weights over the number of rows, less 1: above 0 the propensities are too low
-- where the element is large, below 0 too high. lower to upper is its interval of 95 %; both_arms is the imbalance of treated
-- and untreated rows together, in the same unit, which BMSE squares. exact_p_value bounds the chance that true propensities
-- leave it so far off, and p_value that of an imbalance within the tolerance; both are corrected for the number of elements.
-- verdict is 'unbalanced' where both are at most 0.01, 'balanced' where the interval of 90 % lies within the tolerance, and
-- 'undecided' otherwise: about rows_to_decide rows would decide. Unbalanced ones come first, and then the furthest off.
-- elements counts those that vary, untested those that do not; out_of_balance, balanced and undecided count verdicts,
-- shown here or not. rows_skipped and null_ are as in the balance of the whole table.
WITH checked AS (
  SELECT *, skipped_for(treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
figures AS (
  SELECT
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    imbalance(/*treatment*/ treated, propensity, /*phi*/ phi) AS arm,
    imbalance_both(/*treatment*/ treated, propensity, /*phi*/ phi) AS both_arms
  FROM checked
),
listed AS (
  SELECT
    unnest(range(0, CAST(array_length(arm['estimate']) AS BIGINT))) AS element,
    unnest(arm['estimate']) AS imbalance,
    unnest(arm['std_error']) AS std_error,
    unnest(arm['lower']) AS lower,
    unnest(arm['upper']) AS upper,
    unnest(arm['degrees']) AS degrees,
    unnest(arm['p_value']) AS exact_p_value,
    unnest(both_arms['estimate']) AS both_arms,
    CAST(array_length(arm['estimate']) AS BIGINT) - 1 AS width,
    arm,
    CAST(arm['n'] AS BIGINT) AS n,
    rows_skipped, null_treated, null_propensity, null_phi
  FROM figures
),
varying AS (
  SELECT *, count(*) OVER () AS elements, width + 1 - count(*) OVER () AS untested
  FROM listed
  WHERE imbalance IS NOT NULL
),
-- Of each element by itself, by its interval alone.
alone AS (
  SELECT
    *,
    balance_verdict(
      named_struct(
        'n', arm['n'], 'estimate', [imbalance], 'std_error', [std_error], 'lower', [lower], 'upper', [upper],
        'degrees', [degrees], 'p_value', [0.0], 'clusters', arm['clusters'], 'largest_share', arm['largest_share']
      ),
      NULL, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99
    ) AS alone
  FROM varying
),
corrected AS (
  SELECT *, greatest(least(1, elements * alone['p_value']), exact_p_value) AS p_value
  FROM alone
),
judged AS (
  SELECT
    *,
    CASE
      WHEN p_value <= /*level*/ 0.01 THEN 'unbalanced'
      WHEN alone['verdict'] = 'balanced' THEN 'balanced'
      ELSE 'undecided'
    END AS verdict
  FROM corrected
)
SELECT
  element,
  CASE
    WHEN element = 0 THEN 'constant'
    WHEN array_length(/*phi_columns*/ ['phi']) = width THEN array_element(/*phi_columns*/ ['phi'], element)
    ELSE concat(array_element(/*phi_columns*/ ['phi'], 1), '[', element, ']')
  END AS name,
  n, imbalance, std_error, lower, upper, both_arms, exact_p_value, p_value, verdict,
  CASE verdict WHEN 'undecided' THEN CAST(alone['rows_to_decide'] AS BIGINT) END AS rows_to_decide,
  elements,
  count(*) FILTER (WHERE verdict = 'unbalanced') OVER () AS out_of_balance,
  count(*) FILTER (WHERE verdict = 'balanced') OVER () AS balanced,
  count(*) FILTER (WHERE verdict = 'undecided') OVER () AS undecided,
  untested,
  rows_skipped, null_treated, null_propensity, null_phi
FROM judged
ORDER BY verdict = 'unbalanced' DESC, abs(imbalance) DESC, element
LIMIT /*worst*/ 10
