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

say "1. A biased exposure log, its propensities wrong, its truth known"
run simulate --users 2000 --items 500 --rows 400000 --seed 1 --output "$folder/log/"

say "2. How wrong are they, and where?"
run audit "$job" --set vars.dir="$folder" --audit before

say "3. Co-train propensity and conversion with IPS-V2"
run train "$job" --set vars.dir="$folder"

say "4. Score the log with the new models"
run score "$job" --set vars.dir="$folder"

say "5. Audit again, on rows that training never saw"
run audit "$job" --set vars.dir="$folder" --audit after

say "Before and after"
run sql --file "$(dirname "$0")/../examples/demo.sql"
