"""The objectives in NumPy float64, written apart from the library: loops and formulas.

Rows given are the real ones; there are no masks here.
"""

import numpy as np


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(x, y):
    return (unit(x) * unit(y)).sum(axis=1)


def nt_xent(z1, z2, temperature):
    """[n] the mean of each row's two cross entropies."""
    n, u = len(z1), unit(np.concatenate([z1, z2]))
    terms = np.zeros(2 * n)
    for i in range(2 * n):
        s = np.exp([u[i] @ u[k] / temperature for k in range(2 * n) if k != i])
        terms[i] = np.log(s.sum()) - u[i] @ u[(i + n) % (2 * n)] / temperature
    return (terms[:n] + terms[n:]) / 2


def barlow_twins(z1, z2, off_diagonal, scale):
    """[n] the batch's loss, once a row."""
    n, d = z1.shape
    s1, s2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (z1, z2))
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = (s1[:, i] * s2[:, j]).mean()
            total += (c - 1) ** 2 if i == j else off_diagonal * c**2
    return np.full(n, scale * total)


def vicreg(z1, z2, invariance, variance, covariance):
    """[n] each row's invariance and the batch's other terms."""
    rows = invariance * ((z1 - z2) ** 2).mean(axis=1)
    for z in (z1, z2):
        c, d = np.cov(z, rowvar=False), z.shape[1]
        hinge = [max(0.0, 1 - np.sqrt(c[j, j] + 1e-4)) for j in range(d)]
        off = sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j)
        rows = rows + variance * np.mean(hinge) + covariance * off / d
    return rows


# The network of `tiny`: two-layer perceptron, projector, predictor, in train mode


def normed(x, p=None):
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return y if p is None else y * p["scale"] + p["bias"]


def features(p, images):
    x = images.reshape(len(images), -1)
    for layer in ("hidden", "features"):
        x = np.maximum(x @ p[layer]["kernel"] + p[layer]["bias"], 0)
    return x


def projections(p, x, final_norm):
    """[n d], and what each batch norm saw."""
    seen = {}
    for i in (1, 2):
        seen[f"norm{i}"] = x @ p[f"linear{i}"]["kernel"]
        x = np.maximum(normed(seen[f"norm{i}"], p[f"norm{i}"]), 0)
    x = x @ p["linear3"]["kernel"]
    if final_norm:
        seen["norm3"] = x
        x = normed(x)
    return x, seen


def predictions(p, z):
    hidden = np.maximum(normed(z @ p["linear1"]["kernel"], p["norm1"]), 0)
    return hidden @ p["linear2"]["kernel"] + p["linear2"]["bias"]


def loss(name, params, target, views):
    """[n] the loss of method `name` with the default config's settings.

    Args:
      name: of the method.
      params: trained parameters, nested dicts of float64 arrays.
      target: parameters behind the targets: SimSiam's own, held constant, or BYOL's
        slow ones.
      views: [2 n h w c].
    """

    def project(p):
        norm = name not in ("barlow_twins", "vicreg")
        return [
            projections(p["projector"], features(p["encoder"], v), norm)[0]
            for v in views
        ]

    z1, z2 = project(params)
    if name == "simclr":
        return nt_xent(z1, z2, 0.5)
    if name == "barlow_twins":
        return barlow_twins(z1, z2, 0.005, 0.1)
    if name == "vicreg":
        return vicreg(z1, z2, 25.0, 25.0, 1.0)
    t1, t2 = project(target)
    p1, p2 = (predictions(params["predictor"], z) for z in (z1, z2))
    both = cosines(p1, t2) + cosines(p2, t1)
    return {"simsiam": -both / 2, "byol": 4 - 2 * both}[name]
