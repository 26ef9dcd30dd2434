"""What the fields of a config may hold; a wrong one is answered by one line.

Names are checked where their registries are at hand (`build.check_names`).
"""

import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from ocssl_jax.dotted import flat, get
from ocssl_jax.errors import UsageError, one_of

Check = tuple[Callable[[Any], bool], str]
POSITIVE: Check = (lambda x: x >= 1, "at least 1")
COUNT: Check = (lambda x: x >= 0, "0 or more")
WIDTH: Check = (lambda x: 1 <= x <= 2**20, "in [1, 2^20]")
OWN_WIDTH: Check = (lambda x: 0 <= x <= 2**20, "in [0, 2^20]")
ABOVE_0: Check = (lambda x: x > 0, "above 0")
SEED: Check = (lambda x: 0 <= x < 2**32, "in [0, 2^32)")
SHARE: Check = (lambda x: 0 <= x < 1, "in [0, 1)")

NORMS = ("all", "hidden", "none")
PIXELS = ("standard", "signed", "clip")
STARTS = ("backbone.pretrained", "method.pretrained", "method.clip.weights")

CHECKS: dict[str, Check] = {
    "passes": POSITIVE,
    "chunk": COUNT,
    "mesh.seed": COUNT,
    "mesh.data": COUNT,
    "stream.image_size": (lambda x: 0 <= x <= 4096, "in [0, 4096]"),
    "stream.tasks": POSITIVE,
    "stream.classes": COUNT,
    "stream.blur": POSITIVE,
    "stream.epochs": POSITIVE,
    "stream.known": COUNT,
    "stream.val_ratio": SHARE,
    "stream.batch_size": POSITIVE,
    "stream.limit": COUNT,
    "stream.samples": COUNT,
    "stream.look": ABOVE_0,
    "stream.quiet": COUNT,
    "stream.memory": COUNT,
    "stream.balanced": COUNT,
    "backbone.width": OWN_WIDTH,
    "backbone.depth": OWN_WIDTH,
    "method.projection": WIDTH,
    "method.projector.layers": WIDTH,
    "method.projector.hidden": OWN_WIDTH,
    "method.clip.text.width": WIDTH,
    "method.clip.text.layers": POSITIVE,
    "method.clip.text.heads": POSITIVE,
    "method.clip.text.context": (lambda x: 8 <= x <= 2**16, "in [8, 2^16]"),
    "method.supervised.classes": (lambda x: 2 <= x <= 2**20, "in [2, 2^20]"),
    "method.mae.mask_ratio": (lambda x: 0 < x < 1, "in (0, 1)"),
    "method.mae.decoder_layers": POSITIVE,
    "method.mae.decoder_heads": POSITIVE,
    "method.simsiam.prediction_hidden": WIDTH,
    "method.byol.prediction_hidden": WIDTH,
    "method.byol.momentum": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "method.barlow_twins.off_diagonal": COUNT,
    "method.barlow_twins.scale": ABOVE_0,
    "method.vicreg.invariance": COUNT,
    "method.vicreg.variance": COUNT,
    "method.vicreg.covariance": COUNT,
    "strategy.replay_size": POSITIVE,
    "strategy.memory_size": POSITIVE,
    "strategy.feature_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "strategy.ema_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "strategy.align_hidden": WIDTH,
    "strategy.osiris_r.temperature": ABOVE_0,
    "strategy.osiris_r.ssl_temperature": COUNT,
    "strategy.osiris_r.learning_rate_factor": ABOVE_0,
    "strategy.scale.projection": WIDTH,
    "strategy.scale.temperature": ABOVE_0,
    "strategy.scale.past_temperature": ABOVE_0,
    "strategy.scale.positive_ratio": SHARE,
    "strategy.scale.distill_power": COUNT,
    "strategy.lump.alpha": ABOVE_0,
    "strategy.er_mir.candidates": POSITIVE,
    "strategy.gem.margin": COUNT,
    "strategy.icarl.task_size": POSITIVE,
    "strategy.icarl.distill_weight": COUNT,
    "strategy.icarl.temperature": ABOVE_0,
    "strategy.co2l.task_size": POSITIVE,
    "strategy.co2l.distill_weight": COUNT,
    "strategy.co2l.classifier_steps": POSITIVE,
    "strategy.co2l.classifier_rate": ABOVE_0,
    "strategy.foster.distill_weight": COUNT,
    "strategy.der.auxiliary_weight": COUNT,
    "strategy.der.task_size": POSITIVE,
    "strategy.der.classifier_steps": POSITIVE,
    "strategy.der.classifier_rate": ABOVE_0,
    "strategy.ewc.weight": COUNT,
    "strategy.ewc.samples": POSITIVE,
    "strategy.ewc.largest": ABOVE_0,
    "method.supervised.dropout": SHARE,
    "strategy.gen_mir.generator_rate": ABOVE_0,
    "strategy.gen_mir.steps": POSITIVE,
    "strategy.ae_mir.candidates": POSITIVE,
    "strategy.ae_mir.steps": POSITIVE,
    "strategy.ae_mir.step_size": ABOVE_0,
    "strategy.rals.selected": COUNT,
    "strategy.rals.part_size": (lambda x: x >= 2, "at least 2"),
    "optimizer.learning_rate": ABOVE_0,
    "optimizer.momentum": SHARE,
    "optimizer.weight_decay": COUNT,
    "optimizer.trust_coefficient": ABOVE_0,
    "optimizer.divisor": ABOVE_0,
    "optimizer.period": COUNT,
    "optimizer.warmup": COUNT,
    "probe.every": POSITIVE,
    "probe.labels_per_class": COUNT,
    "probe.batch_size": (lambda x: 1 <= x <= 65536, "in [1, 65536]"),
    "probe.seed": SEED,
    "probe.val_ratio": SHARE,
    "stream.seed": SEED,
    "checkpoint.every": POSITIVE,
    "checkpoint.keep": POSITIVE,
    "log.every": POSITIVE,
}

GENERATOR: dict[str, Check] = {
    "replay_batches": POSITIVE,
    "replay_weight": COUNT,
    "generator.hidden": WIDTH,
    "generator.latent": WIDTH,
    "generator.depth": POSITIVE,
    "generator.dropout": SHARE,
    "generator.learning_rate": ABOVE_0,
    "generator.max_beta": COUNT,
    "generator.warmup": COUNT,
}
for strategy in ("gen", "gen_mir"):
    CHECKS |= {f"strategy.{strategy}.{k}": check for k, check in GENERATOR.items()}

HYBRID: dict[str, Check] = {
    "autoencoder.width": WIDTH,
    "autoencoder.learning_rate": ABOVE_0,
    "strength": ABOVE_0,
}
for strategy in ("ae", "ae_mir"):
    CHECKS |= {f"strategy.{strategy}.{k}": check for k, check in HYBRID.items()}


def validate(config: ConfigDict) -> None:
    """Check ranges; names are checked where their registries are at hand.

    Raises:
      UsageError: naming the field, its value and what is allowed.
    """
    for name, value in flat(config.to_dict()).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"config.{name} must be a finite number, got {value!r}")
    for name, (holds, words) in CHECKS.items():
        value = get(config, name)
        if not holds(value):
            raise UsageError(f"config.{name} must be {words}, got {value!r}")
    seeds = config.seeds
    if not seeds or not all(type(s) is int and 0 <= s < 2**31 for s in seeds):
        raise UsageError(
            f"config.seeds must be integers in [0, 2^31) such as 0,1,2, got {seeds!r}"
        )
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"config.seeds must differ from each other, got {seeds!r}")
    for name in config.baselines:
        if name == config.strategy.name or list(config.baselines).count(name) > 1:
            raise UsageError(
                f"config.baselines must be other strategies than strategy.name, each "
                f"once, got {tuple(config.baselines)!r}"
            )
    if config.stream.memory and config.stream.samples:
        raise UsageError(
            "config.stream.samples must be 0 with stream.memory, which is chosen among "
            f"all images of an experience, got {config.stream.samples}"
        )
    validate_probe(config.probe)
    for name in STARTS:
        if get(config, name) and "random" in config.baselines:
            raise UsageError(
                "config.baselines: 'random' probes the first weights, and with "
                f"{name} these are not random; leave it out"
            )
    check_starts(config)
    one_of("precision", config.precision, ("float32", "bfloat16"))
    one_of("method.projector.norms", config.method.projector.norms, NORMS)
    one_of("stream.pixels", config.stream.pixels, PIXELS)
    one_of("augment.per", config.augment.per, ("sample", "batch"))


def check_starts(config: ConfigDict) -> None:
    """Weights may come from one file alone.

    Raises:
      UsageError: naming two fields that are both set.
    """
    given = [name for name in STARTS if get(config, name)]
    if len(given) > 1:
        raise UsageError(
            f"config.{given[1]} must be '' with {given[0]}: each file has an encoder "
            f"of its own"
        )


def validate_probe(probe: ConfigDict) -> None:
    """Check what the probes are asked for.

    Raises:
      UsageError: naming the field, its value and what is allowed.
    """
    for name in ("names", "scopes", "ratios"):
        values = tuple(probe[name])
        if len(set(values)) < len(values) or (name != "names" and not values):
            raise UsageError(
                f"config.probe.{name} must be "
                f"{'' if name == 'names' else 'at least one, '}each once, got "
                f"{values!r}"
            )
    ratios = tuple(probe.ratios)
    if not all(type(r) in (int, float) and 0 < r <= 1 for r in ratios):
        raise UsageError(
            f"config.probe.ratios must be shares in (0, 1] such as 0.1,1, got "
            f"{ratios!r}"
        )
    if probe.labels_per_class and ratios != (1,):
        raise UsageError(
            f"config.probe.ratios must be 1 with probe.labels_per_class "
            f"{probe.labels_per_class}, got {ratios!r}: give the label budget once"
        )
