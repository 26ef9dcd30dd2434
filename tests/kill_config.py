"""A run to be killed: two seeds on 12 stream batches of digits, as small as can be."""

from ml_collections import ConfigDict

from configs import default
from ocssl_jax.pairs import POOLED


def get_config(variant: str = "climb-simclr") -> ConfigDict:
    """A run with every part, of the strategy and the method `<strategy>-<method>`."""
    strategy, _, method = variant.partition("-")
    config = default.get_config()
    config.seeds = (0, 1)
    config.passes = 2
    config.baselines = ("random",)
    config.stream.update({"dataset": "digits", "tasks": 5, "order": tuple(range(10))})
    config.stream.batch_size = 72
    config.stream.limit = 12
    config.augment.name = "glyphs"
    config.backbone.update({"name": "mlp", "width": 16})
    config.method.update({"name": method, "projection": 16})
    config.strategy.update({"replay_size": 32, "memory_size": 90, "align_hidden": 8})
    config.strategy.name = strategy
    config.strategy.climb.centroid_memory.update(
        {"stm": 20, "ltm": 10, "images_per_centroid": 5, "window": 50}
    )
    config.strategy.ae_mir.candidates = 40
    # An epoch for the autoencoder, or to boost; and one to learn, or to compress.
    if strategy in ("ae", "ae_mir", "foster"):
        config.stream.update({"epochs": 2, "samples": 144})  # two batches each
    if method == "vicreg":  # its covariances overflow under plain SGD
        config.optimizer.update({"name": "lars", "learning_rate": 0.03})
    if method == "mae":
        config.backbone.update({"name": "vit_tiny", "width": 12, "depth": 1})
        config.method.mae.decoder_layers = 1
    if method == "clip":
        objective = POOLED.get(strategy, "cross_entropy")
        config.method.clip.objective = objective
        for name in ("co2l", "der"):
            config.strategy[name].update({"task_size": 400, "classifier_steps": 20})
    config.probe.names = ("linear", "ridge")
    if method in ("supervised", "clip"):
        config.probe.names += ("classifier",)
    config.probe.linear.epochs = 20
    config.probe.linear.batch_size = 64
    config.checkpoint.every = 3
    config.checkpoint.encoders = True
    config.log.every = 1
    return config
