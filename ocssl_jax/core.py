"""The nouns of the library: what arrives, what one pass trains on, what is carried.

Data flows `Stream -> Batch -> Outputs`; everything that decides the future of a run
lives in one `TrainState`. Three plug-ins give it meaning, each a tuple of pure
functions made by a factory that closes over its settings:

* `Method`   an objective on a backbone (SimCLR, BYOL, ..., or classification),
* `Memory`   what is kept of the stream (reservoir, FIFO, CLIMB's centroids, ...),
* `Strategy` what continual learning adds to the plain step (replay, alignment, ...).

Shapes: b stream rows, r replayed rows, n = r + b rows of a pass, v views,
h w c image, f backbone features, d projector outputs, m rows of a memory query.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

Array = jax.Array
Key = jax.Array  # a typed PRNG key, jax.random.key
Params = Any  # pytree of arrays, trained
Model = Any  # pytree of arrays carried untrained: BN statistics, EMA targets
# Of one module: 'params' and, maybe empty, 'batch_stats'; saved ones may have a 'head'.
Variables = dict[str, Any]
Items = dict[str, Array]  # memory rows: 'image' [m h w c] uint8, 'id' [m] int32, ...
Prepare = Callable[[Array], Array]  # uint8 [m h w c] -> normalised float32
Embed = Callable[[Array], Array]  # uint8 [m h w c] -> float32 [m d]
# A linear classifier: 'kernel' [f k], 'bias' [k] float32; if gated, 'gate_kernel' and
# 'gate_bias' of the same shapes, whose sigmoid its logits are multiplied by.
Head = dict[str, Array]
Augment = Callable[[Key, Array], Array]  # uint8 [n h w c] -> float32 [v n h w c]


class Stream(NamedTuple):
    """One stream minibatch as it arrives; `label` is absent for unlabelled learning."""

    image: Array  # [b h w c] uint8
    id: Array  # [b] int32, the image's position in its data set
    mask: Array  # [b] bool, False where a last, short batch was padded
    boundary: Array  # [] bool, first batch of an experience; task-free parts ignore it
    label: Array | None = None  # [b] int32
    # [k] float32, images of each class among those that arrive in this experience; only
    # for methods that ask for it.
    pool: Array | None = None
    epoch: Array | None = None  # [] int32, how often the images came before; None: 0

    def items(self) -> Items:
        """The rows as a memory stores them: every field that has one entry a row."""
        rows = {"image": self.image, "id": self.id}
        return rows if self.label is None else rows | {"label": self.label}


@struct.dataclass
class Batch:
    """What one pass trains on: replayed rows first, then the stream's rows."""

    views: Array  # [v n h w c] float32, augmented and normalised
    mask: Array  # [n] bool, rows that count
    items: Items  # [n ...] the rows before augmentation
    slot: Array | None = None  # [r] int32, where the replayed rows live in the memory
    stored: Array | None = None  # [r d] float32, features stored with them
    replayed: int = struct.field(pytree_node=False, default=0)  # r
    # Replayed rows pass the network after the stream's, BN seeing each by itself; for
    # supervised methods.
    apart: bool = struct.field(pytree_node=False, default=False)
    objective: Array | None = None  # [n] bool, rows the SSL loss is over; None: mask
    # [] float32 each, what the draw has to tell; the log has the value of every pass.
    told: dict[str, Array] = struct.field(default_factory=dict)
    kept: Any = ()  # what a draw leaves for the `update` of its own strategy
    # Rows [m h w c] and their mask [m] that move BN's running statistics after the
    # stream's, and nothing else; for supervised methods.
    bystanders: tuple[Array, Array] | None = None
    pool: Array | None = None  # [k] float32, as the stream's

    @property
    def replay_mask(self) -> Array:
        """[r] bool: which replayed rows are real."""
        return self.mask[: self.replayed]

    @property
    def loss_mask(self) -> Array:
        """[n] bool: the real rows that the SSL loss is over, by default all."""
        return self.mask if self.objective is None else self.objective & self.mask


class Features(NamedTuple):
    """One forward pass: backbone features, projections, the model's new variables."""

    e: Array  # [m f] float32
    z: Array  # [m d] float32
    model: Model


class Term(NamedTuple):
    """A loss that is minimised at a weight which is part of what was found out."""

    value: Array  # [] float32
    weight: Array  # [] float32


class Outputs(NamedTuple):
    """What a method says of a batch; the mean of `loss` over real rows is minimised."""

    loss: Array  # [n] float32, per row (objectives of a whole batch are broadcast)
    e: Array  # [v n f] float32
    z: Array  # [v n d] float32
    model: Model
    terms: Any = ()  # the strategy's loss terms by name, in its `update`


def own_encoder(params: Params, model: Model) -> Variables:
    """The trained encoder itself."""
    return {"params": params["encoder"], "batch_stats": model["encoder"]}


def _keep(params: Params, model: Model) -> Model:
    del params
    return model


class Method(NamedTuple):
    """An objective on a backbone, self-supervised unless it has a `head`.

    `params` is a dict with the parts `encoder`, `projector` and whatever the method
    adds; strategies copy and average those two by name. `loss` may be over fewer rows
    than the encoder sees: those of `batch.loss_mask`. `distill` is the objective read
    as a distance, for strategies that align to a teacher; None where there is none.
    Without `train` a loss is only looked at: BN has its running statistics, but for
    predictors, which have none.
    """

    init: Callable[..., tuple[Params, Model]]  # (key, image [1 h w c] f32)
    forward: Callable[..., Features]  # (params, model, images, *, train, mask=None)
    loss: Callable[..., Outputs]  # (params, model, batch, key, *, train=True)
    update: Callable[..., Model] = _keep  # (params, model), after the optimizer
    encoder: Callable[..., Variables] = own_encoder  # (params, model), what is probed
    distill: Callable[..., Array] | None = None  # (p [m d], target [m d], mask) -> [m]
    # (params) -> Head on the encoder's features; None: the method is unsupervised, and
    # nothing ever tells it a label.
    head: Callable[[Params], Head] | None = None
    views: int = 2  # of every image in a pass
    pooled: bool = False  # its loss needs the batch's `pool`
    whole: bool = False  # its loss is one of all rows together, a `distill` of z1, z2
    # (model, pool [k]) -> model that has met the classes of a `pool`, among which, and
    # those met before, its head chooses; None: it chooses among all.
    meet: Callable[[Model, Array], Model] | None = None
    # Parts of `model` that are about a run's images: no other run goes on with them.
    own: tuple[str, ...] = ()
    # Of methods whose classes are directions among the projections:
    # (params, z [m d]) -> scores [m k]; None: projections are the scores themselves.
    logits: Callable[[Params, Array], Array] | None = None
    # (params, rows [k d]) -> the Head of the projections' products with `rows`.
    compared: Callable[[Params, Array], Head] | None = None


class Sample(NamedTuple):
    """Rows drawn from a memory without replacement; `mask` is False past its size."""

    items: Items  # [m ...]
    feature: Array  # [m d] float32
    slot: Array  # [m] int32
    mask: Array  # [m] bool


class Memory(NamedTuple):
    """What is kept of the stream. State is a pytree of fixed shape."""

    init: Callable[..., Any]  # (item, feature) -> state; one row each, no batch axis
    add: Callable[..., Any]  # (key, state, items, feature, mask, *, embed) -> state
    sample: Callable[..., Sample]  # (key, state, n)
    refresh: Callable[..., Any]  # (state, slot, feature, mask) -> state
    size: Callable[..., Array]  # (state) -> [] int32, rows held
    rows: Callable[..., tuple[Items, Array]]  # (state) -> all rows [N ...], valid [N]
    metrics: Callable[..., dict[str, Array]]  # (state) -> scalars for the log


@struct.dataclass
class Learner:
    """What a strategy may read of the learner, never change."""

    params: Params
    model: Model
    method: Method = struct.field(pytree_node=False)
    prepare: Prepare = struct.field(pytree_node=False)

    def encode(self, images: Array) -> Features:
        """Features and projections of uint8 [m h w c], with running BN statistics."""
        x = self.prepare(images)
        return self.method.forward(self.params, self.model, x, train=False)

    def embed(self, images: Array) -> Array:
        """Projections [m d] of uint8 images [m h w c], with running BN statistics."""
        return self.encode(images).z


@struct.dataclass
class TrainState:
    """Everything that decides the future of a run, and nothing else."""

    key: Key  # the run's key; step i uses fold_in(key, i)
    step: Array  # [] int32, stream batches learnt
    params: Params  # {'method': ..., 'strategy': ...}
    model: Model
    strategy: Any
    opt_state: Any
