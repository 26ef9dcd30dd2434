"""Every field of a run with its meaning and unit: the only place with defaults.

Other configs start from here and change what their experiment needs. Fields are locked:
a misspelt one is an error. `config.reference` is the overlay that
`--config.fidelity=reference` applies; fields set on the command line win over it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The released code's defaults; configs/climb_cifar100.py has the paper's row."""
    config = ConfigDict()
    config.seeds = (0,)  # one learner each, trained side by side
    config.passes = 3  # updates a stream batch
    config.fidelity = "paper"  # paper | reference: what the released code does
    config.precision = "float32"  # float32 | bfloat16: of the network's computation
    config.baselines = ()  # run beside it: 'random' (untrained), names of strategies
    config.chunk = 0  # stream batches between host syncs; 0: 1 on a CPU, 50 elsewhere
    # Name the first operation that gives a NaN or an infinity, should one break a seed:
    # slower, each stream batch alone. May be switched on to resume a run that broke.
    config.debug = False
    # Devices along the two axes of the mesh, which must use all there are; 0 chooses.
    config.mesh = ConfigDict({"seed": 0, "data": 0})  # share seeds; rows of a batch
    config.stream = stream()
    config.augment = ConfigDict({"name": "simclr", "per": "sample"})  # sample | batch
    config.backbone = backbone()
    config.method = method()
    config.strategy = strategy()
    config.optimizer = optimizer()
    config.probe = probe()
    config.checkpoint = checkpoint()
    config.log = log()
    # Mean and spread in percent, (82.1, 1.5), to be shown beside a run's own numbers.
    config.published = ConfigDict({"accuracy": (), "forgetting": ()})
    config.reference = reference()
    return config


def log() -> ConfigDict:
    """What is told of a run while it goes on, beside its progress."""
    return ConfigDict(
        {
            "every": 10,  # stream batches
            "tensorboard": False,  # event files in tensorboard/
            "wandb": False,  # Weights & Biases, by its own variables (WANDB_MODE)
        }
    )


def stream() -> ConfigDict:
    """What arrives, and in which order."""
    return ConfigDict(
        {
            "dataset": "cifar100",
            "data_dir": "~/tensorflow_datasets",
            "image_size": 0,  # pixels a side; 0: the data set's own or published one
            # standard: by the data set's mean and std | signed | clip: by CLIP's
            "pixels": "standard",
            "kind": "class",  # class | irregular | blurred | domain | permuted | iid
            "iid_of": "class",  # iid: what is mixed, class | domain | permuted
            # Experiences: must divide the classes unless irregular, and be the number
            # of domains for 'domain'; for 'permuted' how many orders of the pixels, the
            # first the images' own; for 'iid' how often the stream is probed.
            "tasks": 20,
            "classes": 0,  # use only the first so many of the class order; 0: all
            # Class order, for 'domain' that of the domains; for imagenet30, 100 and 200
            # the classes as well, in 0..999. (): drawn from `seed`, domains as listed.
            "order": (),
            "blur": 100,  # blurred: images an experience mixes into each boundary
            # How often each image arrives: in `class` and `domain` streams within its
            # experience, in `iid` ones all over; 1 for all other kinds. More than 1 is
            # no online run.
            "epochs": 1,
            # Experiences at the stream's beginning that were learnt in another run:
            # they pass by, once, for memories and teachers to see; nothing is trained.
            # All of them: the first weights are judged, and that is all.
            "known": 0,
            "seed": 42,  # of class order and choice, blurring and validation split
            "val_ratio": 0.1,  # of each class's training images, kept from the stream
            "batch_size": 10,
            # Images of each experience that arrive, chosen anew by each of `seeds`; 0:
            # all of them.
            "samples": 0,
            # Images of earlier experiences that arrive with each later one: equally
            # many of each class, chosen by each of `seeds`; for `class` and `domain`.
            "memory": 0,
            # Classes of a batch, equally many images of each, drawn anew for each batch
            # from all that arrive in its experience; 0: each image once an epoch.
            "balanced": 0,
            "limit": 0,  # stop after that many stream batches; 0: never
            # Of a folder that is followed, in seconds: between looks at it, and without
            # a new picture before it ends; 0: never.
            "look": 1.0,
            "quiet": 0.0,
        }
    )


def backbone() -> ConfigDict:
    """The network that is trained, and where its weights start."""
    return ConfigDict(
        {
            "name": "resnet18",
            "width": 0,  # channels of the first layer; 0: the name's own
            "depth": 0,  # of a ViT: blocks; 0: the name's own
            "stem": "auto",  # of a ResNet: auto (by size) | small | padded | large
            "pool": "cls",  # of a ViT: cls | mean of all tokens
            "pretrained": "",  # a .safetensors file to start from; '': random weights
        }
    )


def method() -> ConfigDict:
    """The objective."""
    return ConfigDict(
        {
            "name": "simclr",
            "projection": 2048,  # width of the projector's output
            "projector": {
                "layers": 3,
                "hidden": 0,  # width of the hidden layers; 0: that of the features
                "norms": "all",  # all | hidden (none at the end) | none
            },
            # A run's learner/seed_<s>.safetensors to start from, projector and all; '':
            # the backbone's weights and random heads.
            "pretrained": "",
            "simclr": {"temperature": 0.5},
            "supervised": {
                "classes": 10,  # labels are below that number
                "gated": False,  # logits times the sigmoid of another linear map
                "dropout": 0.0,  # share of features the head does not see, in [0, 1)
            },
            "clip": clip(),
            "mae": {  # needs backbone.name=vit_tiny
                "mask_ratio": 0.75,  # of the patches, in (0, 1)
                "decoder_layers": 4,
                "decoder_heads": 3,  # must divide the width of the ViT
            },
            "simsiam": {"prediction_hidden": 512},  # width inside the predictor
            "byol": {
                "prediction_hidden": 512,
                "momentum": 0.99,  # of the slow copy, in [0, 1]
                "probe_momentum_encoder": True,  # probe and save the slow encoder
            },
            # The next two look at projections without a norm, which plain SGD at 0.1
            # lets grow out of hand: their papers train with optimizer.name=lars.
            "barlow_twins": {
                "off_diagonal": 0.005,  # lambda
                "scale": 0.1,  # of the whole loss
            },
            "vicreg": {
                "invariance": 25.0,  # lambda
                "variance": 25.0,  # mu
                "covariance": 1.0,  # nu
            },
        }
    )


def clip() -> ConfigDict:
    """Classification by words: its own fields; `projection` is shared."""
    contrast = {
        "temperature": 0.05,  # tau
        "rate": 0.9,  # gamma in (0, 1], of the new value in the moving averages
        "negatives": "class",  # class (images of other texts) | instance (all others)
        "negative_weight": "sample",  # sample | class: what counts once
    }
    return ConfigDict(
        {
            # cross_entropy | info_nce | gcl | gdro; sup_con: of the images alone
            "objective": "cross_entropy",
            "objectives": {
                "cross_entropy": {"temperature": 0.05},
                "info_nce": {"temperature": 0.05},
                "gcl": contrast,
                "gdro": {
                    **contrast,
                    "surrogate": "squared_hinge",  # squared_hinge | linear
                    "margin": 0.3,
                    "class_rate": 0.9,  # gamma_2, of the classes' losses
                    "strength": 0.1,  # lambda, of the divergence from even weights
                },
                "sup_con": {"temperature": 0.2},
            },
            "templates": ("a photo of a {}.",),  # {}: the class's name
            # What classes are called, a file of lines `n01440764 tench`; '': as in the
            # data set.
            "names": "",
            # A CLIP's weights, file or folder, for backbone.name=clip_*: its text tower
            # and its space come along; '': random ones.
            "weights": "",
            # A CLIP's tokenizer, file or folder; '': bytes alone, and for clip_* what
            # lies beside the weights.
            "merges": "",
            "text": {"width": 64, "layers": 1, "heads": 4, "context": 48},
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
            # A memory is one of reservoir, fifo, minred, part_and_select.
            # Supervised methods may replay earlier experiences alone (past_only), and
            # have losses of stream and replay added, not averaged together (apart).
            "er": {"memory": "reservoir", "past_only": False, "apart": False},
            "er_mir": {
                "memory": "reservoir",  # reservoir | fifo
                "candidates": 50,  # rows scored in a pass, C
                "score": "mi1",  # mi1 | mi2, against the lowest loss seen of a row
                "past_only": True,
                "apart": True,
                "lowest_by_position": False,
                "scoring_moves_statistics": False,
            },
            "gem": {"margin": 0.5},  # the memory strength
            "icarl": {
                "task_size": 10_000,  # images of a task, kept until it ends
                "distill_weight": 1.0,
                "temperature": 1.0,  # of the distilled softmax
            },
            "ewc": {
                "weight": 1000.0,  # lambda of the penalty
                "samples": 200,  # images of an experience its Fisher information is of
                "largest": 1e-4,  # bound on that
            },
            "co2l": {
                "task_size": 10_000,  # images of a task, kept for its classifier
                "distill_weight": 1.0,
                "temperature": 0.2,  # of the relations that are compared
                "past_temperature": 0.01,  # of those that they should be
                "classifier_steps": 500,  # updates, each by all that was kept
                "classifier_rate": 0.01,
            },
            "foster": {
                "boosting": 1,  # epochs of an experience that boost; others compress
                "distill_weight": 1.0,  # of what the old network says, while boosting
                "temperature": 2.0,  # of that, and of compression
                # In [0, 1), of the effective numbers of a class's images.
                "beta": 0.97,
                "student_beta": 0.97,  # the same while compressing
            },
            "der": {
                "auxiliary_weight": 1.0,  # of the newest block's own loss
                "task_size": 10_000,  # as of co2l, and the next two
                "classifier_steps": 500,
                "classifier_rate": 0.01,
            },
            "gen": {
                "replay_batches": 4,  # rows replayed, in stream batches
                "replay_weight": 3.0,  # of the losses over them
                "generator": generator(),
            },
            "gen_mir": gen_mir(),
            "ae": hybrid(),
            "ae_mir": ae_mir(),
            "lump": {
                "memory": "reservoir",
                "alpha": 0.4,  # of Beta(alpha, alpha), the stream's share of a mixture
            },
            "cla_r": {"memory": "fifo"},
            "cla_e": {"memory": "fifo"},
            "cassle": {"skip_first": True},  # align nothing in the first experience
            "cassle_r": {"memory": "reservoir", "skip_first": True},
            "climb": climb(),
            "minred": {"memory": "minred", "embed_in_train_mode": False},
            "osiris_r": {
                "memory": "reservoir",
                "temperature": 0.1,  # of its two losses
                "ssl_temperature": 0.1,  # of SimCLR's; 0: as in method.simclr
                "train_head": True,
                "learning_rate_factor": 1.0,  # of optimizer.learning_rate, above 0
            },
            "scale": scale(),
            "rals": {
                "memory": "reservoir",
                "selected": 0,  # rows of stream and replay trained on; 0: two thirds
                "choice": "rise",  # rise of the loss | random
                "part_size": 16,  # rows judged as one by objectives of whole batches
                "pure_parts": True,  # of the memory or of the stream, not of both
                "batch_statistics": False,  # in judging; else BN's running ones
            },
        }
    )


def generator() -> ConfigDict:
    """The variational autoencoder of GEN and GEN-MIR."""
    return ConfigDict(
        {
            "hidden": 128,  # units of a hidden layer
            "latent": 50,  # dimensions
            "depth": 1,  # hidden layers each way
            "dropout": 0.0,  # of hidden units, in [0, 1)
            "learning_rate": 1e-3,  # of Adam
            "max_beta": 1.0,  # weight of the divergence
            "warmup": 1000,  # images of an experience until that weight is 1
        }
    )


def gen_mir() -> ConfigDict:
    """GEN-MIR's own fields."""
    return ConfigDict(
        {
            "replay_batches": 10,
            "replay_weight": 3.0,
            "generator": generator(),
            "generator_rate": 1e-3,  # of the generator's virtual step
            "sought": ("classifier", "generator"),  # whose replay is searched for
            "steps": 10,  # of the search
            "classifier_gain": {
                "interference": 0.1,
                "entropy": 1.0,
                "diversity": 1.0,
                "shell": 0.0,
            },
            "generator_gain": {
                "kl": 0.1,
                "reconstruction": 0.0,
                "entropy": 1.0,
                "diversity": 1.0,
                "shell": 0.0,
            },
            "stale_step": False,
            "fresh_noise": False,
        }
    )


def hybrid() -> ConfigDict:
    """What AE and AE-MIR share; all epochs but the last are the autoencoder's."""
    return ConfigDict(
        {
            "memory": "reservoir",  # reservoir | fifo, of codes
            "autoencoder": {
                "width": 20,  # channels; a code has width / 64 numbers a pixel
                "learning_rate": 1e-3,  # of Adam
                "learns_on": False,  # in the last epoch, too
                "replays": False,  # decoded codes beside the stream's images
                "settles_each_epoch": False,  # codes follow it, else once an experience
                "batch_statistics": False,  # of BN, outside of tests; else running ones
            },
            "raw_first": False,  # the first experience's images are not autoencoded
            "strength": 1.0,  # of the gradient once something is replayed
        }
    )


def ae_mir() -> ConfigDict:
    """AE-MIR's own fields."""
    config = hybrid()
    config.update(
        {
            "candidates": 500,  # codes looked at in a pass, C
            "retrieval": "nearest",  # to what a search finds | score: rise of the loss
            "steps": 1,  # of the search
            "step_size": 10.0,
            "gain": {"interference": 20.0, "entropy": 1.0, "entropy_ahead": 0.0},
            "distinct": True,  # no code is replayed twice in a pass
        }
    )
    return config


def scale() -> ConfigDict:
    """SCALE's own fields."""
    return ConfigDict(
        {
            "memory": "part_and_select",
            "projection": 128,  # width of its own head's output
            "temperature": 0.1,  # of SupCon, pseudo-positives and current relations
            "past_temperature": 0.01,  # of the relations that are distilled
            "positive_ratio": 0.1,  # of the way from mean to maximum similarity, [0, 1)
            "distill_power": 0.15,  # distillation over contrast in the first pass
            "normalize_features": True,
            "contrast_first_rows": False,
            "past_of_each_pass": False,
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
            "name": "sgd",  # sgd | adam | adamw | lars
            "learning_rate": 0.1,  # the peak, where the schedule has one
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "trust_coefficient": 0.005,  # lars: eta, a step's size over its layer's
            # constant | local_cycle: one cycle a stream batch | warmup_cosine: offline
            "schedule": "constant",
            "rise": 0.5,  # local_cycle: fraction of the passes before the peak
            "divisor": 10.0,  # local_cycle: peak over first learning rate
            "period": 0,  # warmup_cosine: stream batches until it starts again
            "warmup": 0,  # warmup_cosine: stream batches of its rise
            "momentum_reset": False,  # forget the buffer where the schedule starts
        }
    )


def probe() -> ConfigDict:
    """How the frozen encoder is judged."""
    return ConfigDict(
        {
            # linear | linear_sgd | ridge | knn; or classifier, a supervised method's
            # own head; (): no probes. In ocssl_jax.evaluate linear_augmented, too.
            "names": ("linear",),
            "every": 1,  # experiences; the end of the stream is always probed
            # One classifier over all tasks (joint), over those met so far (upto), one
            # a task (separate).
            "scopes": ("joint",),  # joint | upto | separate
            "ratios": (1.0,),  # shares of each class's training labels, in (0, 1]
            "labels_per_class": 0,  # training labels a probe may see; 0: all
            "dataset": "",  # probe on that data set as one task; '': the stream's own
            "data_dir": "",  # of `dataset`; '': that of the stream
            "val_ratio": 0.1,  # of each of `dataset`'s classes, kept for tuning
            "batch_size": 256,  # images encoded at once
            "seed": 42,  # of the label budget, and of the validation split of `dataset`
            "linear": {
                "learning_rate": 0.05,
                "epochs": 100,
                "batch_size": 256,
                "patience": 5,
                "factor": 3.0,
                "min_learning_rate": 1e-4,
            },
            "linear_sgd": {
                "learning_rate": 0.1,  # a tenth after 60 and 80 % of the epochs
                "epochs": 100,
                "batch_size": 256,
                "momentum": 0.9,
            },
            "linear_augmented": {
                # Each gives a classifier; all are trained side by side, and the best on
                # training images that are held out is chosen. Of one none are.
                "learning_rates": (0.1, 0.3, 1.0, 3.0),
                "held_out": 0.1,  # share of each class, in (0, 1)
                "epochs": 100,  # rates are cut as linear_sgd's
                "batch_size": 256,
                "momentum": 0.9,
                "augment": "crop_flip",  # as augment.name, a set for one view
            },
            "ridge": {"alpha": 1.0},
            "knn": {"k": 50},
        }
    )


def checkpoint() -> ConfigDict:
    """What is kept of a run while it goes on."""
    return ConfigDict(
        {
            "every": 100,  # stream batches
            "keep": 2,  # checkpoints; older ones are deleted
            # Each experience's encoders in encoders/, for ocssl_jax.evaluate; they take
            # experiences x seeds x the encoder's size: 45 MB for a ResNet-18.
            "encoders": True,
            # The final learner in learner/, for method.pretrained of another run.
            "learner": False,
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
                "minred": {"embed_in_train_mode": True},
                "osiris_r": {"train_head": False, "learning_rate_factor": 2.0},
                "scale": {
                    "normalize_features": False,
                    "contrast_first_rows": True,
                    "past_of_each_pass": True,
                },
            },
        }
    )
