-- Are the propensities balanced, as far as it matters?
--
-- Needs: treated, propensity
-- Uses:  error, imputed_error (the bias of IPS and of DR is left out where they are NULL), phi, cluster
--
-- How to read it. verdict is 'unbalanced' where an effect lies beyond its tolerance with confidence and true
-- propensities do not explain it, 'balanced' where the interval of 90 % of each lies within, and 'undecided' where these
-- rows cannot tell: about rows_to_decide would. imbalance is the standardised imbalance of the weighted treated rows, in
-- standard deviations of the element of phi, and for the constant the sum of the weights over the number of rows, less 1;
-- the furthest off is shown, or the one that decides. bias_ips and bias_dr say how far it moves IPS and DR, as a share of the
-- mean absolute error and as far as the error is linear in phi: 0.04 is 4 % too high. The verdict is by imbalance and
-- bias_ips; both_arms is the imbalance of treated and untreated rows together, which BMSE squares. lower to upper is the
-- interval of 95 %. decides says which effect decided, or keeps from deciding, and p_value how likely such effects are within
-- the tolerance. An estimate is NULL with too few treated rows that have an error, or more than 63 elements of phi.
WITH arms AS (
  SELECT
    imbalance(/*treatment*/ treated, propensity, /*phi*/ phi) AS arm,
    imbalance_both(/*treatment*/ treated, propensity, /*phi*/ phi) AS both_arms
  FROM audited
),
biases AS (
  SELECT
    imbalance_bias(/*treatment*/ treated, propensity, error, /*phi*/ phi) AS ips,
    imbalance_bias_dr(/*treatment*/ treated, propensity, error, imputed_error, /*phi*/ phi) AS dr,
    count(*) FILTER (WHERE CAST(treated AS DOUBLE) <> 0 AND error IS NOT NULL) AS errors
  FROM audited
  WHERE coalesce((SELECT array_length(arm['estimate']) FROM arms), 1) <= 1 + /*bias_elements*/ 63
),
judged AS (
  SELECT
    *,
    CAST(array_length(arm['estimate']) AS BIGINT) AS elements,
    CASE
      WHEN errors > 0 THEN balance_verdict(arm, ips, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99)
      ELSE balance_verdict(arm, NULL, /*tolerance*/ 0.1, /*bias_tolerance*/ 0.05, /*confidence*/ 0.99)
    END AS judged
  FROM arms CROSS JOIN biases
),
effects AS (
  SELECT
    CAST(arm['n'] AS BIGINT) AS n,
    unnest(array_concat(
      array_repeat('imbalance', elements), ['bias_ips', 'bias_dr'], array_repeat('both_arms', elements)
    )) AS effect,
    unnest(array_concat(range(0, elements), [-1, -1], range(0, elements))) AS element,
    unnest(array_concat(arm['estimate'], [ips['estimate'], dr['estimate']], both_arms['estimate'])) AS estimate,
    unnest(array_concat(arm['std_error'], [ips['std_error'], dr['std_error']], both_arms['std_error'])) AS std_error,
    unnest(array_concat(arm['lower'], [ips['lower'], dr['lower']], both_arms['lower'])) AS lower,
    unnest(array_concat(arm['upper'], [ips['upper'], dr['upper']], both_arms['upper'])) AS upper,
    CAST(arm['clusters'] AS BIGINT) AS clusters,
    elements,
    judged['verdict'] AS verdict,
    CASE judged['effect'] WHEN 'bias' THEN 'bias_ips' ELSE judged['effect'] END AS decides,
    CAST(judged['element'] AS BIGINT) - 1 AS decisive,
    judged['p_value'] AS p_value,
    CAST(judged['rows_to_decide'] AS BIGINT) AS rows_to_decide
  FROM judged
  WHERE arm IS NOT NULL
),
ranked AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY effect
      ORDER BY coalesce(effect = decides AND element = decisive, false) DESC, abs(estimate) DESC NULLS LAST, element
    ) AS place
  FROM effects
)
SELECT
  effect,
  CASE
    WHEN element < 0 THEN NULL
    WHEN element = 0 THEN 'constant'
    WHEN array_length(/*phi_columns*/ ['phi']) = elements - 1 THEN array_element(/*phi_columns*/ ['phi'], element)
    ELSE concat(array_element(/*phi_columns*/ ['phi'], 1), '[', element, ']')
  END AS name,
  estimate, std_error, lower, upper,
  CASE WHEN element < 0 THEN /*bias_tolerance*/ 0.05 ELSE /*tolerance*/ 0.1 END AS tolerance,
  n, clusters, verdict, decides, p_value, rows_to_decide
FROM ranked
WHERE place = 1 AND estimate IS NOT NULL
ORDER BY CASE effect WHEN 'imbalance' THEN 1 WHEN 'bias_ips' THEN 2 WHEN 'bias_dr' THEN 3 ELSE 4 END
