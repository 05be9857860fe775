#!/usr/bin/env python3
"""Training with IPS-V2 on simulated ratings in the shape of Coat and of Yahoo! R3, against PyTorch.

    scripts/bench_train.py BINARY [--shapes coat yahoo-r3] [--epochs N] [--rounds N] [--scale F] [--folder FOLDER]

Every contender is a process of its own, and runs once a round, in turn, so that whatever else the machine does meets all
of them: the same ratings, blocks, steps, dim and number of threads. What each is stands in `bench_train_torch.py`; ours
runs with dense Adam, as they do, and with lazy Adam. Printed are the medians over all epochs but the first of a run, and
of the peak memory, of which the floor's is little more than what PyTorch takes to be imported. `epoch` has an evaluation
in it; ours also computes the BMSE of the population there. `--scale` shrinks a shape, to try the script.
"""

import argparse
import csv
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np

THREADS = 2
DIM = 256
SHAPES = {
    "coat": {"users": 290, "items": 300, "ratings": 6_960, "held_out": 4_640, "block": (64, 64), "epochs": 20},
    "yahoo-r3": {
        "users": 15_400, "items": 1_000, "ratings": 311_704, "held_out": 54_000, "block": (2_000, 200), "epochs": 3,
    },
}
# Those of the presets, which the rivals need as numbers.
RATES = {
    "coat": {
        "prediction": {"lr": 1e-3, "weight_decay": 1e-5}, "propensity": {"lr": 1e-2, "weight_decay": 1e-1},
        "weights": {"ctcvr": 1.0, "estimator": 1.0, "balance": 1e-2},
    },
    "yahoo-r3": {
        "prediction": {"lr": 5e-3, "weight_decay": 1e-6}, "propensity": {"lr": 1e-2, "weight_decay": 5e-4},
        "weights": {"ctcvr": 1.0, "estimator": 5.0, "balance": 5e-2},
    },
}
CONTENDERS = {
    "ours": ("dense", None),
    "ours, lazy Adam": ("lazy", None),
    "PyTorch, gathered pairs": (None, "gathered"),
    "PyTorch, block products": (None, "block"),
    "… and fused Adam": (None, "fused"),
    "floor": (None, "floor"),
}

JOB = """
name = "bench"
device = "cpu"
population.shape = "matrix"
[tables]
pairs = {{ url = "{folder}/pairs/" }}
uniform = {{ url = "{folder}/uniform/" }}
[columns]
user = "user_id"
item = "item_id"
outcome = "outcome"
[train]
preset = "{shape}-ips-v2"
output = "{folder}/model/"
timing = true
loss.phi = "constant"
data.train = "SELECT user_id, item_id, outcome FROM pairs"
data.validation = "SELECT user_id, item_id, outcome FROM uniform"
model.dim = {dim}
optimizer.epochs = {epochs}
optimizer.block_users = {block[0]}
optimizer.block_items = {block[1]}
evaluation.patience = {epochs}
"""


def scaled(shape, factor):
    if factor == 1:
        return shape
    side = lambda count: max(round(count * factor), 8)
    return shape | {
        "users": side(shape["users"]), "items": side(shape["items"]), "block": tuple(map(side, shape["block"])),
        "ratings": side(shape["ratings"] * factor), "held_out": side(shape["held_out"] * factor),
    }


def simulate(binary, shape, folder):
    """Ratings as Parquet, for our job, and as indices in one `.npz`, for the rivals."""
    if (folder / "data.npz").exists():
        return
    rate = shape["ratings"] / (shape["users"] * shape["items"])
    subprocess.run([binary, "simulate", "--shape", "matrix", "--users", str(shape["users"]),
                    "--items", str(shape["items"]), "--treated-rate", str(rate), "--seed", "1",
                    "--output", f"{folder}/pairs/", "--uniform", f"{folder}/uniform/",
                    "--uniform-rows", str(shape["held_out"])], check=True, stdout=subprocess.DEVNULL)

    def rows(table):
        query = f"SELECT user_id, item_id, CAST(outcome AS DOUBLE) FROM '{folder}/{table}/'"
        text = subprocess.run([binary, "sql", "--format", "csv", "-c", query], check=True, capture_output=True, text=True)
        return np.array(list(csv.reader(io.StringIO(text.stdout)))[1:], dtype=float)

    train, held_out = rows("pairs"), rows("uniform")
    ids = [np.unique(train[:, side]) for side in (0, 1)]
    known = np.isin(held_out[:, 0], ids[0]) & np.isin(held_out[:, 1], ids[1])
    index = lambda rows: np.stack([np.searchsorted(ids[side], rows[:, side]) for side in (0, 1)], axis=1)
    np.savez(folder / "data.npz", users=len(ids[0]), items=len(ids[1]), train=index(train),
             train_outcome=train[:, 2].astype(np.float32), validation=index(held_out[known]),
             validation_outcome=held_out[known][:, 2])


def measured(argv):
    """Standard output of a process, and the most memory that it held, in bytes."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"OMP_NUM_THREADS": str(THREADS)})
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{argv} failed:\n{errors}")
    return output, usage.ru_maxrss * 1024


def ours(binary, adam, name, shape, folder, epochs):
    job = folder / "job.toml"
    job.write_text(JOB.format(folder=folder, shape=name, dim=DIM, epochs=epochs, block=shape["block"]))
    _, memory = measured([binary, "--threads", str(THREADS), "--log", "warn", "train", str(job),
                          "--set", f"train.optimizer.adam={adam}"])
    history = json.loads((folder / "model/manifest.json").read_text())["training"]["members"][0]["history"]
    stepped = lambda timing: sum(seconds for part, seconds in timing.items() if part != "evaluation")
    epochs = [{"steps": stepped(record["timing"]), "epoch": record["seconds"]} for record in history]
    return epochs, memory


def theirs(form, name, shape, folder, epochs):
    settings = RATES[name] | {"data": str(folder / "data.npz"), "threads": THREADS, "epochs": epochs, "dim": DIM,
                              "block": shape["block"]}
    script = pathlib.Path(__file__).with_name("bench_train_torch.py")
    output, memory = measured([sys.executable, str(script), form, json.dumps(settings)])
    return json.loads(output)["epochs"], memory


def compare(binary, name, shape, folder, epochs, rounds):
    simulate(binary, shape, folder)
    with np.load(folder / "data.npz") as data:
        users, items = int(data["users"]), int(data["items"])
        ratings, held_out = len(data["train"]), len(data["validation"])
    steps = -(-users // shape["block"][0]) * -(-items // shape["block"][1])
    runs = {contender: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for contender, (adam, form) in CONTENDERS.items():
            if adam:
                runs[contender].append(ours(binary, adam, name, shape, folder, epochs))
            else:
                runs[contender].append(theirs(form, name, shape, folder, epochs))

    print(f"\n{name}: {users:,} users × {items:,} items, {ratings:,} ratings, {held_out:,} held out, dim {DIM}, blocks of "
          f"{shape['block'][0]} × {shape['block'][1]}, {steps} steps an epoch, {epochs} epochs, {rounds} rounds, "
          f"{THREADS} threads")
    print(f"{'':<26}{'ms/step':>9}{'steps/s':>10}{'Mpairs/s':>10}{'ratio':>7}{'s/epoch':>10}{'ratio':>7}{'peak MB':>9}"
          f"{'ratio':>7}")
    figures = {}
    for contender, results in runs.items():
        later = [epoch for epochs, _ in results for epoch in (epochs[1:] or epochs)]
        median = lambda key: statistics.median(epoch[key] for epoch in later)
        figures[contender] = median("steps"), median("epoch"), statistics.median(memory for _, memory in results)
    base = figures["ours"]
    for contender, values in figures.items():
        stepped, epoch, memory = values
        step, seconds, peak = (value / of for value, of in zip(values, base))
        print(f"{contender:<26}{1e3 * stepped / steps:>9.2f}{steps / stepped:>10.1f}{users * items / stepped / 1e6:>10.2f}"
              f"{step:>7.2f}{epoch:>10.4f}{seconds:>7.2f}{memory / 1e6:>9.0f}{peak:>7.2f}", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    arguments.add_argument("--epochs", type=int, help="of a run [default: 20 for coat, 3 for yahoo-r3]")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--scale", type=float, default=1)
    arguments.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("bench-train"))
    given = arguments.parse_args()
    for name in given.shapes:
        shape = scaled(SHAPES[name], given.scale)
        folder = given.folder.absolute() / f"{name}-{given.scale:g}"
        folder.mkdir(parents=True, exist_ok=True)
        compare(given.binary, name, shape, folder, given.epochs or shape["epochs"], given.rounds)


if __name__ == "__main__":
    main()
