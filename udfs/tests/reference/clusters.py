"""Writes a small log of users and items and what other libraries say of its errors: clusters.csv and clusters.json.

    pip install numpy scipy statsmodels xxhash
"""

import csv
import json
import os
from importlib.metadata import version

import numpy as np
import statsmodels.api as sm
import xxhash
from scipy import stats
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

HERE = os.path.dirname(os.path.abspath(__file__))
USERS, ITEMS = 12, 15

rng = np.random.default_rng(5)
user = np.repeat(np.arange(USERS), ITEMS)
item = np.tile(np.arange(ITEMS), USERS)
ROWS = len(user)
x = np.round(rng.normal(size=ROWS) + rng.normal(size=USERS)[user], 4)
p = np.round(1 / (1 + np.exp(0.7 - 0.5 * x)), 4)
shift = 0.5 * rng.normal(size=USERS)[user] + 0.3 * rng.normal(size=ITEMS)[item]
o = (rng.random(ROWS) < 1 / (1 + np.exp(0.7 - 0.5 * x - shift))).astype(int)
e = np.round(1 + 0.3 * x + 0.2 * rng.normal(size=ROWS) + 0.2 * rng.normal(size=USERS)[user], 4)

with open(os.path.join(HERE, "clusters.csv"), "w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["u", "i", "o", "p", "x", "e"])
    rows.writerows((f"user {u}", i, *rest) for u, i, *rest in zip(user, item, o, p, x, e))

figures = []
STATSMODELS = f"statsmodels {version('statsmodels')}"
SCIPY = f"scipy {version('scipy')}"
NUMPY = f"numpy {version('numpy')}"


def figure(query, expected, source):
    figures.append({"query": f"SELECT {query} FROM log", "expected": float(expected), "source": source})


def hashed(values):
    return np.array([xxhash.xxh64(value).intdigest() for value in values], dtype=np.uint64)


def eight(number):
    return int(number).to_bytes(8, "little")


of_user, of_item = hashed(f"user {u}".encode() for u in user), hashed(eight(i) for i in item)
of_pair = hashed(eight(a) + eight(b) for a, b in zip(of_user, of_item))
group_of_user, group_of_item, group_of_pair = ((h >> np.uint64(56)).astype(int) for h in (of_user, of_item, of_pair))
assert len(set(group_of_user)) == USERS, "two users share a group: choose other ids"
for k in (0, 40, 179):
    t = f"(SELECT treatment(o, u, i) AS t FROM log WHERE u = 'user {user[k]}' AND i = {item[k]})"
    for way, groups in (("cluster", group_of_user), ("second", group_of_item), ("both", group_of_pair)):
        query, source = f"SELECT t['{way}'] FROM {t}", f"xxhash {version('xxhash')}"
        figures.append({"query": query, "expected": float(groups[k]), "source": source})

# Of a mean over clusters of equal size, the jackknife is the cluster-robust variance.
term = o * e / p
a = o / p - 1
one = np.ones(ROWS)
for call, values, at in [
    ("ips_interval(treatment(o, u), p, e)", term, ""),
    ("naive_interval(treatment(o, u), e)", o * e, ""),
    ("imbalance(treatment(o, u), p)", a, "[1]"),
]:
    fit = sm.OLS(values, one).fit(cov_type="cluster", cov_kwds={"groups": user, "use_correction": True})
    alone = sm.OLS(values, one).fit()
    least = np.sqrt(((1 - p) / p).sum()) / ROWS if "imbalance" in call else alone.bse[0]
    error = max(fit.bse[0], least)
    assert fit.bse[0] > least, "the floor would hide the cluster-robust error"
    figure(f"{call}['std_error']{at}", error, f"{STATSMODELS}, OLS with cov_type cluster")
    d = np.array([values[user == u].mean() for u in range(USERS)]) - values.mean()
    degrees = np.clip((d**2).sum() ** 2 / (d**4).sum() - 1, 1, USERS - 1)
    figure(f"{call}['upper']{at}", values.mean() + stats.t.ppf(0.975, degrees) * error, f"{SCIPY}, t")
    figure(f"{call}['lower']{at}", values.mean() - stats.t.ppf(0.975, degrees) * error, f"{SCIPY}, t")

# By the groups themselves, two ways.
error = {}
for name, values in (("ips", term), ("imbalance", a)):
    def of(groups):
        kinds = sorted(set(groups))
        without = np.array([values[groups != g].mean() for g in kinds])
        return (len(kinds) - 1) / len(kinds) * ((without - without.mean()) ** 2).sum()

    error[name] = np.sqrt(of(group_of_user) + of(group_of_item) - of(group_of_pair))
    if len(set(group_of_item)) == ITEMS and len(set(group_of_pair)) == ROWS:
        both = cov_cluster_2groups(sm.OLS(values, one).fit(), user, item)[0]
        assert np.isclose(both[0, 0], error[name] ** 2)
figure("ips_interval(treatment(o, u, i), p, e)['std_error']", error["ips"], f"{NUMPY}, by hand")
least = np.sqrt(((1 - p) / p).sum()) / ROWS
figure("imbalance(treatment(o, u, i), p)['std_error'][1]", max(error["imbalance"], least), f"{NUMPY}, by hand")


# The bias, by a weighted regression and its repetitions.
def bias(rows):
    design = sm.add_constant(np.stack([x, x**2], axis=1))[rows]
    treated = o[rows] == 1
    fit = sm.WLS(e[rows][treated], design[treated], weights=1 / p[rows][treated]).fit()
    c = ((o / p - 1)[rows, None] * design).mean(axis=0)
    size = np.average(np.abs(e[rows][treated]), weights=1 / p[rows][treated])
    return c @ fit.params / size, fit.params, size, design


every = np.arange(ROWS)
estimate, beta, size, design = bias(every)
without = np.array([bias(every[user != u])[0] for u in range(USERS)])
variance = (USERS - 1) / USERS * ((without - without.mean()) ** 2).sum()
implied = (((1 - p) / p) * (design @ beta) ** 2).sum() / ROWS**2 / size**2
figure("imbalance_bias(o, p, e, x, x * x)['estimate']", estimate, f"{STATSMODELS}, WLS")
error = np.sqrt(max(variance, implied))
figure("imbalance_bias(treatment(o, u), p, e, x, x * x)['std_error']", error, f"{STATSMODELS}, WLS")
figure("imbalance_bias(treatment(o, u), p, e, x, x * x)['mean_error']", size, f"{NUMPY}, average")
figure("imbalance(o, p, x)['estimate'][2]", ((o / p - 1) * (x - x.mean())).mean() / x.std(), NUMPY)

with open(os.path.join(HERE, "clusters.json"), "w") as file:
    json.dump(figures, file, indent=2)
    file.write("\n")
print(len(figures))
