#!/bin/bash
# What methods learn in worlds that put them to different tests, where the truth is known.
#
#     scripts/worlds.sh BINARY [FOLDER]
#
# Ten logs of 100,000 rows of each world: the plain one, a placebo in which conversion has nothing to do with treatment, one
# in which the treatments of a user go together, and one in which something unseen moves treatment and conversion.
# examples/simulated-worlds.toml trains the methods on each.
set -euo pipefail
binary=$1
folder=${2:-$(mktemp -d)}
examples=$(dirname "$0")/../examples
export COUNTERWEIGHT_LOG=${COUNTERWEIGHT_LOG:-error}

world() {
  for seed in 0 1 2 3 4 5 6 7 8 9; do
    [ -e "$folder/$1/uniform-$seed" ] || "$binary" simulate --seed $seed --users 500 --items 200 --rows 100000 --dim 4 \
      --output "$folder/$1/log-$seed/" --uniform "$folder/$1/uniform-$seed/" --uniform-rows 20000 "${@:2}" >&2
  done
}
world plain
world placebo --placebo
world clustered --user-correlation 0.1
world unseen --unseen 1
"$binary" experiment "$examples/simulated-worlds.toml" --set vars.dir="$(realpath "$folder")" --output "$folder/experiment/"
