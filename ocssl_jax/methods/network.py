"""Encoder, projector and predictor as pure functions: what most objectives share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ocssl_jax.core import Array, Batch, Features, Key, Model, Params

Init = Callable[[Key, Array], tuple[Params, Model]]
Forward = Callable[..., Features]
Predict = Callable[[Params, Array, Array], Array]  # (params, z [v n d], mask [n])


def architecture(backbone: Any) -> nn.Module:
    """The Linen module behind a backbone that may start from given weights."""
    module: nn.Module = getattr(backbone, "module", backbone)
    return module


def network(backbone: nn.Module, projector: nn.Module) -> tuple[Init, Forward]:
    """Functions `init` and `forward` of the two modules, one after the other.

    `params` and `model` are dicts with the parts `encoder` and `projector`; `model`
    holds the parts' running BN statistics (empty where a part has none). `head_mask`
    is the projector's mask where it sees fewer rows than the encoder. The backbone may
    be anything with a module's `init` and `apply`, such as `pretrained.Pretrained`.
    """
    parts = {"encoder": backbone, "projector": projector}

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        x: Any = image
        params, model = {}, {}
        for (name, module), k in zip(
            parts.items(), jax.random.split(key, len(parts)), strict=True
        ):
            variables = module.init(k, x, train=False)
            x = module.apply(variables, x, train=False)
            params[name] = variables.get("params", {})
            model[name] = variables.get("batch_stats", {})
        return params, model

    def forward(
        params: Params,
        model: Model,
        images: Array,
        *,
        train: bool,
        mask: Array | None = None,
        head_mask: Array | None = None,
    ) -> Features:
        masks = {"encoder": mask, "projector": mask if head_mask is None else head_mask}
        x: Any = images
        outputs, new_model = [], dict(model)
        for name, module in parts.items():
            variables = {"params": params[name], "batch_stats": model[name]}
            if train:
                x, moved = module.apply(
                    variables, x, train=True, mask=masks[name], mutable=["batch_stats"]
                )
                new_model[name] = moved.get("batch_stats", model[name])
            else:
                x = module.apply(variables, x, train=False)
            outputs.append(x)
        e, z = outputs
        return Features(e, z, new_model)

    return init, forward


def per_view(
    forward: Forward, params: Params, model: Model, batch: Batch, *, train: bool = True
) -> tuple[Array, Array, Model]:
    """Features [v n f], projections [v n d] and model, view after view.

    Training, the encoder sees the batch's real rows and the projector those that the
    loss is over; else running statistics stand in for those of the rows.
    """
    e, z = [], []
    for view in batch.views:
        seen = forward(
            params,
            model,
            view,
            train=train,
            mask=batch.mask,
            head_mask=batch.loss_mask,
        )
        model = seen.model
        e.append(seen.e)
        z.append(seen.z)
    return jnp.stack(e), jnp.stack(z), model


def with_predictor(
    init: Init, predictor: nn.Module, width: int
) -> tuple[Init, Predict]:
    """`init` with the trained part `predictor` added, and `predict`, its application.

    `predict` takes projections [v n d] with d = `width`, view after view, each with BN
    statistics of its own. There are no running ones: nothing predicts outside training.
    """

    def init_all(key: Key, image: Array) -> tuple[Params, Model]:
        k_network, k_predictor = jax.random.split(key)
        params, model = init(k_network, image)
        example = jnp.zeros((2, width))
        head = predictor.init(k_predictor, example, train=True)["params"]
        return params | {"predictor": head}, model

    def predict(params: Params, z: Array, mask: Array) -> Array:
        def one(view: Array) -> Array:
            y: Any
            y, _ = predictor.apply(
                {"params": params["predictor"]},
                view,
                train=True,
                mask=mask,
                mutable=["batch_stats"],
            )
            return y

        return jnp.stack([one(view) for view in z])

    return init_all, predict
