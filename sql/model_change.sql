-- Do the propensities balance better than those before the last change of their model?
--
-- Needs: treated, propensity, propensity_before
-- Uses:  phi (1 balances the plain counts), cluster
--
-- How to read it. The two models are compared on the same rows, those that have both propensities. bmse_before and bmse
-- are the imbalances each leaves, chance and all; change is the difference with the chance taken off, below 0 where the
-- change made the balance better. std_error is that of change: the two share their rows and so most of their noise. z is
-- change in such errors, and p_value the chance of one as large where the two balance alike. change is NULL with fewer
-- than two rows, or where phi has more than the 32 elements whose covariances are kept. rows_skipped and null_ are as in
-- the balance of the whole table; null_propensity_before counts the rows that lack nothing else.
WITH checked AS (
  SELECT
    *,
    coalesce(
      skipped_for(treated, propensity, /*phi*/ phi),
      CASE WHEN propensity_before IS NULL THEN 'propensity_before' END
    ) AS lacks
  FROM audited
),
figures AS (
  SELECT
    count(*) FILTER (WHERE lacks IS NULL) AS n,
    count(lacks) AS rows_skipped,
    count(*) FILTER (WHERE lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE lacks = 'phi') AS null_phi,
    count(*) FILTER (WHERE lacks = 'propensity_before') AS null_propensity_before,
    array_length(balance_vector(treated, propensity, /*phi*/ phi)) AS elements
  FROM checked
),
changes AS (
  SELECT bmse_change(/*treatment*/ treated, propensity_before, propensity, /*phi*/ phi) AS change
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
  change['p_value'] AS p_value,
  rows_skipped, null_treated, null_propensity, null_phi, null_propensity_before,
  /*level*/ 0.01 AS level
FROM changes CROSS JOIN figures
