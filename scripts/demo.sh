#!/usr/bin/env bash
# The main job on a simulated log whose truth is known: audit, retrain, score, audit again.
#
#   scripts/demo.sh BINARY [FOLDER]
set -euo pipefail

binary=$1
folder=${2:-$(mktemp -d -t counterweight-demo-XXXXXX)}
job=$(dirname "$0")/../examples/demo.toml
export COUNTERWEIGHT_LOG=${COUNTERWEIGHT_LOG:-warn}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    printf '\033[2m$ counterweight %s\033[0m\n' "$*"
    "$binary" "$@"
}

# One row of the results that an audit wrote.
figures() {
    local results=$folder/audit/$1
    cat <<SQL
SELECT '$1' AS audit, b.bmse, b.noise_floor, s.segment AS worst_segment, s.bmse AS worst_segment_bmse,
       e.estimate AS ips_estimate, e.true_error
FROM '$results/balance.parquet' b,
     (SELECT * FROM '$results/segments.parquet' ORDER BY bmse DESC LIMIT 1) s,
     '$results/estimates.parquet' e
WHERE e.estimator = 'ips'
SQL
}

say "1. A biased exposure log, its propensities wrong, its truth known"
run simulate --users 500 --items 200 --rows 400000 --seed 1 --output "$folder/log/"

say "2. How wrong are they, and where?"
run audit "$job" --set vars.dir="$folder" --audit before

say "3. Co-train propensity and conversion with IPS-V2"
run train "$job" --set vars.dir="$folder"

say "4. Score the log with the new models"
run score "$job" --set vars.dir="$folder"

say "5. Audit again, on rows that training never saw"
run audit "$job" --set vars.dir="$folder" --audit after

say "Before and after"
"$binary" sql --command "
SELECT
  audit,
  bmse,
  noise_floor,
  worst_segment,
  worst_segment_bmse,
  ips_estimate,
  true_error,
  100 * abs(ips_estimate - true_error) / true_error AS ips_percent_off
FROM ($(figures before) UNION ALL $(figures after))
ORDER BY audit DESC"
printf '\nEverything is in %s\n' "$folder"
