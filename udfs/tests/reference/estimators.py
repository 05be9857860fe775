"""Writes a small log and what other libraries estimate from it: estimators.csv and estimators.json.

A row's treatment is an action, 1 or 0; the policy that is evaluated always takes 1, so that importance weights are o/p.

    pip install numpy pandas scipy scikit-learn statsmodels tqdm && pip install --no-deps obp==0.4.1
"""

import csv
import json
import os
import sys
import types
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import statsmodels.api as sm
from scipy import stats

# obp imports torch to learn policies and to name types; its estimators need no more than the name.
sys.modules.setdefault("torch", types.SimpleNamespace(Tensor=type("Tensor", (), {})))
ope = types.ModuleType("obp.ope")
ope.__path__ = [os.path.join(os.path.dirname(find_spec("obp").origin), "ope")]
sys.modules["obp.ope"] = ope
from obp.ope import estimators as obp  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = 160

rng = np.random.default_rng(7)
x = rng.random(ROWS)
p = np.round(0.05 + 0.85 * x, 4)
o = (rng.random(ROWS) < p).astype(int)
e = np.round(x + rng.random(ROWS), 4)
i = np.round(0.3 + 0.8 * x + 0.2 * rng.random(ROWS), 4)

with open(os.path.join(HERE, "estimators.csv"), "w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["o", "p", "e", "i"])
    rows.writerows((a, b, c if a else None, d) for a, b, c, d in zip(o, p, e, i))


def obp_estimate(estimator, propensity=p):
    imputed = np.zeros((ROWS, 2, 1))
    imputed[:, 1, 0] = i
    always = np.zeros((ROWS, 2, 1))
    always[:, 1, 0] = 1.0
    return estimator.estimate_policy_value(
        reward=np.where(o == 1, e, 0.0),
        action=o,
        pscore=np.where(o == 1, propensity, 1 - propensity),
        action_dist=always,
        estimated_rewards_by_reg_model=imputed,
        position=np.zeros(ROWS, dtype=int),
    )


OBP = f"obp {version('obp')}"
SCIPY = f"scipy {version('scipy')}"
STATSMODELS = f"statsmodels {version('statsmodels')}"
figures = []


def figure(query, expected, source):
    figures.append({"query": f"SELECT {query} FROM log", "expected": float(expected), "source": source})


figure("ips(o, p, e)", obp_estimate(obp.InverseProbabilityWeighting()), f"{OBP}, InverseProbabilityWeighting")
figure(
    "snips(o, p, e)",
    obp_estimate(obp.SelfNormalizedInverseProbabilityWeighting()),
    f"{OBP}, SelfNormalizedInverseProbabilityWeighting",
)
figure("dr(o, p, e, i)", obp_estimate(obp.DoublyRobust()), f"{OBP}, DoublyRobust")
figure("snips_dr(o, p, e, i)", obp_estimate(obp.SelfNormalizedDoublyRobust()), f"{OBP}, SelfNormalizedDoublyRobust")
for weight in [1.5, 3.0, 8.0]:
    figure(
        f"ips_clipped(o, p, e, {weight})",
        obp_estimate(obp.InverseProbabilityWeighting(), np.maximum(p, 1 / weight)),
        f"{OBP}, InverseProbabilityWeighting of propensities of at least 1/{weight}",
    )
    figure(
        f"switch_dr(o, p, e, i, {weight})",
        obp_estimate(obp.SwitchDoublyRobust(tau=weight)),
        f"{OBP}, SwitchDoublyRobust(tau={weight})",
    )
for shrinkage in [1.0, 25.0, 1e6]:
    figure(
        f"dr_os(o, p, e, i, {shrinkage})",
        obp_estimate(obp.DoublyRobustWithShrinkage(lambda_=shrinkage)),
        f"{OBP}, DoublyRobustWithShrinkage(lambda_={shrinkage})",
    )

w = o / p
for name, arguments, terms in [
    ("naive", "o, e", o * e),
    ("eib", "o, e, i", np.where(o == 1, e, i)),
    ("ips", "o, p, e", w * e),
    ("dr", "o, p, e, i", i + w * (e - i)),
    ("ips_clipped", "o, p, e, 3", np.minimum(w, 3) * e),
    ("switch_dr", "o, p, e, i, 3", i + np.where(w <= 3, w, 0) * (e - i)),
    ("dr_os", "o, p, e, i, 25", i + 25 * w / (w**2 + 25) * (e - i)),
]:
    figure(f"{name}_interval({arguments})['std_error']", stats.sem(terms), f"{SCIPY}, sem of the rows' terms")
    lower, upper = stats.norm.interval(0.9, terms.mean(), stats.sem(terms))
    figure(f"{name}_interval({arguments}, 0.9)['lower']", lower, f"{SCIPY}, norm.interval")
    figure(f"{name}_interval({arguments}, 0.9)['upper']", upper, f"{SCIPY}, norm.interval")

treated = o == 1
to_sample = np.sqrt(ROWS / (ROWS - 1))
for name, arguments, weights in [("naive_treated", "o, e", o), ("snips", "o, p, e", w)]:
    fit = sm.WLS(e[treated], np.ones(treated.sum()), weights[treated]).fit(cov_type="HC0")
    source = f"{STATSMODELS}, WLS on a constant"
    figure(f"{name}_interval({arguments})['estimate']", fit.params[0], source)
    figure(f"{name}_interval({arguments})['std_error']", fit.bse[0] * to_sample, f"{source}, HC0 * sqrt(n / (n - 1))")


ratio = (w * (e - i)).sum() / w.sum()
influences = i + w * (e - i - ratio) / w.mean()
figure("snips_dr_interval(o, p, e, i)['std_error']", stats.sem(influences), f"{SCIPY}, sem of the influence function")
figure("ips_interval(o, p, e)['ess']", w.sum() ** 2 / (w**2).sum(), f"numpy {version('numpy')}")
figure("ips_variance(o, p, e)", (o * (1 - p) * e**2 / p**2).sum() / ROWS**2, f"numpy {version('numpy')}")
figure("dr_variance(o, p, e, i)", (o * (1 - p) * (e - i) ** 2 / p**2).sum() / ROWS**2, f"numpy {version('numpy')}")

with open(os.path.join(HERE, "estimators.json"), "w") as file:
    json.dump(figures, file, indent=2, allow_nan=False)
    file.write("\n")
