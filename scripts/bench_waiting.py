#!/usr/bin/env python3
"""Seconds an epoch of training, by how long threads that wait for one another spin before they sleep.

    scripts/bench_waiting.py BINARY [--spins N …] [--rounds N] [--folder FOLDER]

Simulated ratings in the shape of Yahoo! R3, IPS-V2, two threads: one process alone, and two side by side. What is printed is
the median over all epochs but the first, and over the rounds, in which the settings run in turn.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

SIMULATE = ["--shape", "matrix", "--users", "15400", "--items", "1000", "--treated-rate", "0.02024", "--seed", "1",
            "--uniform-rows", "54000"]
JOB = """
name = "waiting"
device = "cpu"
population.shape = "matrix"
tables.pairs.url = "{folder}/pairs/"
tables.uniform.url = "{folder}/uniform/"
columns = {{ user = "user_id", item = "item_id", outcome = "outcome" }}
[train]
preset = "yahoo-r3-ips-v2"
output = "{folder}/model-{process}/"
loss.phi = "constant"
data.train = "SELECT user_id, item_id, outcome FROM pairs"
data.validation = "SELECT user_id, item_id, outcome FROM uniform"
optimizer.epochs = 3
"""


def epochs(binary, folder, spins, processes):
    """Seconds of the epochs of processes that train at the same time, the first of each left out."""
    running = []
    for process in range(processes):
        job = folder / f"job-{process}.toml"
        job.write_text(JOB.format(folder=folder, process=process))
        running.append(subprocess.Popen(
            [binary, "--threads", "2", "--log-format", "json", "train", str(job)], text=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=os.environ | {"GOMP_SPINCOUNT": str(spins)}))
    seconds = []
    for process in running:
        lines = [json.loads(line) for line in process.communicate()[1].splitlines()]
        if process.returncode != 0:
            raise SystemExit(f"training failed: {lines[-1]['message']}")
        seconds += [line["seconds"] for line in lines if line.get("epoch", 0) > 1]
    return seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("--spins", type=int, nargs="+", default=[0, 1_000, 20_000, 200_000])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=pathlib.Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or pathlib.Path(temporary)
        subprocess.run([given.binary, "simulate", *SIMULATE, "--output", f"{folder}/pairs/", "--uniform",
                        f"{folder}/uniform/"], check=True, stdout=subprocess.DEVNULL)
        measured = {(spins, processes): [] for spins in given.spins for processes in (1, 2)}
        for _ in range(given.rounds):
            for (spins, processes), seconds in measured.items():
                seconds += epochs(given.binary, folder, spins, processes)
    print("| `GOMP_SPINCOUNT` | alone | two side by side |\n|---|---|---|")
    for spins in given.spins:
        alone, beside = (statistics.median(measured[spins, processes]) for processes in (1, 2))
        print(f"| {spins:,} | {alone:.2f} s | {beside:.2f} s |")


if __name__ == "__main__":
    main()
