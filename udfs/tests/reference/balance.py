"""Writes a small log and what other libraries say of its balance and its propensities: balance.csv and balance.json.

    pip install numpy scipy scikit-learn statsmodels
"""

import csv
import json
import os
from importlib.metadata import version

import numpy as np
from scipy import stats
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = 180

rng = np.random.default_rng(11)
x = np.round(rng.normal(size=ROWS), 4)
y = np.round(np.exp(rng.normal(size=ROWS)), 4)
z = (rng.random(ROWS) < 0.3).astype(int)
p = np.round(1 / (1 + np.exp(0.4 - 0.8 * x - 0.5 * z)), 4)
o = (rng.random(ROWS) < np.clip(p + 0.08, 0, 1)).astype(int)

with open(os.path.join(HERE, "balance.csv"), "w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["o", "p", "x", "y", "z"])
    rows.writerows(zip(o, p, x, y, z))

SCIPY = f"scipy {version('scipy')}"
SKLEARN = f"scikit-learn {version('scikit-learn')}"
STATSMODELS = f"statsmodels {version('statsmodels')}"
figures = []


def figure(query, expected, source):
    figures.append({"query": f"SELECT {query} FROM log", "expected": float(expected), "source": source})


w = np.where(o == 1, 1 / p, -1 / (1 - p))
second, fourth = 1 / p + 1 / (1 - p), 1 / p**3 + 1 / (1 - p) ** 3
for names, columns in [("x, y, z", (x, y, z)), ("1, x", (np.ones(ROWS), x)), ("y, x * y", (y, x * y))]:
    phi, dof = np.stack(columns, axis=1), len(columns)
    mean = (w[:, None] * phi).mean(axis=0)
    covariance = (phi * second[:, None]).T @ phi / ROWS**2
    statistic = mean @ np.linalg.solve(covariance, mean)
    # Where phi holds a constant, the part of a row in the statistic is taken of the others less their mean.
    basis = phi - np.where(np.ptp(phi, axis=0) > 0, second @ phi / second.sum(), 0) if names.startswith("1") else phi
    part = (basis**2 / (second @ basis**2)).sum(axis=1)
    scale = max(1, 1 + ((fourth - 3 * second**2) * part**2).sum() / (2 * dof))
    call = f"balance_test(o, p, {names})"
    figure(f"{call}['statistic']", statistic, f"numpy {version('numpy')}, linalg.solve")
    figure(f"{call}['p_value']", stats.chi2.sf(statistic / scale, dof / scale), f"{SCIPY}, chi2")
    distance = mean / np.sqrt(np.diag(covariance))
    worst = np.argmax(np.abs(distance))
    figure(f"{call}['worst_component']", worst + 1, "numpy, argmax")
    figure(f"{call}['worst_z']", distance[worst], "numpy")

weights = np.where(o == 1, 1 / p, 1 / (1 - p))
for name, column in [("x", x), ("y", y), ("z", z)]:
    plain = [DescrStatsW(column[o == arm], ddof=1) for arm in (1, 0)]
    weighted = [DescrStatsW(column[o == arm], weights=weights[o == arm]) for arm in (1, 0)]
    lost = [np.sum(weights[o == arm] ** 2) / np.sum(weights[o == arm]) for arm in (1, 0)]
    pooled = np.sqrt((plain[0].var + plain[1].var) / 2)
    source = f"{STATSMODELS}, DescrStatsW"
    figure(f"smd(o, p, {name})['raw']", (plain[0].mean - plain[1].mean) / pooled, source)
    figure(f"smd(o, p, {name})['weighted']", (weighted[0].mean - weighted[1].mean) / pooled, source)
    figure(f"variance_ratio(o, p, {name})['raw']", plain[0].var / plain[1].var, source)
    variances = [sample.var_ddof(ddof=ddof) for sample, ddof in zip(weighted, lost)]
    figure(f"variance_ratio(o, p, {name})['weighted']", variances[0] / variances[1], source)
    distance = stats.ks_2samp(column[o == 1], column[o == 0]).statistic
    figure(f"ks(o, p, {name})['raw']", distance, f"{SCIPY}, ks_2samp")

figure("auc(o, p)", metrics.roc_auc_score(o, p), f"{SKLEARN}, roc_auc_score")
figure("nll(o, p)", metrics.log_loss(o, p), f"{SKLEARN}, log_loss")
figure("sv(p)", np.var(p, ddof=1), "numpy, var")
low, high = proportion_confint(o[p < 0.5].sum(), (p < 0.5).sum(), method="wilson")
curve = "calibration_curve(o, p, 2)[1]"
figure(f"{curve}['rate_lower']", low, f"{STATSMODELS}, proportion_confint")
figure(f"{curve}['rate_upper']", high, f"{STATSMODELS}, proportion_confint")

with open(os.path.join(HERE, "balance.json"), "w") as file:
    json.dump(figures, file, indent=2)
    file.write("\n")
