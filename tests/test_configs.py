"""Every config file builds, and its step has shapes: seconds each, nothing compiled."""

import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but
from tiny import SSL, merges

from configs import (
    clip_cifar100,
    clip_domainnet,
    clip_imagenet,
    clip_pacs_small,
    clip_small,
    default,
    mir_cifar10,
    mir_miniimagenet,
    mir_mnist_permuted,
    mir_mnist_split,
    released,
    speed_cifar100,
    speed_small,
    split_cifar100,
)
from ocssl_jax import build, data, dotted, learning, ranges, settings, workdir
from ocssl_jax.clip.architecture import VOCABULARY
from ocssl_jax.core import Stream
from ocssl_jax.data import DATASETS
from ocssl_jax.errors import UsageError
from ocssl_jax.methods import METHODS
from ocssl_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
SHAPES = {
    "digits": (8, 8, 1),
    "cifar100": (32, 32, 3),
    "imagenet": (224, 224, 3),
    "imagenet100": (224, 224, 3),
    "domainnet": (224, 224, 3),
    "domain_folder": (32, 32, 3),
    "folder": (32, 32, 3),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "miniimagenet": (84, 84, 3),
}
CLASSES = {"digits": 10, "mnist": 10, "cifar10": 10, "domain_folder": 7}
CLASSES |= {"imagenet": 1000, "domainnet": 345}  # all others: 100
KINDS = ("", "-irregular")
TABLE = [f"{s}-{t}{k}" for s in SSL for t in split_cifar100.TASKS for k in KINDS]
SPEED = (
    *(f"{m}-{w}-20" for m in speed_cifar100.PEAKS for w in speed_cifar100.SELECTIONS),
    *(f"{m}-pretrain" for m in speed_cifar100.METHODS),
    *(f"{m}-{w}-50" for m in speed_cifar100.METHODS for w in speed_cifar100.BASELINES),
)
VARIANTS = {
    "folder": ("", "small"),
    "climb_cifar100": split_cifar100.TASKS,
    "released": tuple(released.VARIANTS),
    "small_cifar100": SSL,
    "split_cifar100": TABLE,
    "split_imagenet100": TABLE,
    "speed_cifar100": SPEED,
    "speed_imagenet100": SPEED,
    "mir_mnist_split": tuple(mir_mnist_split.PUBLISHED),
    "mir_mnist_permuted": tuple(mir_mnist_permuted.PUBLISHED),
    "mir_cifar10": tuple(mir_cifar10.PUBLISHED),
    "mir_miniimagenet": tuple(mir_miniimagenet.PUBLISHED),
    "clip_small": clip_small.VARIANTS,
    "clip_pacs_small": clip_pacs_small.VARIANTS,
    "clip_cifar100": clip_cifar100.VARIANTS,
    "clip_imagenet": clip_imagenet.VARIANTS,
    "clip_domainnet": clip_domainnet.VARIANTS,
    "speed_small": tuple(
        f"{which}-{schedule}-10"
        for which in speed_cifar100.SELECTIONS
        for schedule in ("cycle", "constant")
    ),
}
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
EVERY = [(name, variant) for name in NAMES for variant in VARIANTS.get(name, (None,))]
# The number of tasks and the kind of stream are no part of a learner, and the large
# networks take longest: each learner is made once.
LEARNERS = [
    (name, variant)
    for name, variant in EVERY
    if name in ("default", "quickstart", "small_cifar100")
    or (name, variant) in {("released", v) for v in ("cla_b", "iid", "multiple_runs")}
    or (name, variant) in {("split_cifar100", f"{s}-20") for s in SSL}
    or (name, variant) in {("split_imagenet100", f"{s}-20") for s in ("climb", "scale")}
    or (name, variant)
    in {
        ("speed_cifar100", "barlow_twins-rals-20"),
        ("speed_cifar100", "byol-cassle-50"),
        ("speed_small", "rals-cycle-10"),
        *(("clip_small", v) for v in ("pretrain", *clip_cifar100.PLAIN)),
        *(("clip_small", v) for v in clip_cifar100.REMEMBERING),
        *(("clip_small", v) for v in clip_cifar100.OBJECTIVES),
        ("folder", "small"),
        *(("clip_pacs_small", v) for v in ("gdro-large", "cassle")),
        *(("clip_cifar100", v) for v in ("gcl", "ewc", "icarl-large")),
        ("clip_imagenet", "gdro"),
        ("clip_domainnet", "gcl"),
        *(("mir_cifar10", f"{s}-50") for s in ("er", "er_mir", "gem", "icarl")),
        *(("mir_cifar10", s) for s in ("ae", "ae_mir")),
        *(
            ("mir_mnist_permuted", s)
            for s in ("finetune", "er", "er_mir", "gen", "gen_mir")
        ),
        *(("mir_miniimagenet", s) for s in ("iid_offline", "er_mir")),
    }
]
CASES = [(name, variant, "paper") for name, variant in LEARNERS]
CASES += [("mir_mnist_split", s, "reference") for s in ("er_mir", "gen_mir")]
CASES += [("mir_cifar10", s, "reference") for s in ("ae", "ae_mir")]
CASES += [
    ("small_cifar100", strategy, "reference")
    for strategy in default.get_config().reference.strategy
]
# By default a config is built with its first learner, unless its network is large.
LARGE = ("clip_cifar100", "clip_imagenet", "clip_domainnet", "split_imagenet100")
FIRST = {name: variant for name, variant in reversed(LEARNERS) if name not in LARGE}
CASES = slow_but([(*pair, "paper") for pair in FIRST.items()], CASES)


def load(name, variant=None):
    get_config = importlib.import_module(f"configs.{name}").get_config
    return get_config(variant) if variant else get_config()


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_every_variant_resolves_to_known_names_and_possible_tasks(name, variant):
    config = settings.resolve(load(name, variant), {})
    build.check_names(config)
    s = config.stream
    labels = np.repeat(np.arange(CLASSES.get(s.dataset, 100)), 10)
    domain = np.arange(len(labels)) % s.tasks  # for 'permuted' alone
    bench = data.benchmark(
        labels,
        labels,
        kind=s.kind,
        tasks=s.tasks,
        classes=s.classes,
        seed=s.seed,
        val_ratio=s.val_ratio,
        order=tuple(s.order),
        iid_of=s.iid_of,
        train_domain=domain,
        test_domain=domain,
    )
    assert len(bench.train) == s.tasks
    if name.startswith("split"):
        strategy, tasks, *kind = variant.split("-")
        chosen = (config.strategy.name, str(s.tasks), s.kind)
        assert chosen == (strategy, tasks, *(kind or ["class"]))


@pytest.mark.parametrize(
    "variant", ["simclr", "byol-rals-10", "simclr-rals", "simclr-rals-0", "x-pretrain"]
)
def test_a_variant_of_the_speed_table_that_is_none_is_refused(variant):
    with pytest.raises(ValueError, match=r"METHOD-WHICH-STEPS, .* not '" + variant):
        speed_cifar100.get_config(variant)
    with pytest.raises(ValueError, match="WHICH-SCHEDULE-STEPS"):
        speed_small.get_config(variant)


def test_the_speed_table_has_cassles_order_and_the_papers_sizes():
    config = speed_cifar100.get_config("simclr-rals-50")
    assert (config.stream.batch_size, config.strategy.replay_size) == (128, 256)
    assert (config.passes, config.optimizer.rise) == (50, 0.25)
    labels, s = np.repeat(np.arange(100), 10), config.stream
    bench = data.benchmark(
        labels, labels, kind=s.kind, tasks=s.tasks, seed=s.seed, val_ratio=0.0
    )
    # The published order, torch.randperm(100) with seed 5.
    assert bench.classes[0][:8] == (11, 22, 39, 23, 42, 30, 78, 81)
    assert bench.classes[4][-3:] == (56, 24, 41)
    pretrain = speed_cifar100.get_config("simclr-pretrain")
    assert pretrain.stream.classes == 20 and pretrain.checkpoint.learner
    assert (pretrain.optimizer.period, pretrain.optimizer.warmup) == (20_000, 400)


@pytest.mark.parametrize("variant", ["climb", "climb-7", "climb-20-odd", "20"])
def test_a_variant_that_is_none_is_refused(variant):
    with pytest.raises(ValueError, match="STRATEGY-TASKS"):
        split_cifar100.get_config(variant)
    with pytest.raises(ValueError, match="has the variants climb_cifar100, climb"):
        released.get_config(variant + "-x")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Merges of CLIP's number."""
    return str(merges(tmp_path_factory.mktemp("words"), VOCABULARY))


@pytest.mark.parametrize(("name", "variant", "fidelity"), CASES)
def test_config_builds_and_its_step_has_shapes(name, variant, fidelity, table):
    config = load(name, variant)
    config.fidelity = fidelity
    config.method.pretrained = ""  # another run's, which there is not
    if config.method.clip.weights:  # nor are there weights, or words
        config.method.clip.update({"weights": "", "merges": table})
    config = settings.resolve(config, {"fidelity": fidelity})
    shape = SHAPES[config.stream.dataset]
    spec = DATASETS[config.stream.dataset]
    classes = CLASSES.get(config.stream.dataset, 100)
    learner = learning.make_learning(
        config,
        shape=shape,
        mean=spec.mean,
        std=spec.std,
        class_names=tuple(f"class {i}" for i in range(classes)),
        train_images=1000,
    )
    b = config.stream.batch_size
    struct = jax.ShapeDtypeStruct
    arrival = Stream(
        struct((b, *shape), jnp.uint8),
        struct((b,), jnp.int32),
        struct((b,), bool),
        struct((), bool),
        struct((b,), jnp.int32) if learner.head else None,
        struct((classes,), jnp.float32) if learner.method.pooled else None,
    )
    state = jax.eval_shape(learner.init, jax.random.key(0), arrival)
    after, metrics = jax.eval_shape(learner.step, state, arrival)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.leaves(after) == jax.tree.leaves(state)
    assert metrics["loss"].shape == ()


def test_the_variants_of_clip_are_what_they_are_called():
    """Three sizes of memory, and what each row of the table is."""
    load_ = lambda variant: clip_cifar100.get_config(variant)
    sizes = [load_(f"gcl{m}").stream.memory for m in ("", "-none", "-small", "-large")]
    assert sizes == [500, 0, 500, 2000]
    icarl = load_("icarl-large").strategy
    assert (icarl.memory_size, icarl.icarl.distill_weight) == (2000, 100)
    # A mean over outputs, of which there are as many as the data set has classes.
    assert clip_small.get_config("icarl").strategy.icarl.distill_weight == 100
    assert load_("joint").stream.kind == "iid" and load_("joint").stream.epochs == 3
    assert load_("zero_shot").stream.known == 10
    assert load_("gdro").stream.balanced == 16 and not load_("gcl").stream.balanced
    co2l = load_("co2l-large")
    assert co2l.strategy.memory_size == co2l.stream.memory == 2000
    assert co2l.strategy.co2l.task_size == 5000
    der = load_("der").strategy
    assert (der.memory_size, der.der.task_size) == (500, 5000)
    foster = clip_imagenet.get_config("foster")
    assert (foster.stream.epochs, foster.strategy.foster.boosting) == (2, 1)
    for module in (clip_cifar100, clip_small, clip_imagenet):  # not of domains
        with pytest.raises(ValueError, match=r"variants are .* not 'cassle'"):
            module.get_config("cassle")
    with pytest.raises(ValueError, match=r"variants are .* not 'foster-large'"):
        clip_domainnet.get_config("foster-large")  # of classes that come once
    assert clip_domainnet.get_config("cassle").probe.names == ("linear_sgd",)
    joint = clip_domainnet.get_config("joint").stream
    assert (joint.kind, joint.iid_of) == ("iid", "domain")
    assert clip_imagenet.get_config("gcl").stream.order[:3] == (54, 7, 894)
    assert load_("gcl").stream.order[:5] == (68, 56, 78, 8, 23)
    for module in (clip_cifar100, clip_small, clip_pacs_small, clip_domainnet):
        with pytest.raises(ValueError, match=r"variants are .* not 'gcl-huge'"):
            module.get_config("gcl-huge")


def test_a_config_can_be_written_and_compared():
    config = settings.as_json(settings.resolve(default.get_config(), {}))
    again = json.loads(json.dumps(config))
    assert dotted.differences(config, again) == []
    again["passes"] = 7
    again["log"]["every"] = 99  # does not decide results
    assert dotted.differences(config, again) == ["passes: 3 -> 7"]


def test_scopes_are_known_ones():
    config = default.get_config()
    config.probe.scopes = ("joint", "nonesuch")
    with pytest.raises(UsageError, match="one of joint, upto, separate, got 'nonesuch"):
        build.check_names(config)


def test_a_label_budget_is_given_once():
    config = default.get_config()
    config.probe.labels_per_class = 10
    settings.resolve(config, {})
    config.probe.ratios = (0.1, 1.0)
    with pytest.raises(UsageError, match=r"probe.ratios must be 1 .*per_class 10"):
        settings.resolve(config, {})


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_a_config_comes_back_from_json(name, variant):
    config = settings.resolve(load(name, variant), {})
    again = settings.from_json(json.loads(json.dumps(settings.as_json(config))))
    assert again.to_dict() == config.to_dict()  # a list is no tuple
    assert again.is_locked


def test_json_that_is_no_config_is_refused():
    whole = settings.as_json(settings.resolve(default.get_config(), {}))
    for broken in ([], {}, {"passes": 3}, whole | {"probe": 7}, whole | {"passes": 0}):
        with pytest.raises(UsageError):
            settings.from_json(broken)
    del whole["probe"]["scopes"]
    with pytest.raises(UsageError, match="scopes"):
        settings.from_json(whole)


@pytest.mark.parametrize("fidelity", ["paper", "reference"])
def test_a_workdir_of_a_version_with_fewer_fields_is_taken_up(tmp_path, fidelity):
    config = default.get_config()
    config.fidelity = fidelity
    today = settings.as_json(settings.resolve(config, {}))
    old = json.loads(json.dumps(today))
    del old["optimizer"]["trust_coefficient"], old["mesh"], old["stream"]["blur"]
    del old["strategy"]["scale"], old["strategy"]["osiris_r"]["train_head"]
    del old["reference"]["augment"], old["method"]["byol"], old["probe"]["knn"]
    (tmp_path / "config.json").write_text(json.dumps({"config": old}))
    workdir.check(tmp_path, today)
    again = workdir.config_of(tmp_path)
    assert again.optimizer.trust_coefficient == 0.005 and again.stream.blur == 100
    # A missing field that matters was its default, and nothing else.
    today["stream"]["blur"] = 7
    with pytest.raises(UsageError, match=r"stream\.blur: 100 -> 7"):
        workdir.check(tmp_path, today)


def test_weights_are_one_file_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = "a.safetensors", "./b/../a.safetensors", str(tmp_path / "a.safetensors")
    found = set()
    for name in names:
        config = default.get_config()
        config.backbone.pretrained = name
        today = settings.as_json(settings.resolve(config, {}))
        found.add(today["backbone"]["pretrained"])
        old = today | {"backbone": today["backbone"] | {"pretrained": name}}
        (tmp_path / "config.json").write_text(json.dumps({"config": old}))
        workdir.check(tmp_path, today)
    assert found == {str(tmp_path / "a.safetensors")}


def test_the_reference_overlay_yields_to_the_command_line():
    config = default.get_config()
    config.fidelity = "reference"
    assert settings.resolve(config, {}).augment.per == "batch"
    chosen = settings.resolve(config, {"augment.per": "sample"})
    assert chosen.augment.per == "sample"
    assert chosen.strategy.climb.train_head is False


def test_names_may_be_given_as_one_word():
    config = default.get_config()
    config.probe.names = ("ridge,knn",)
    assert settings.resolve(config, {}).probe.names == ("ridge", "knn")
    config.probe.names = ()
    assert settings.resolve(config, {}).probe.names == ()


def test_every_overlaid_field_exists_and_differs_from_the_default():
    config = default.get_config()
    quirks = dotted.flat(config.reference.to_dict())
    assert len(quirks) == 17
    for name, value in quirks.items():
        assert dotted.get(config, name) != value, name


@pytest.mark.parametrize("name", ranges.CHECKS)
def test_a_number_out_of_range_is_named(name):
    config = default.get_config()
    dotted.put(config, name, type(dotted.get(config, name))(-1))
    with pytest.raises(UsageError, match=f"config.{name} must be .*got -1"):
        settings.resolve(config, {})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("baselines", ("climb",), "other strategies"),
        ("baselines", ("none", "none"), "each once"),
        ("optimizer.learning_rate", float("inf"), "finite number"),
        ("strategy.align_weight", float("nan"), "finite number"),
        ("seeds", (), "integers in"),
        ("seeds", (1, 1), "must differ"),
        ("seeds", (-1,), "integers in"),
        ("seeds", ("a",), "integers in"),
        ("probe.names", ("knn", "knn"), "each once"),
        ("probe.scopes", (), "at least one"),
        ("probe.scopes", ("joint", "joint"), "each once"),
        ("probe.ratios", (), "at least one"),
        ("probe.ratios", (0.5, 0.5), "each once"),
        ("probe.ratios", (0.5, 1.5), r"shares in \(0, 1\]"),
        ("probe.ratios", (0.0,), r"shares in \(0, 1\]"),
        ("probe.ratios", ("a",), r"shares in \(0, 1\]"),
        ("precision", "float16", "one of float32, bfloat16"),
        ("fidelity", "papers", "one of paper, reference"),
    ],
)
def test_other_wrong_values_are_named(name, value, words):
    config = default.get_config()
    dotted.put(config, name, value)
    with pytest.raises(UsageError, match=words):
        settings.resolve(config, {})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stream.dataset", "digits, cifar10"),
        ("backbone.name", "resnet18"),
        ("method.name", ", ".join(METHODS)),
        ("strategy.name", ", ".join(STRATEGIES)),
        ("optimizer.name", "sgd, adam, adamw, lars"),
        ("optimizer.schedule", "constant, local_cycle, warmup_cosine"),
        ("probe.dataset", "digits, cifar10"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(name, words):
    config = default.get_config()
    dotted.put(config, name, "nonesuch")
    with pytest.raises(UsageError, match=f"config.{name} must be one of .*{words}"):
        build.check_names(config)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("strategy.memory_size", 100, "config.strategy.climb: .*1900 images"),
        ("strategy.climb.ema_parts", ("head",), "ema parts"),
        ("strategy.align_criterion", "l1", "one of cosine, mse, ssl, got 'l1'"),
        ("strategy.align_on", "pixels", "one of projection, feature, got 'pixels'"),
        ("augment.name", "mirror", "simclr, common"),
        ("optimizer.schedule", "local_cycle", "rise . passes"),
    ],
)
def test_impossible_settings_are_told_before_anything_runs(name, value, words):
    config = default.get_config()
    config.backbone.name = "mlp"
    config.passes = 2
    dotted.put(config, name, value)
    with pytest.raises(UsageError, match=words):
        learning.make_learning(config, shape=(32, 32, 3), mean=(0,) * 3, std=(1,) * 3)
