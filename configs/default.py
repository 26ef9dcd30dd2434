"""Every field of a run with its meaning and unit: the only place with defaults.

Other configs start from here and change what their experiment needs. Fields are locked:
a misspelt one is an error. `config.reference` is the overlay that
`--config.fidelity=reference` applies; fields set on the command line win over it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The CLIMB paper's protocol on Split CIFAR-100, 20 tasks, one seed."""
    config = ConfigDict()
    config.seeds = (0,)  # one learner each, trained side by side
    config.passes = 3  # updates a stream batch
    config.fidelity = "paper"  # paper | reference: what the released code does
    config.precision = "float32"  # float32 | bfloat16: of the network's computation
    config.baselines = ()  # run beside it: 'random' (untrained), names of strategies
    config.chunk = 0  # stream batches between host syncs; 0: 1 on a CPU, 50 elsewhere
    config.stream = stream()
    config.augment = ConfigDict({"name": "simclr", "per": "sample"})  # sample | batch
    config.backbone = ConfigDict({"name": "resnet18", "width": 0})  # 0: the name's own
    config.method = method()
    config.strategy = strategy()
    config.optimizer = optimizer()
    config.probe = probe()
    config.checkpoint = ConfigDict({"every": 100, "keep": 2})  # in stream batches
    config.log = ConfigDict({"every": 10, "tensorboard": False})  # in stream batches
    config.reference = reference()
    return config


def stream() -> ConfigDict:
    """What arrives, and in which order."""
    return ConfigDict(
        {
            "dataset": "cifar100",
            "data_dir": "~/tensorflow_datasets",
            "image_size": 0,  # pixels a side; 0: the data set's own
            "kind": "class",  # class | irregular | iid
            "tasks": 20,  # experiences; the classes must divide evenly unless irregular
            "classes": 0,  # use only the first so many of the class order; 0: all
            "order": (),  # class order; (): drawn from `seed`
            "seed": 42,  # of class order and validation split
            "val_ratio": 0.1,  # of each class's training images, kept from the stream
            "batch_size": 10,
            "limit": 0,  # stop after that many stream batches; 0: never
        }
    )


def method() -> ConfigDict:
    """The self-supervised objective."""
    return ConfigDict(
        {
            "name": "simclr",
            "projection": 2048,  # width of the projector's output
            "simclr": {"temperature": 0.5},
        }
    )


def strategy() -> ConfigDict:
    """What continual learning adds; shared fields first, then each strategy's own."""
    return ConfigDict(
        {
            "name": "climb",
            "replay_size": 128,  # replayed rows a pass
            "memory_size": 2500,  # images
            "feature_decay": 0.5,  # alpha of features kept beside the images
            "align_weight": 1.0,  # omega in CLA, lambda in CLIMB
            "align_criterion": "cosine",  # cosine | mse | ssl: the method's objective
            "align_on": "projection",  # projection | feature: aligned and stored
            "use_aligner": True,  # a head between the learner and its target
            "align_hidden": 512,  # units of that head's hidden layer
            "ema_decay": 0.999,
            "er": {"memory": "reservoir"},  # reservoir | fifo
            "lump": {
                "memory": "reservoir",
                "alpha": 0.4,  # of Beta(alpha, alpha), the stream's share of a mixture
            },
            "cla_r": {"memory": "fifo"},
            "cla_e": {"memory": "fifo"},
            "cassle": {"skip_first": True},  # align nothing in the first experience
            "cassle_r": {"memory": "reservoir", "skip_first": True},
            "climb": climb(),
        }
    )


def climb() -> ConfigDict:
    """CLIMB's own fields."""
    return ConfigDict(
        {
            "ema_parts": ("encoder", "projector"),
            "train_head": True,
            "embed_in_train_mode": False,
            "centroid_memory": {
                "stm": 100,  # L, centroids of the short-term memory
                "ltm": 60,  # K, centroids of the long-term memory
                "images_per_centroid": 30,  # M, also matches until promotion
                "window": 1000,  # w, distances the novelty threshold looks back on
                "percentile": 0.95,  # p, in [0, 1]
                "alpha": 0.1,  # how far a matched STM centroid moves
                "refresh_rate": 0.5,  # of a replayed centroid, divided by its images
                "ratio_ltm": 0.5,  # of the replayed rows
                "ltm_replace": "random",  # what a match does to a full LTM centroid
                "merge_select": "random",  # random | balanced
                "consolidation": "consolidate",  # consolidate | reset_stm | trim
                "refresh_centroids": True,
                "swap_halves": False,
                "window_repeats": 1,
                "fill_pushes_nan": False,
                "freeze_with_first_row": False,
                "first_fill_matches": 1,
            },
        }
    )


def optimizer() -> ConfigDict:
    """How the parameters move."""
    return ConfigDict(
        {
            "name": "sgd",  # sgd | adam
            "learning_rate": 0.1,  # the peak, where the schedule has one
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "schedule": "constant",  # constant | local_cycle: one cycle a stream batch
            "rise": 0.5,  # local_cycle: fraction of the passes before the peak
            "divisor": 10.0,  # local_cycle: peak over first learning rate
        }
    )


def probe() -> ConfigDict:
    """How the frozen encoder is judged."""
    return ConfigDict(
        {
            "names": ("linear",),  # linear | ridge | knn; (): no probes
            "every": 1,  # experiences; the end of the stream is always probed
            "labels_per_class": 0,  # training labels a probe may see; 0: all
            "batch_size": 256,  # images encoded at once
            "seed": 42,  # of the label budget
            "linear": {
                "learning_rate": 0.05,
                "epochs": 100,
                "batch_size": 256,
                "patience": 5,
                "factor": 3.0,
                "min_learning_rate": 1e-4,
            },
            "ridge": {"alpha": 1.0},
            "knn": {"k": 50},
        }
    )


def reference() -> ConfigDict:
    """What the released CLIMB code does where it departs from the papers."""
    return ConfigDict(
        {
            "augment": {"per": "batch"},
            "strategy": {
                "cassle": {"skip_first": False},
                "cassle_r": {"skip_first": False},
                "climb": {
                    "ema_parts": ("encoder",),
                    "train_head": False,
                    "embed_in_train_mode": True,
                    "centroid_memory": {
                        "swap_halves": True,
                        "window_repeats": 10,
                        "fill_pushes_nan": True,
                        "freeze_with_first_row": True,
                        "first_fill_matches": 0,
                    },
                },
            },
        }
    )
