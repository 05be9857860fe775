-- How much do a few rows weigh?
--
-- Needs: treated, propensity
--
-- How to read it. Inverse propensity weighting gives a treated row the weight 1/propensity and an untreated one 0, so
-- mean_weight over all n rows is 1 where the propensities are true. effective_sample_size is (Σ weight)² / Σ weight²:
-- the number of equally weighted rows that would be as informative as the treated ones; effective_share is its share of
-- them. largest_share is how much of all weight the heaviest row has. Propensities below 0.01 make weights above 100:
-- bound them with clip_propensity, at the price of bias, or refit the model that gives them.
SELECT
  count(inverse_propensity_weight(treated, propensity)) AS n,
  sum(CAST(treated AS DOUBLE)) AS treated_rows,
  avg(inverse_propensity_weight(treated, propensity)) AS mean_weight,
  max(inverse_propensity_weight(treated, propensity)) AS max_weight,
  max(inverse_propensity_weight(treated, propensity))
    / nullif(sum(inverse_propensity_weight(treated, propensity)), 0) AS largest_share,
  ess(treated, propensity) AS effective_sample_size,
  ess(treated, propensity) / nullif(sum(CAST(treated AS DOUBLE)), 0) AS effective_share,
  min(propensity) AS min_propensity,
  max(propensity) AS max_propensity,
  avg(CASE WHEN propensity < 0.01 THEN 1.0 ELSE 0.0 END) AS share_below_001,
  /*min_effective_share*/ 0.1 AS least_share
FROM audited
