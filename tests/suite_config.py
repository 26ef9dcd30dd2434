"""Any strategy with any method on digits, small: a variant is `<strategy>-<method>`."""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str) -> ConfigDict:
    """Digits, 145 stream batches: two tasks of five classes, which are equally hard."""
    strategy, _, method = variant.partition("-")
    config = default.get_config()
    config.passes = 2
    config.stream.update({"dataset": "digits", "tasks": 2})
    config.augment.name = "glyphs"
    config.backbone.update({"name": "mlp", "width": 64})
    config.method.update({"name": method, "projection": 64})
    config.strategy.update(
        {
            "name": strategy,
            "replay_size": 32,
            "memory_size": 160,
            "align_hidden": 32,
            "ema_decay": 0.98,
        }
    )
    config.strategy.rals.part_size = 2  # of 10 and 32 rows
    config.strategy.climb.centroid_memory.update(
        {"stm": 30, "ltm": 10, "images_per_centroid": 8, "window": 100}
    )
    config.probe.names = ("ridge",)
    config.log.every = 1
    if strategy == "lump":  # a pass has a quarter of the others' rows
        config.passes = 6
    if method == "vicreg":  # its covariances overflow under SGD, and LARS above 0.03
        config.optimizer.update({"name": "lars", "learning_rate": 0.01})
    if method == "mae":
        config.backbone.update({"name": "vit_tiny", "width": 24, "depth": 2})
        config.method.mae.decoder_layers = 1
    return config
