"""What a strategy asks of the method and of the sizes; most go with all methods."""

import inspect
from collections.abc import Callable

from ml_collections import ConfigDict

from ocssl_jax.core import Method
from ocssl_jax.errors import UsageError
from ocssl_jax.scopes import CLASSIFIER
from ocssl_jax.strategies import STRATEGIES, SUPERVISED
from ocssl_jax.strategies.rals import chosen_units
from ocssl_jax.wiring import group, made

# Of a method with a pool, the strategies that it goes with, and by which objective.
POOLED = {
    "ewc": "cross_entropy",
    "icarl": "cross_entropy",
    "foster": "cross_entropy",
    "der": "cross_entropy",
    "cassle": "sup_con",
    "co2l": "sup_con",
}
WORDS = ("co2l", "foster", "der")  # go with these methods alone
GENERATIVE = ("gen", "gen_mir", "ae", "ae_mir")
TWO_VIEWS = frozenset({"osiris_r", "scale"})


def check_pair(config: ConfigDict, method: Method) -> None:
    """Refuse what `method` cannot do for the config's strategy.

    Raises:
      UsageError: naming the field and what it may hold.
    """
    for check in CHECKS:
        check(config, method)


def needs_distance(config: ConfigDict, method: Method) -> None:
    """The criterion 'ssl' reads the method's objective as a distance of two arrays."""
    name = config.strategy.name
    if "align_criterion" not in inspect.signature(STRATEGIES[name]).parameters:
        return
    fields = {**config.strategy, **group(config.strategy, name)}  # its own ones win
    if fields["align_criterion"] == "ssl" and method.distill is None:
        raise UsageError(
            "config.strategy.align_criterion must be one of cosine, mse, got 'ssl': "
            f"method {config.method.name} compares no two arrays of projections"
        )


def needs_two_views(config: ConfigDict, method: Method) -> None:
    """Some strategies' own losses contrast the two views of an image."""
    name = config.strategy.name
    if name in TWO_VIEWS and method.views != 2:
        raise UsageError(
            f"strategy {name!r} needs a method with two views of an image, and "
            f"config.method.name {config.method.name!r} has {method.views}"
        )


def needs_room(config: ConfigDict, method: Method) -> None:
    """Replay starts once the memory holds more than it draws: never, if it cannot."""
    del method
    replayed, held = config.strategy.replay_size, config.strategy.memory_size
    replays = inspect.signature(STRATEGIES[config.strategy.name]).parameters
    if "replay_size" in replays and replayed >= held:
        raise UsageError(
            f"config.strategy.replay_size must be below strategy.memory_size {held}, "
            f"got {replayed}"
        )


def needs_whole_parts(config: ConfigDict, method: Method) -> None:
    """RALS judges parts of the pool where a method has one loss for a whole batch."""
    if config.strategy.name != "rals":
        return
    own, stream = config.strategy.rals, config.stream.batch_size
    part = own.part_size if method.whole else 1
    replayed = config.strategy.replay_size
    pool = {"stream.batch_size": stream, "strategy.replay_size": replayed}
    for field, rows in pool.items():
        if rows % part and own.pure_parts:
            raise UsageError(
                f"config.{field} must be a multiple of strategy.rals.part_size {part} "
                f"with method {config.method.name}, got {rows}"
            )
    if sum(pool.values()) % part:
        raise UsageError(
            f"config.strategy.replay_size and stream.batch_size must add up to a "
            f"multiple of strategy.rals.part_size {part}, got {sum(pool.values())}"
        )
    made(chosen_units, "strategy.rals", sum(pool.values()), own.selected, part)


def needs_labels(config: ConfigDict, method: Method) -> None:
    """Only supervised methods classify, and have rows pass the network by source."""
    if method.head is not None:
        return
    name, fields = config.strategy.name, group(config.strategy, config.strategy.name)
    asked = [
        f"config.strategy.{name}.{field}=True"
        for field in ("past_only", "apart")
        if fields.get(field)
    ]
    if name in SUPERVISED:
        asked = [f"config.strategy.name={name}"]
    if CLASSIFIER in config.probe.names:
        asked += ["config.probe.names=classifier"]
    if asked:
        raise UsageError(
            f"{asked[0]} needs a supervised method (method.name=supervised), got "
            f"{config.method.name!r}"
        )


def needs_one_picture(config: ConfigDict, method: Method) -> None:
    """A mixture of two images has no one label."""
    if config.strategy.name == "lump" and method.head is not None:
        raise UsageError(
            "config.strategy.name must not be 'lump' with a supervised method: a "
            "mixture of two images has two labels"
        )


def needs_a_start(config: ConfigDict, method: Method) -> None:
    """A generator, as an autoencoder, learns from the stream: else it replays noise."""
    del method
    if config.strategy.name in GENERATIVE and config.stream.known:
        raise UsageError(
            f"config.stream.known must be 0 with strategy {config.strategy.name!r}, "
            f"whose generator has seen nothing yet, got {config.stream.known}"
        )


def needs_plain_logits(config: ConfigDict, method: Method) -> None:
    """The classifier of iCaRL is linear because its logits are, in the features."""
    del method
    if config.strategy.name == "icarl" and config.method.supervised.gated:
        raise UsageError(
            "config.method.supervised.gated must be False with strategy icarl, got True"
        )


def needs_pool(config: ConfigDict, method: Method) -> None:
    """Objectives over a pool take batches for draws from it: no strategy may draw.

    And those that are of single rows are none: only cross entropy is a likelihood, and
    the same mean whatever the batch is drawn from. Those of images alone have another.
    """
    name, asked = config.method.name, config.strategy.name
    if method.pooled and asked not in ("none", *POOLED):
        raise UsageError(
            f"config.strategy.name must be one of none, {', '.join(POOLED)} with "
            f"method {name!r}, whose memory is stream.memory, got {asked!r}"
        )
    if asked in WORDS and not method.pooled:
        raise UsageError(
            f"config.method.name must be clip with strategy {asked!r}, got {name!r}"
        )
    if method.pooled and asked in POOLED:
        objective = config.method[name].objective
        if objective != POOLED[asked]:
            raise UsageError(
                f"config.method.{name}.objective must be {POOLED[asked]} with strategy "
                f"{asked!r}, got {objective!r}"
            )
        if asked == "der" and config.stream.kind == "blurred":
            raise UsageError(
                "config.stream.kind must not be blurred with strategy 'der', whose "
                "network has a block for each experience and none for those between"
            )
        if config.stream.memory and asked == "icarl":
            raise UsageError(
                f"config.stream.memory must be 0 with strategy {asked!r}, which has "
                f"exemplars, got {config.stream.memory}"
            )
        kept = asked in ("co2l", "der")  # for a classifier that comes last
        if kept and config.stream.memory > config.strategy.memory_size:
            raise UsageError(
                f"config.strategy.memory_size must be at least {config.stream.memory} "
                f"with strategy {asked!r}, the images of stream.memory, got "
                f"{config.strategy.memory_size}"
            )
    if "zero_shot" in config.baselines and not method.meet:
        raise UsageError(
            "config.baselines: 'zero_shot' needs a classifier by words "
            f"(method.name=clip), got {config.method.name!r}"
        )


CHECKS: tuple[Callable[[ConfigDict, Method], None], ...] = (
    needs_distance,
    needs_two_views,
    needs_room,
    needs_whole_parts,
    needs_labels,
    needs_one_picture,
    needs_a_start,
    needs_plain_logits,
    needs_pool,
)
