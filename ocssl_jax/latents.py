"""Gradient ascent in the latent space of a generator: where a gain is largest.

As the code of GEN-MIR (Aljundi et al. 2019) searches, chunk after chunk of latents:

z <- a start;   `steps` times:  z <- z + gradient of
    gain(z)  +  diversity * mean square distance to the chunks found so far, row by row
             -  shell * mean (|z| - sqrt(dimensions))^2

The distance stands in for the text's constraint that what is found differs. Steps have
length 1; gains are means over a chunk's rows, so that a row moves by 1 / rows of its
own gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ocssl_jax.core import Array, Key

Gain = Callable[[Key, Array], Array]  # (key, latents [b z]) -> []
EPSILON = 1e-12  # inside the root: the norm of a zero row has a gradient then


def off_shell(z: Array) -> Array:
    """Mean square distance [] of rows [b z] from the sphere most of a normal is on."""
    norm = jnp.sqrt(jnp.sum(jnp.square(z), axis=1) + EPSILON)
    return jnp.mean(jnp.square(norm - z.shape[1] ** 0.5))


def apart(z: Array, found: Array, count: Array) -> Array:
    """Mean square distance [] of [b z] from the first `count` of chunks [m b z]."""
    distance = jnp.mean(jnp.square(z[None] - found), axis=(1, 2))
    earlier = jnp.arange(len(found)) < count
    return jnp.sum(jnp.where(earlier, distance, 0.0)) / jnp.maximum(count, 1)


def search(
    key: Key,
    gain: Gain,
    start: Array,
    *,
    steps: int,
    diversity: float,
    shell: float,
    fresh_noise: bool,
) -> Array:
    """Latents [m b z] of high gain.

    Args:
      key: of what the gain draws.
      gain: of one chunk.
      start: [m b z], where the ascent of each chunk starts.
      steps: of the ascent.
      diversity: weight of the distance to earlier chunks.
      shell: weight of the distance to the shell.
      fresh_noise: each step draws anew, instead of one draw for a chunk's whole ascent.
    """

    def chunk(found: Array, i: Array) -> tuple[Array, None]:
        k = jax.random.fold_in(key, i)

        def total(z: Array, k: Key) -> Array:
            spread = diversity * apart(z, found, i)
            return gain(k, z) + spread - shell * off_shell(z)

        def climb(step: Array, z: Array) -> Array:
            return z + jax.grad(total)(
                z, jax.random.fold_in(k, step) if fresh_noise else k
            )

        return found.at[i].set(jax.lax.fori_loop(0, steps, climb, start[i])), None

    return jax.lax.scan(chunk, start, jnp.arange(len(start)))[0]


def finite_or(fresh: Array, found: Array) -> tuple[Array, Array]:
    """`found`, or `fresh` if any of it is no number; and [] float32, whether it was."""
    lost = ~jnp.all(jnp.isfinite(found))
    return jnp.where(lost, fresh, found), lost.astype(jnp.float32)
