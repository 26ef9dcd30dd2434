"""GEM's projection of a gradient, by its quadratic programme's dual (T x T).

  minimise 1/2 v' P v + (G g)' v  over v >= margin,   P = G G' + 1e-3

With u = v - margin this is the linear complementarity problem w = P u + q, u, w >= 0,
u' w = 0. Principal pivoting solves it exactly: some of u are free and solve P u = -q,
all others are 0; as long as one of u or w is negative, the last such index changes
sides. P is positive definite, so that this ends (Murty 1974), mostly within T rounds.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array

RIDGE = 1e-3  # on the diagonal of P, as in the authors' code
ROUNDS = 100  # per task, at most
SLACK = 1e-6  # of the largest entry: rounding, no violation


def projected(own: Array, past: Array, real: Array, *, margin: float) -> Array:
    """The gradient to step along.

    Args:
      own: [p] gradient on the stream's batch, g.
      past: [t p] gradients of tasks, G; those that are not `real` do not matter.
      real: [t] bool.
      margin: lower bound of v.

    Returns:
      [p] g + G' v, or g itself where no inner product with a row of G is negative.
    """
    past = jnp.where(real[:, None], past, 0.0)
    inner = jnp.matmul(past, own, precision="highest")
    gram = jnp.matmul(past, past.T, precision="highest")
    v = nonnegative(gram + RIDGE * jnp.eye(len(real)), inner, real, margin=margin)
    moved = own + jnp.matmul(v, past, precision="highest")
    return jnp.where(jnp.any(real & (inner < 0)), moved, own)


def nonnegative(p: Array, linear: Array, real: Array, *, margin: float) -> Array:
    """V [t] >= margin that minimises 1/2 v' p v + linear' v; 0 where it is not `real`.

    Args:
      p: [t t], symmetric and positive definite.
      linear: [t].
      real: [t] bool, the variables that there are.
      margin: lower bound of these.
    """
    both = real[:, None] & real[None, :]
    unit = jax.lax.rsqrt(jnp.diagonal(p))  # variables scaled to a diagonal of ones
    p = jnp.where(both, p * unit[:, None] * unit[None, :], 0.0)
    floor = jnp.where(real, margin / unit, 0.0)
    times = partial(jnp.matmul, precision="highest")
    q = jnp.where(real, linear * unit + times(p, floor), 0.0)
    slack = SLACK * jnp.max(jnp.abs(q), initial=0.0)

    def solved(free: Array) -> tuple[Array, Array]:
        fixed = ~(free[:, None] & free[None, :])
        matrix = jnp.where(fixed, jnp.eye(len(q)), p)
        u = jnp.linalg.solve(matrix, jnp.where(free, -q, 0.0))
        return u, jnp.where(free, u, times(p, u) + q) < -slack

    def pivot(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        free, _, rounds = carry
        wrong = solved(free)[1]
        last = jnp.max(jnp.where(wrong, jnp.arange(len(q)), -1))
        free = free ^ (jnp.arange(len(q)) == last)
        return free, jnp.any(wrong), rounds + 1

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        return carry[1] & (carry[2] < ROUNDS * len(q))

    start = (jnp.zeros(len(q), bool), jnp.array(True), jnp.int32(0))
    free = jax.lax.while_loop(goes_on, pivot, start)[0]
    u = jnp.maximum(jnp.where(free, solved(free)[0], 0.0), 0.0)
    return jnp.where(real, (u + floor) * unit, 0.0)
