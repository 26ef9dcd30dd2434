"""Classification by words: CLIP's two towers and the objectives of `ocssl_jax.clip`.

Images pass the backbone and a linear map, the text of each class the text tower; both
end in one space, and an image is of the class whose text is nearest. All weights are
trained. What an objective carries from step to step, such as the moving averages of
GCL, is part of `model`; the words are constants.

A batch must say how many images of each class the pool holds that it was drawn from
(`Batch.pool`): its rows are taken for a uniform draw, and each counts with the share
n / (n_k b) that makes every estimate unbiased (`clip.sampler`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.clip import criteria
from ocssl_jax.clip.architecture import ARCHITECTURES, Architecture, Tower
from ocssl_jax.clip.tokenizer import Tokenizer, load_tokenizer
from ocssl_jax.clip.towers import TextTower
from ocssl_jax.clip.zero_shot import (
    class_features,
    class_tokens,
    similarities,
    text_identity,
)
from ocssl_jax.core import Array, Batch, Head, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Projector
from ocssl_jax.methods.network import network


def clip(
    backbone: nn.Module,
    *,
    class_names: tuple[str, ...],
    train_images: int,
    projection: int,
    objective: str,
    objectives: Mapping[str, Mapping[str, Any]],
    text: Mapping[str, int],
    templates: tuple[str, ...],
    merges: str,
    dtype: DTypeLike,
) -> Method:
    """A classifier by words on `backbone`.

    Args:
      backbone: images [n h w c] to features [n f].
      class_names: of the k labels.
      train_images: of the data set, N; the ids of a batch's rows are below it.
      projection: width of the space that both towers share.
      objective: a name of `clip.criteria.CRITERIA`.
      objectives: the settings of each.
      text: `width`, `layers` and `heads` of the text tower, `context` in tokens.
      templates: what a class is called, {} in the name's place; their mean counts.
      merges: a file or folder of `clip.tokenizer.load_tokenizer`; '': bytes alone.
      dtype: of the text tower's and the map's computation.

    Raises:
      ValueError: if a setting is not possible.
    """
    if objective not in criteria.CRITERIA:
        known = ", ".join(criteria.CRITERIA)
        raise ValueError(f"objective must be one of {known}, got {objective!r}")
    if not class_names:
        raise ValueError("classes need names, and those of the data set are not known")
    criterion = criteria.CRITERIA[objective](**objectives[objective])
    tokenizer = _tokenizer(merges, text["context"])
    architecture = _architecture(text, projection, tokenizer)
    words = class_tokens(tokenizer, architecture, class_names, templates)
    tokens, identity = jnp.asarray(words), jnp.asarray(text_identity(words))
    tower = TextTower(architecture, dtype)
    projector = Projector(projection, False, dtype, layers=1, norms="none")
    init_image, forward = network(backbone, projector)
    first = lambda: criterion.init(train_images, len(class_names))
    structure = jax.tree.structure(jax.eval_shape(first))

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        k_image, k_text = jax.random.split(key)
        params, model = init_image(k_image, image)
        params["text"] = tower.init(k_text, tokens[0])["params"]
        model["seen"] = jnp.zeros(len(class_names), bool)
        return params, model | {"objective": _named(first())}

    def class_rows(params: Params) -> Array:
        encode: Any = lambda rows: tower.apply({"params": params["text"]}, rows)
        return class_features(encode, tokens)

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        assert batch.pool is not None
        found = forward(params, model, batch.views[0], train=train, mask=batch.mask)
        cosines = similarities(found.z, class_rows(params))
        classes = criteria.Classes(
            identity, batch.pool, model["seen"] | (batch.pool > 0)
        )
        kept = jax.tree.unflatten(structure, list(model["objective"].values()))
        total, kept, told = criterion.loss(kept, cosines, _rows(batch), classes)
        total = _told(total, told)
        after = found.model | {"seen": classes.seen, "objective": _named(kept)}
        rows = jnp.broadcast_to(total, batch.mask.shape)
        return Outputs(rows, found.e[None], found.z[None], after)

    def head(params: Params) -> Head:
        linear, classes = params["projector"]["linear1"], class_rows(params)
        multiply = lambda x: jnp.matmul(x, classes.T, precision="highest")
        return {"kernel": multiply(linear["kernel"]), "bias": multiply(linear["bias"])}

    return Method(
        init,
        forward,
        loss,
        head=head,
        views=1,
        whole=True,
        met=True,
        pooled=True,
        own=("objective", "seen"),
    )


def _rows(batch: Batch) -> criteria.Batch:
    """The batch as objectives see it, each row with its share."""
    label, pool = batch.items["label"], batch.pool
    assert pool is not None
    count = jnp.maximum(pool[label] * jnp.sum(batch.mask), 1)
    share = jnp.where(batch.mask, jnp.sum(pool) / count, 0.0)
    image, id = batch.items["image"], batch.items["id"]
    return criteria.Batch(image, label, id, batch.mask, share)


def _told(total: Array, told: Mapping[str, Array]) -> Array:
    """The loss with the value of its objective, where its own means nothing."""
    own = jax.lax.stop_gradient(total)
    return total - own + told.get("objective", told.get("contrast", own))


def _tokenizer(merges: str, context: int) -> Tokenizer:
    if merges:
        return load_tokenizer(merges, context=context)
    return Tokenizer((), context=context)


def _architecture(
    text: Mapping[str, int], features: int, tokenizer: Tokenizer
) -> Architecture:
    """The text tower's sizes; those of the image tower are the backbone's own."""
    return dataclasses.replace(
        ARCHITECTURES["micro"],
        text=Tower(text["width"], text["layers"], text["heads"]),
        features=features,
        context=text["context"],
        vocabulary=tokenizer.end + 1,
    )


def _named(state: Any) -> dict[str, Array]:
    """The leaves of what an objective carries, as files and checkpoints have names."""
    return {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
