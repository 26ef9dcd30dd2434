r"""SLCLRS and RALS on CIFAR-100: learning as much as possible from each stream batch.

Paper: Mokhtarzadeh Azar and Timofte, "Speeding Up Online Self-Supervised Learning by
Exploiting Its Limitations", table 1, and its baselines: CaSSLe (Fini et al. 2022) and
learning offline. Five tasks of 20 classes, in CaSSLe's order; the first one is learnt
offline, once for each method, and every other run starts from there:

  python launch.py --config=configs/speed_cifar100.py:METHOD-pretrain
  python launch.py --config=configs/speed_cifar100.py:METHOD-WHICH-STEPS
  python -m ocssl_jax.report runs/speed_cifar100-* --compute

and `--config.stream.data_dir=DIR` with tfds' prepared cifar100. The paper's metric, the
linear evaluation on augmented images, is measured afterwards of the last encoder, its
rate swept; the probes of a run itself are cheap monitors, by another recipe:

  python -m ocssl_jax.evaluate runs/speed_cifar100-METHOD-WHICH-STEPS \
      --probe linear_augmented --last

METHOD   simclr or barlow_twins; pretrain and cassle also byol, simsiam, vicreg
STEPS    updates a stream batch N, or epochs E of cassle and offline: 10, 20, 50, ...
WHICH    rows trained on in a step, all with one cycle of the rate a stream batch
  plain    128 of the memory and the stream's 128: "Ours without RALS"
  rals     256 chosen from 256 of the memory and the stream's 128: "Ours"
  random   256 of these 384 by chance
  all      these 384
  none     the stream's 128, no memory
  cassle   E epochs of each task in batches of 256, distilled to the last task's learner
  offline  E epochs of all tasks, the first one too

Expected, linear evaluation, the paper's single runs (%). Recipes of that differ by
points, so compare with a `cassle` of your own. CaSSLe's code always warms up for
10 epochs, so that a run of 10 never gets beyond it, which may explain that column; here
it is a tenth of the epochs, and `optimizer.warmup`, in stream batches, to be set:
  steps            10              20              50             100            500
  method      BT     SimCLR   BT     SimCLR   BT     SimCLR   BT     SimCLR   BT  SimCLR
  offline     48.50  50.68    56.23  51.71    59.64  54.29    62.93  56.64
  cassle      50.89  49.48    54.35  50.34    56.25  51.83    57.48  53.19  58.26  55.91
  plain       55.39  50.39    55.95  52.44    57.15  53.25
  rals        55.75  50.63    56.64  52.77    58.48  54.76
Table 2, rals-20 by `strategy.memory_size`, BT / SimCLR: 2000 55.68 / 50.43, 5000 55.63
/ 52.47, 10000 56.64 / 52.77, 20000 56.29 / 53.41. Figure 3a is `strategy.replay_size`
with `strategy.rals.selected=256`; figure 3b is in each run's report.

At equal compute a run of rals stands beside plain with twice the steps: 55.75 against
55.95 and 50.63 against 52.44 in the paper's own numbers.

Cost, PFLOP a seed: pretraining 42; plain 0.67 N, rals and random 1.35 N and 0.67 N, all
1.0 N; cassle 0.45 E, offline 0.53 E. For a GPU; `--config.stream.limit=5` shows on a
CPU that it runs. Not reproduced with this library so far; RESULTS.md says what has been
run. docs/fidelity.md lists where paper or code are silent or ours departs.
"""

from math import ceil

from ml_collections import ConfigDict

from configs import default

# Rows of the memory in a pass, over those of the stream; strategy; choice among them.
SELECTIONS = {
    "plain": (1, "er", ""),
    "rals": (2, "rals", "rise"),
    "random": (2, "rals", "random"),
    "all": (2, "er", ""),
    "none": (1, "none", ""),
}
BASELINES = ("cassle", "offline")
PEAKS = {"simclr": 1.0, "barlow_twins": 0.05}  # of the cycle, section 5.3
TASKS, SEED = 5, 5  # CaSSLe: torch.randperm(100) after manual_seed(5), in chunks
IMAGES, PRETRAINING = 10_000, 500  # of a task; epochs
OFFLINE_BATCH, WARMUP = 256, 10  # rows; of the pretraining, epochs
# CaSSLe's offline learning rates, weight decays, projections, augmentations and the
# learning rates of its linear probe. It has no script for SimSiam: the rate and decay
# of Barlow Twins, its own paper's set.
METHODS = {
    "simclr": (0.4, 1e-5, 256, "cassle_simclr", 1.0),
    "barlow_twins": (0.3, 1e-4, 2048, "cassle_twins", 0.1),
    "byol": (1.0, 1e-5, 256, "cassle_twins", 3.0),
    "simsiam": (0.3, 1e-4, 2048, "simsiam", 30.0),
    "vicreg": (0.3, 1e-4, 2048, "cassle_vicreg", 0.3),
}

# CaSSLe's; SimSiam's is the default one with wider hidden layers.
WIDE = {"layers": 3, "hidden": 2048, "norms": "hidden"}
PROJECTORS = {
    "simclr": {"layers": 2, "hidden": 2048, "norms": "none"},
    "barlow_twins": WIDE,
    "vicreg": WIDE,
    "byol": {"layers": 2, "hidden": 4096, "norms": "hidden"},
    "simsiam": {"hidden": 2048},
}


def get_config(variant: str = "simclr-rals-10") -> ConfigDict:
    """One seed of `<method>-pretrain` or `<method>-<which>-<steps>`."""
    method, which, steps = parse(variant)
    config = shared(method)
    config.stream.dataset = "cifar100"
    config.backbone.stem = "padded"
    if which in SELECTIONS:
        online(config, which, steps, batch=128)
        config.optimizer.learning_rate = PEAKS[method]
    else:
        offline(config, which, steps or PRETRAINING, images=IMAGES)
    if which != "pretrain":
        config.method.pretrained = learner("speed_cifar100", method)
    config.strategy.memory_size = 10_000
    return config


def parse(variant: str) -> tuple[str, str, int]:
    """Method, which and steps that a variant names; `pretrain` has 0 steps.

    Raises:
      ValueError: if it is no variant.
    """
    method, _, rest = variant.partition("-")
    which, _, steps = rest.partition("-")
    if method in METHODS and rest == "pretrain":
        return method, "pretrain", 0
    known = PEAKS if which in SELECTIONS else METHODS if which in BASELINES else ()
    if method not in known or not steps.isdecimal() or int(steps) < 1:
        raise ValueError(
            f"a variant is METHOD-pretrain or METHOD-WHICH-STEPS, such as "
            f"simclr-rals-10: with WHICH one of {', '.join(SELECTIONS)} METHOD is one "
            f"of {', '.join(PEAKS)}, with {', '.join(BASELINES)} or pretrain one of "
            f"{', '.join(METHODS)}; not {variant!r}"
        )
    return method, which, int(steps)


def learner(name: str, method: str) -> str:
    """Where the pretraining of a config leaves what its other runs start from."""
    return f"runs/{name}-{method}-pretrain/learner/seed_0.safetensors"


def shared(method: str) -> ConfigDict:
    """What all runs of a method have in common."""
    config = default.get_config()
    _, decay, projection, augment, probe_rate = METHODS[method]
    config.stream.update({"tasks": TASKS, "seed": SEED, "val_ratio": 0.0})
    config.augment.name = augment
    config.method.update({"name": method, "projection": projection})
    config.method.simclr.temperature = 0.2
    config.method.byol.update({"prediction_hidden": 4096})
    config.method.projector.update(PROJECTORS.get(method, {}))
    config.optimizer.weight_decay = decay
    config.probe.names = ("linear_sgd", "knn")
    config.probe.linear_sgd.learning_rate = probe_rate
    if probe_rate > max(config.probe.linear_augmented.learning_rates):  # SimSiam's
        config.probe.linear_augmented.learning_rates += (10.0, probe_rate)
    return config


def online(config: ConfigDict, which: str, steps: int, *, batch: int) -> None:
    """A stream of batches, `steps` updates each, of the rows that `which` names."""
    factor, strategy, choice = SELECTIONS[which]
    config.passes = steps
    config.stream.update({"batch_size": batch, "known": 1})
    config.strategy.update({"name": strategy, "replay_size": factor * batch})
    if choice:
        config.strategy.rals.choice = choice
    config.optimizer.update(
        {"schedule": "local_cycle", "rise": 0.25 if steps >= 50 else 0.5}
    )


def offline(config: ConfigDict, which: str, epochs: int, *, images: int) -> None:
    """`epochs` over images that are all there, those of each task or of all of them.

    `images` are those of a task: as many as the schedule of the rate is made for.
    """
    name = config.method.name
    rate, *_ = METHODS[name]
    each = ceil((TASKS if which == "offline" else 1) * images / OFFLINE_BATCH)
    rising = WARMUP if which == "pretrain" else max(1, epochs // 10)
    config.passes = 1
    config.stream.update({"batch_size": OFFLINE_BATCH, "epochs": epochs})
    config.optimizer.update(
        {
            "name": "lars",
            "learning_rate": rate,
            "trust_coefficient": 0.02,
            "schedule": "warmup_cosine",
            "period": each * epochs,
            "warmup": each * rising,
            "momentum_reset": True,  # each task is a run of its own
        }
    )
    config.strategy.name = "cassle" if which == "cassle" else "none"
    config.strategy.update({"align_criterion": "ssl", "align_hidden": 2048})
    config.strategy.align_weight = 25.0 if name == "vicreg" else 1.0
    if which == "cassle":
        config.stream.known = 1
        return
    config.stream.kind = "iid"
    if which == "pretrain":
        config.stream.update({"tasks": 1, "classes": 100 // TASKS})
        config.checkpoint.learner = True
