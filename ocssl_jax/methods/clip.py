"""Classification by words: CLIP's two towers and the objectives of `ocssl_jax.clip`.

Images pass the backbone and a linear map, the text of each class the text tower; both
end in one space, and an image is of the class whose text is nearest. All weights are
trained. What an objective carries from step to step, such as the moving averages of
GCL, is part of `model`; the words are constants.

A batch must say how many images of each class the pool holds that it was drawn from
(`Batch.pool`); with it each row counts with the share that makes sums over anchors
unbiased, of a uniform draw or of a class-balanced one (`clip.sampler`).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from ocssl_jax.backbones.clip_vit import ImageEncoder
from ocssl_jax.clip import criteria
from ocssl_jax.clip.by_labels import by_labels
from ocssl_jax.clip.called import called
from ocssl_jax.clip.towers import SCALE
from ocssl_jax.clip.words import Words, own_words, spoken, tokenizer_of
from ocssl_jax.clip.zero_shot import similarities
from ocssl_jax.core import Array, Batch, Head, Key, Method, Model, Outputs, Params
from ocssl_jax.heads import Projector
from ocssl_jax.methods.network import architecture, network

LABELS = "sup_con"  # the objective that has the image tower alone, and no words


def clip(
    backbone: nn.Module,
    *,
    class_names: tuple[str, ...],
    train_images: int,
    balanced: int,
    projection: int,
    objective: str,
    objectives: Mapping[str, Mapping[str, Any]],
    text: Mapping[str, int],
    templates: tuple[str, ...],
    names: str,
    merges: str,
    weights: str,
    dtype: DTypeLike,
) -> Method:
    """A classifier by words on `backbone`.

    On the image tower of a CLIP the text tower and the space are that CLIP's.

    Args:
      backbone: images [n h w c] to features [n f].
      class_names: of the k labels, in the data set.
      train_images: of the data set, N; the ids of a batch's rows are below it.
      balanced: classes of a batch, if batches are class-balanced; 0: they are uniform.
      projection: width of the space that both towers share.
      objective: a name of `clip.criteria.CRITERIA`, or 'sup_con' (`clip.by_labels`).
      objectives: the settings of each.
      text: `width`, `layers` and `heads` of the text tower, `context` in tokens.
      templates: what a class is called, {} in the name's place; their mean counts.
      names: a file with other names of the classes (`clip.called`); '': none.
      merges: a file or folder of `clip.tokenizer.load_tokenizer`; '': bytes alone, or
        for a CLIP what lies beside its weights.
      weights: of a CLIP, where they lie; they are read elsewhere (`clip.start`).
      dtype: of the towers' computation.

    Raises:
      ValueError: if a setting is not possible.
    """
    if objective not in (*criteria.CRITERIA, LABELS):
        known = ", ".join((*criteria.CRITERIA, LABELS))
        raise ValueError(f"objective must be one of {known}, got {objective!r}")
    if not class_names:
        raise ValueError("classes need names, and those of the data set are not known")
    module, settings = architecture(backbone), objectives[objective]
    if isinstance(module, ImageEncoder):
        sizes, carried = module.architecture, {"logit_scale": SCALE}
        tokenizer = tokenizer_of(sizes, merges, weights)
    else:
        carried = {}
        sizes, tokenizer = own_words(text, projection, merges)
    spoken_as = called(class_names, names)
    words = spoken(sizes, tokenizer, spoken_as, templates, dtype)
    # With labels alone nothing but the words' classifier is of it.
    criterion = criteria.CRITERIA.get(objective, criteria.cross_entropy)
    method = by_words(
        backbone,
        # Of a CLIP it has no bias.
        Projector(
            sizes.features,
            False,
            jnp.float32,
            layers=1,
            norms="all" if carried else "none",
        ),
        words,
        criterion(**settings),
        train_images=train_images,
        temperature=settings["temperature"],
        balanced=bool(balanced),
        carried=carried,
    )
    if objective == LABELS:
        return by_labels(method, temperature=settings["temperature"])
    return method


def by_words(
    backbone: nn.Module,
    projector: nn.Module,
    words: Words,
    criterion: criteria.Criterion,
    *,
    train_images: int,
    temperature: float,
    balanced: bool = False,
    carried: Mapping[str, float] | None = None,
) -> Method:
    """The method of any backbone, words and criterion.

    Args:
      backbone: images to features [n f].
      projector: a linear map of features to the space of the words.
      words: the classes' rows.
      criterion: what is minimised.
      train_images: N, see `clip`.
      temperature: of the classifier's scores.
      balanced: whether batches are class-balanced.
      carried: numbers that are kept as they are.
    """
    init_image, forward = network(backbone, projector)
    k = len(words.identity)
    first = lambda: criterion.init(train_images, k)
    structure = jax.tree.structure(jax.eval_shape(first))

    def init(key: Key, image: Array) -> tuple[Params, Model]:
        k_image, k_text = jax.random.split(key)
        params, model = init_image(k_image, image)
        params["text"] = words.init(k_text)
        model |= {name: jnp.float32(x) for name, x in (carried or {}).items()}
        model["seen"] = jnp.zeros(k, bool)
        return params, model | {"objective": _named(first())}

    def loss(
        params: Params, model: Model, batch: Batch, key: Key, *, train: bool = True
    ) -> Outputs:
        del key
        assert batch.pool is not None
        found = forward(params, model, batch.views[0], train=train, mask=batch.mask)
        cosines = similarities(found.z, words.rows(params["text"]))
        met = meet(found.model, batch.pool)
        classes = criteria.Classes(words.identity, batch.pool, met["seen"])
        kept = jax.tree.unflatten(structure, list(model["objective"].values()))
        rows = rows_of(batch, balanced=balanced)
        total, kept, told = criterion.loss(kept, cosines, rows, classes)
        total = _told(total, told)
        after = met | {"objective": _named(kept)}
        each = jnp.broadcast_to(total, batch.mask.shape)
        return Outputs(each, found.e[None], found.z[None], after)

    def compared(params: Params, rows: Array) -> Head:
        linear = params["projector"]["linear1"]
        multiply = lambda x: jnp.matmul(x, rows.T, precision="highest")
        bias = multiply(linear["bias"]) if "bias" in linear else jnp.zeros(len(rows))
        return {"kernel": multiply(linear["kernel"]), "bias": bias}

    def logits(params: Params, z: Array) -> Array:
        return similarities(z, words.rows(params["text"])) / temperature

    return Method(
        init,
        forward,
        loss,
        head=lambda params: compared(params, words.rows(params["text"])),
        views=1,
        whole=True,
        meet=meet,
        pooled=True,
        own=("objective", "seen"),
        logits=logits,
        compared=compared,
    )


def rows_of(batch: Batch, *, balanced: bool) -> criteria.Batch:
    """The batch as objectives see it, each row with its share (`clip.sampler`)."""
    label, pool, mask = batch.items["label"], batch.pool, batch.loss_mask
    assert pool is not None
    if balanced:
        own = jax.ops.segment_sum(mask.astype(jnp.float32), label, len(pool))
        share = jnp.sum(pool > 0) / jnp.maximum(jnp.sum(own > 0), 1) / own[label]
    else:
        share = jnp.sum(pool) / jnp.maximum(pool[label] * jnp.sum(mask), 1)
    image, id = batch.items["image"], batch.items["id"]
    return criteria.Batch(image, label, id, mask, jnp.where(mask, share, 0.0), balanced)


def meet(model: Model, pool: Array) -> Model:
    """The classes of a `pool` [k] are met."""
    return model | {"seen": model["seen"] | (pool > 0)}


def _told(total: Array, told: Mapping[str, Array]) -> Array:
    """The loss with the value of its objective, where its own means nothing."""
    own = jax.lax.stop_gradient(total)
    return total - own + told.get("objective", told.get("contrast", own))


def _named(state: Any) -> dict[str, Array]:
    """The leaves of what an objective carries, as files and checkpoints have names."""
    return {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
