"""Writes a small population and what scikit-learn makes of it, logistic.json: the logits of every pair by a logistic
regression of the treatment on user, item and covariates, with an L2 penalty.

    pip install numpy scipy scikit-learn
"""

import json
import os
from importlib.metadata import version

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

HERE = os.path.dirname(os.path.abspath(__file__))
USERS, ITEMS, ROWS = 13, 9, 150

rng = np.random.default_rng(5)
users = np.round(np.stack([rng.normal(40, 12, USERS), rng.random(USERS) < 0.4], axis=1), 3)
items = np.round(rng.exponential(size=(ITEMS, 1)), 3)
effect = rng.normal(-1.2, 1.2, USERS)[:, None] + rng.normal(0, 1, ITEMS) + 0.04 * (users[:, :1] - 40)
propensity = 1 / (1 + np.exp(-effect))
matrix = [(u, i) for u in range(USERS) for i in range(ITEMS)]
treated_in_matrix = rng.random(USERS * ITEMS) < propensity.ravel()
# One user without any treated pair, one with all.
treated_in_matrix[:ITEMS], treated_in_matrix[ITEMS : 2 * ITEMS] = False, True
log = list(zip(rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS) ** 2 // ITEMS))
treated_in_log = np.array([rng.random() < propensity[pair] for pair in log])


def design(pairs, covariates):
    user, item = np.array(pairs).T
    columns = [np.eye(USERS)[user], np.eye(ITEMS)[item]]
    if covariates:
        columns += [StandardScaler().fit_transform(users)[user], StandardScaler().fit_transform(items)[item]]
    return np.concatenate(columns, axis=1)


def by_scipy(x, y, l2):
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    penalty = np.full(x.shape[1], l2)
    penalty[-1] = 0
    probability = lambda w: 1 / (1 + np.exp(-x @ w))
    loss = lambda w: np.logaddexp(0, np.where(y, -1, 1) * (x @ w)).sum() + w @ (penalty * w) / 2
    slope = lambda w: x.T @ (probability(w) - y) + penalty * w
    curve = lambda w: (x.T * (probability(w) * (1 - probability(w)))) @ x + np.diag(penalty)
    found = minimize(loss, np.zeros(x.shape[1]), jac=slope, hess=curve, method="trust-exact", options={"gtol": 1e-10})
    return found.x[:-1], found.x[-1]


fits = []
for shape, pairs, treated in [("matrix", matrix, treated_in_matrix), ("log", log, treated_in_log)]:
    for covariates in [False, True] if shape == "matrix" else [False]:
        for l2 in [0.05, 1.0, 20.0]:
            x = design(pairs, covariates)
            model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x, treated)
            every = design(matrix, covariates)
            logits = every @ model.coef_[0] + model.intercept_[0]
            weights, intercept = by_scipy(x, treated, l2)
            assert np.abs(every @ weights + intercept - logits).max() < 1e-7, (shape, covariates, l2)
            fits.append({"shape": shape, "covariates": covariates, "l2": l2, "logits": logits.round(10).tolist()})

with open(os.path.join(HERE, "logistic.json"), "w") as file:
    content = {
        "source": f"scikit-learn {version('scikit-learn')}",
        "users": users.tolist(),
        "items": items.tolist(),
        "matrix": [[int(u), int(i), bool(o)] for (u, i), o in zip(matrix, treated_in_matrix)],
        "log": [[int(u), int(i), bool(o)] for (u, i), o in zip(log, treated_in_log)],
        "fits": fits,
    }
    file.write("{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()) + "\n}\n")
