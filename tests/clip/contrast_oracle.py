"""The objectives as their formulas say, in NumPy or plain sums of jax.numpy.

Nothing is in logarithms here and rows are walked one by one.
"""

import jax.numpy as jnp
import numpy as np


def surrogate(h, margin):
    """GCL's with no margin, else the squared hinge."""
    return h if margin is None else jnp.maximum(margin + h, 0.0) ** 2


def sides(s, margin):
    """a of both sides, [n n], of the cosines s [n n]."""
    n = len(s)
    own = jnp.array([s[i, i] for i in range(n)])
    return surrogate(s - own[:, None], margin), surrogate(s.T - own[:, None], margin)


def g(a, others, tau):
    """Mean over each row's negatives of exp(a / tau), [n]; `others` are lists."""
    return jnp.stack(
        [
            jnp.mean(jnp.exp(a[i][jnp.array(o)] / tau)) if o else jnp.array(1.0)
            for i, o in enumerate(others)
        ]
    )


def others(text, kind="class"):
    """The negatives of each row."""
    n = len(text)
    if kind == "instance":
        return [[j for j in range(n) if j != i] for i in range(n)]
    return [[j for j in range(n) if text[j] != text[i]] for i in range(n)]


def row_losses(s, text, tau, margin=None, kind="class"):
    """tau log g_I + tau log g_T, [n]."""
    a, b = sides(s, margin)
    lists = others(text, kind)
    return tau * (jnp.log(g(a, lists, tau)) + jnp.log(g(b, lists, tau)))


def gcl(s, text, tau, margin=None, kind="class"):
    """Equation 1."""
    return jnp.mean(row_losses(s, text, tau, margin, kind))


def losses_of_classes(s, label, tau, margin):
    """Equation 5, in the order of the labels."""
    rows = row_losses(s, label, tau, margin)
    return jnp.stack(
        [rows[np.flatnonzero(label == k)].mean() for k in np.unique(label)]
    )


def gdro(s, label, tau, margin, strength):
    """Equation 6."""
    losses = losses_of_classes(s, label, tau, margin)
    return strength * jnp.log(jnp.mean(jnp.exp(losses / strength)))


def averaged(u, seen, s, text, ids, tau, rate, margin):
    """Both sides' moving averages u [2 N] after a batch, in place, in float64."""
    found = sides(s, margin)
    for side, a in enumerate(found):
        for i, o in enumerate(others(text)):
            if not o:
                continue
            new = np.mean(np.exp(np.asarray(a)[i, o] / tau))
            first = not seen[side, ids[i]]
            u[side, ids[i]] = (
                new if first else (1 - rate) * u[side, ids[i]] + rate * new
            )
            seen[side, ids[i]] = True
