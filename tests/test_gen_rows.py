"""GEN's and GEN-MIR's rows of both MNISTs have the settings that were released.

As the released scripts name them: retrieval of classifier/generator, learning rate,
dropout p, max_beta, warmup, n_mem, mem_coeff, latents Z, depth, hidden units H, n_iter,
mir_iters, coefficients of the classifier (x, entropy, diversity, shell) and of the
generator (kl, rec, entropy, diversity, shell).
"""

import pytest

from configs import mir_mnist_permuted, mir_mnist_split

ROWS = """
split    gen      rand/rand .01 0  1  1000 4  3 50 2 128 15 -  -        -
split    gen_mir  mir/mir   .01 .4 1  1000 10 3 50 1 128 15 10 .1,1,1,0 .1,0,1,1,0
permuted gen      rand/rand .1  0  .2 250  4  2 50 1 128 15 -  -        -
permuted gen_mir  mir/rand  .1  0  .5 1    10 3 50 1 128 20 2  .1,1,1,2 -
"""
MODULES = {"split": mir_mnist_split, "permuted": mir_mnist_permuted}
GENERATOR = ("dropout", "max_beta", "warmup", "latent", "depth", "hidden")
CLASSIFIER_GAIN = ("interference", "entropy", "diversity", "shell")
GENERATOR_GAIN = ("kl", "reconstruction", "entropy", "diversity", "shell")


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_row(row):
    stream, name, retrieval, *numbers = row.split()
    rate, p, beta, warmup, batches, weight, z, depth, h, passes = map(
        float, numbers[:10]
    )
    steps, *gains = numbers[10:]
    config = MODULES[stream].get_config(name)
    own = config.strategy[name]
    assert (config.optimizer.learning_rate, config.passes) == (rate, passes)
    assert (own.replay_batches, own.replay_weight) == (batches, weight)
    expected = (p, beta, warmup, z, depth, h)
    assert tuple(own.generator[field] for field in GENERATOR) == expected
    parts = zip(("classifier", "generator"), retrieval.split("/"), strict=True)
    sought = tuple(part for part, how in parts if how == "mir")
    assert tuple(own.get("sought", ())) == sought
    assert steps == "-" or own.steps == float(steps)
    weights = zip((CLASSIFIER_GAIN, GENERATOR_GAIN), gains, strict=True)
    for group, (fields, values) in zip(
        ("classifier_gain", "generator_gain"), weights, strict=True
    ):
        if values != "-":
            found = [own[group][field] for field in fields]
            assert found == [float(value) for value in values.split(",")]
