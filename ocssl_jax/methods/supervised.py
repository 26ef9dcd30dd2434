"""Classification: cross entropy of one linear head, for streams that come with labels.

The head tells all classes apart from the start and is never masked; no task is known
when it is asked. A strategy that replays may want its rows kept apart from the
stream's: they then pass the network in a call of their own, after the stream's rows, so
that BN sees each source by itself, as the code of MIR and its baselines does.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.core import Array, Batch, Head, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import GatedHead, Projector
from ocssl_jax.losses import cross_entropy
from ocssl_jax.methods.network import network


def supervised(
    backbone: nn.Module, *, classes: int, gated: bool, dropout: float, dtype: DTypeLike
) -> Method:
    """A classifier on `backbone`; one view, and its projections are the logits.

    Args:
      backbone: images [n h w c] to features [n f].
      classes: k, labels are 0 .. k - 1.
      gated: the logits are multiplied by the sigmoid of another linear map.
      dropout: share of the features that the head does not see in training.
      dtype: of the head's computation.
    """
    head: nn.Module = (
        GatedHead(classes, dtype)
        if gated
        else Projector(classes, False, dtype, layers=1, norms="none")
    )
    init, forward = network(backbone, head)

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        images, e, z = batch.views[0], [], []
        for i, rows in enumerate(_sources(batch)):
            if i and batch.bystanders:
                model = moved(params, model, *batch.bystanders)
            seen = forward(
                params, model, images[rows], train=train, mask=batch.mask[rows]
            )
            e.append(seen.e)
            if train and dropout:
                k = jax.random.fold_in(key, i)
                z.append(dropped(k, params, seen.e, batch.mask[rows]))
            else:
                z.append(seen.z)
            model = seen.model
        # Back in the batch's order, in which replayed rows come first.
        features, logits = (jnp.concatenate(parts[::-1]) for parts in (e, z))
        losses = cross_entropy(logits, batch.items["label"], batch.mask)
        return Outputs(losses, features[None], logits[None], model)

    def moved(params: Params, model: Model, images: Array, mask: Array) -> Model:
        return forward(params, model, images, train=True, mask=mask).model

    def dropped(key: Key, params: Params, e: Array, mask: Array) -> Array:
        kept = jax.random.bernoulli(key, 1 - dropout, e.shape)
        e = jnp.where(kept, e / (1 - dropout), 0.0)
        z: Any = head.apply({"params": params["projector"]}, e, train=True, mask=mask)
        return z

    def own(params: Params) -> Head:
        layers: Any = params["projector"]
        if not gated:
            return dict(layers["linear1"])
        gate = {f"gate_{k}": v for k, v in layers["gated"]["gate"].items()}
        return {**layers["gated"]["linear"], **gate}

    return Method(init, forward, loss, head=own, views=1)


def _sources(batch: Batch) -> list[slice]:
    """Rows that pass the network together, in the order in which they do."""
    if not (batch.apart and batch.replayed):
        return [slice(None)]
    return [slice(batch.replayed, None), slice(batch.replayed)]
