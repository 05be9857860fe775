-- Which rows count?
--
-- Needs: treated, propensity
-- Uses:  phi, cluster
--
-- How to read it. n rows count, of all_rows; share is that of the others, each of which is in one of the columns after it.
-- Of refused ones the values cannot be: invalid_treated is not 0 or 1, invalid_propensity not from 0 to 1, impossible is
-- treated with a propensity of 0 or untreated with one of 1, and invalid_phi is NaN or infinite. Of the rest null_treated
-- lack the treatment, null_cluster one of the clusters, null_propensity the propensity, and null_phi phi or an element of it.
-- positivity shows refused rows, too; every other check leaves them and those without a cluster out, and of the others tells
-- how many it skips.
WITH reasons AS (
  SELECT
    refused_for(treated, propensity, /*phi*/ phi) AS refused,
    skipped_for(/*treatment*/ treated, propensity, /*phi*/ phi) AS lacks
  FROM audited
),
counts AS (
  SELECT
    count(*) FILTER (WHERE refused IS NULL AND lacks IS NULL) AS n,
    count(*) AS all_rows,
    count(refused) AS refused,
    count(*) FILTER (WHERE refused = 'treated') AS invalid_treated,
    count(*) FILTER (WHERE refused = 'propensity') AS invalid_propensity,
    count(*) FILTER (WHERE refused = 'impossible') AS impossible,
    count(*) FILTER (WHERE refused = 'phi') AS invalid_phi,
    count(*) FILTER (WHERE refused IS NULL AND lacks = 'treated') AS null_treated,
    count(*) FILTER (WHERE refused IS NULL AND lacks IN ('cluster', 'second')) AS null_cluster,
    count(*) FILTER (WHERE refused IS NULL AND lacks = 'propensity') AS null_propensity,
    count(*) FILTER (WHERE refused IS NULL AND lacks = 'phi') AS null_phi
  FROM reasons
)
SELECT
  n, all_rows, 1 - n / nullif(CAST(all_rows AS DOUBLE), 0) AS share, refused, invalid_treated, invalid_propensity, impossible,
  invalid_phi, null_treated, null_cluster, null_propensity, null_phi
FROM counts
