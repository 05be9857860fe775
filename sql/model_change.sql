-- Do the propensities balance better than those before the last change of their model?
--
-- Needs: treated, propensity, propensity_before
-- Uses:  phi (1 balances the plain counts)
--
-- How to read it. The two models are compared on the same rows, those that have both propensities. bmse_before and bmse
-- are the imbalances each leaves, chance and all; change is the difference with the chance taken off, below 0 where the
-- change made the balance better. std_error is that of change: the two share their rows and so most of their noise. z is
-- change in such errors, and p_value the chance of one as large where the two balance alike. change is NULL with fewer
-- than two rows, or where phi has more than the 32 elements whose covariances are kept.
WITH figures AS (
  SELECT
    count(balance_weight(treated, propensity) + balance_weight(treated, propensity_before)) AS n,
    array_length(balance_vector(treated, propensity, /*phi*/ phi)) AS elements
  FROM audited
),
changes AS (
  SELECT bmse_change(treated, propensity_before, propensity, /*phi*/ phi) AS change
  FROM audited
  WHERE coalesce((SELECT elements FROM figures), 0) <= /*change_elements*/ 32
)
SELECT
  n, elements,
  change['before'] AS bmse_before,
  change['after'] AS bmse,
  change['change'] AS change,
  change['std_error'] AS std_error,
  change['change'] / nullif(change['std_error'], 0) AS z,
  change['p_value'] AS p_value
FROM changes CROSS JOIN figures
