#!/bin/bash
# What each estimate of the ideal loss is worth, and what each method learns, where the truth is known.
#
#     scripts/semi_synthetic.sh BINARY [FOLDER]
#
# First: a simulated log, of which 400,000 rows train DR; its predictions and imputed errors are then held fixed, and the
# other rows dealt into 800 logs of 2,000 rows. The ideal loss of a log is the mean squared error that its predictions would
# have were all rows treated, as the true probabilities say. Printed are the mean, standard deviation and root mean square,
# over the logs, of the difference between each estimate and that, in percent of its mean, with propensities that are true,
# learned from the 400,000 rows by likelihood, and those of an imagined system that are wrong in known ways; λ_opt, the
# least-squares slope over the logs; and what regularizers come to.
#
# Second: every method trained on ten logs of 100,000 rows each, and compared with the true probabilities over all of them.
set -euo pipefail
binary=$1
folder=${2:-$(mktemp -d)}
examples=$(dirname "$0")/../examples
export COUNTERWEIGHT_LOG=${COUNTERWEIGHT_LOG:-error}
train=400000
rows=2000
sql() { "$binary" sql "$@"; }

if [ ! -e "$folder/scored/dealt.parquet" ]; then
  "$binary" simulate --seed 11 --users 1000 --items 400 --rows 2000000 --dim 4 --output "$folder/world/" >&2
  mkdir -p "$folder/dealt"
  sql --output "$folder/dealt/dealt.parquet" -c "
    SELECT row_number() OVER (ORDER BY md5(concat_ws(',', user_id, item_id, device, position, day))) AS place,
      user_id, item_id, treated, outcome, phi, propensity AS stated_propensity, true_propensity, true_conversion
    FROM '$folder/world/'"
  cat > "$folder/dealt.toml" <<TOML
name = "dealt"
seed = 1
[tables]
dealt = { url = "$folder/dealt/" }
[columns]
user = "user_id"
item = "item_id"
treated = "treated"
outcome = "outcome"
[train]
output = "$folder/model/"
[train.data]
train = "SELECT * FROM dealt WHERE place <= 0.9 * $train"
validation = "SELECT * FROM dealt WHERE place > 0.9 * $train AND place <= $train"
[train.model]
dim = 8
[train.loss]
method = "dr"
[train.optimizer]
epochs = 12
batch_size = 4096
prediction = { lr = 3e-3, weight_decay = 1e-4 }
propensity = { lr = 1e-2, weight_decay = 1e-5 }
imputation = { lr = 3e-3, weight_decay = 1e-4 }
[train.evaluation]
metric = "log_loss"
[score]
table = "dealt"
output = "$folder/scored/"
TOML
  "$binary" train "$folder/dealt.toml" >&2
  "$binary" score "$folder/dealt.toml" >&2
fi

propensities="true_propensity propensity stated_propensity"
for p in $propensities; do
  sql --output "$folder/$p.parquet" -c "
    SELECT
      avg(prediction * prediction - 2 * prediction * true_conversion + true_conversion) AS ideal,
      naive_treated(treated, e) AS naive_treated,
      eib(treated, e, imputed_error) AS eib,
      ips(treated, $p, e) AS ips,
      snips(treated, $p, e) AS snips,
      dr(treated, $p, e, imputed_error) AS dr,
      avg(coalesce(o * e * (1 + 2 * (1 / $p - 1)), 0)) AS rd_ips,
      avg(imputed_error + coalesce(
        o * (e - imputed_error) * (1 + CASE WHEN e >= imputed_error THEN 2 ELSE 0.5 END * (1 / $p - 1)), 0)) AS rd_dr,
      bmse(treated, $p, phi) AS bmse,
      bmse_unbiased(treated, $p, phi) AS bmse_unbiased,
      sv($p) AS sv,
      mis($p) AS mis,
      ips_variance(treated, $p, e) AS variance,
      lambda_opt(treated, $p, e, phi)['lambda'] AS lambda_ips,
      lambda_opt_dr(treated, $p, e, imputed_error, phi)['lambda'] AS lambda_dr
    FROM (SELECT *, CAST(treated AS INT) AS o, squared_error(prediction, outcome) AS e FROM '$folder/scored/')
    WHERE place > $train
    GROUP BY place % ((2000000 - $train) / $rows)"
done

# For an expression over a log's figures: its bias, deviation and root mean square error, in percent of the ideal loss.
figures() {
  local query=""
  for p in $propensities; do
    query+="${query:+ UNION ALL }SELECT '$p' AS p, avg(off) AS bias, stddev(off) AS sd, sqrt(avg(off * off)) AS rmse FROM (
      SELECT 100 * ($1 - ideal) / avg(ideal) OVER () AS off FROM '$folder/$p.parquet')"
  done
  sql --format tsv -c "$query" | awk -v name="$2" 'NR > 1 { row[$1] = sprintf("%+.2f, %.2f, %.2f", $2, $3, $4) }
    END { printf "| %s | %s | %s | %s |\n", name, row["true_propensity"], row["propensity"], row["stated_propensity"] }'
}

echo "| estimate: bias, SD, RMSE in % of the ideal loss | true p | learned p | wrong p |"
echo "|---|---|---|---|"
figures naive_treated "naive_treated, the mean over treated rows: MF"
figures eib "EIB"
figures ips "IPS: IPS, Multi-IPS, ESCM2-IPS"
figures snips "SNIPS: SNIPS, StableDR"
figures dr "DR: DR, MRDR, Multi-DR, ESCM2-DR"
figures rd_ips "RD-IPS, Γ = 2"
figures rd_dr "RD-DR, Γ = 2"
for estimate in ips dr; do
  name=${estimate^^}
  figures "$estimate + 0.01 * bmse" "$name-V2, λ = 0.01"
  figures "$estimate + greatest(lambda_$estimate, 0) * bmse" "$name-V2, λ_opt of the log itself, not negative"
  figures "$estimate + lambda_$estimate * bmse" "$name-V2, λ_opt of the log itself"
  figures "$estimate - (covar_samp($estimate - ideal, bmse) OVER ()) / (var_samp(bmse) OVER ()) * bmse" "$name-V2, λ_opt over the logs"
done

echo
echo "| over the logs | true p | learned p | wrong p |"
echo "|---|---|---|---|"
over() {
  local row="| $2 |"
  for p in $propensities; do
    row+=" $(sql --format tsv -c "SELECT $1 FROM '$folder/$p.parquet'" | tail -n 1 | awk '{ printf "%.3g", $1 }') |"
  done
  echo "$row"
}
for estimate in ips dr; do
  over "-covar_samp($estimate - ideal, bmse) / var_samp(bmse)" "λ_opt of ${estimate^^}"
  over "corr($estimate - ideal, bmse)" "ρ of ${estimate^^} and BMSE"
done
over "avg(bmse)" "BMSE"
over "avg(bmse_unbiased)" "BMSE without its noise floor"
over "avg(sv)" "SV"
over "avg(mis)" "MIS"
over "avg(variance)" "estimated variance of IPS"
echo

for seed in 0 1 2 3 4 5 6 7 8 9; do
  [ -e "$folder/uniform-$seed" ] || "$binary" simulate --seed $seed --users 500 --items 200 --rows 100000 --dim 4 \
    --output "$folder/log-$seed/" --uniform "$folder/uniform-$seed/" --uniform-rows 20000 >&2
done
"$binary" experiment "$examples/simulated-experiment.toml" --set vars.dir="$(realpath "$folder")" --output "$folder/experiment/"
