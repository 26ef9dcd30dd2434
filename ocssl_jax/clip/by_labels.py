"""CLIP's image tower by labels alone: the supervised contrastive loss.

CaSSLe's and Co2L's objective in the protocol of continual CLIP. Rows of one class
attract each other, all others repel, in the space that images share with the words
(Khosla et al. 2020). No word is read: the text tower stays as it is, up to the
optimizer's weight decay, and what is learnt wants a classifier of its own.

  L    = mean over anchors, both views, of -mean over their class of log softmax(s / T)
  L(p, t) = -(log softmax over t of <p_i, t_j> / T + the same over p) / 2, at j = i

The second is the objective read as a distance, which CaSSLe distils by: CLIP's loss
between predictions and targets, as in the code released with Fini et al. (2022).
"""

from functools import partial

import chex
import jax.numpy as jnp

from ocssl_jax.clip.objectives import info_nce
from ocssl_jax.clip.zero_shot import similarities
from ocssl_jax.core import Array, Batch, Key, Method, Model, Outputs, Params
from ocssl_jax.losses import sup_con


def by_labels(method: Method, *, temperature: float) -> Method:
    """`method`, of words, with this loss in the place of its own; two views.

    Rows outside of the batch's `loss_mask` are no anchors, but are contrasted with.

    Args:
      method: of `methods.clip.by_words`.
      temperature: T, of both losses.
    """

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        assert batch.pool is not None
        chex.assert_axis_dimension(batch.views, 0, 2)
        e, z = [], []
        for view in batch.views:
            found = method.forward(params, model, view, train=train, mask=batch.mask)
            model = found.model
            e.append(found.e)
            z.append(found.z)
        both = jnp.stack(z)
        total = sup_con(
            both,
            batch.mask,
            batch.loss_mask,
            alike(batch.items["label"], batch.mask),
            temperature=temperature,
        )
        assert method.meet is not None
        after = method.meet(model, batch.pool)
        each = jnp.broadcast_to(total, batch.mask.shape)
        return Outputs(each, jnp.stack(e), both, after)

    return method._replace(
        loss=loss, views=2, distill=partial(between, temperature=temperature)
    )


def alike(label: Array, mask: Array) -> Array:
    """[n n] bool: pairs of real rows of one class."""
    return (label[:, None] == label[None, :]) & mask[:, None] & mask[None, :]


def between(
    prediction: Array, target: Array, mask: Array, *, temperature: float
) -> Array:
    """The contrast [m] of rows [m d] with those at the same place; masked rows are 0.

    All other rows are negatives, another view of the same image too.
    """
    chex.assert_equal_shape([prediction, target])
    cosines = similarities(prediction, target)
    return info_nce(cosines, jnp.arange(len(mask)), mask, temperature=temperature)
