"""Measures convolutions inside loops: plain autodiff against explicit gradients.

A train step (forward, backward, plain SGD) runs three times: as a Python loop of
jitted steps, as `lax.scan`, as `lax.scan(unroll=True)`, and under `lax.cond`; a forward
pass runs directly and inside `lax.map`. Prints the fastest of several interleaved runs,
the figure that a shared machine disturbs least.

    python benchmarks/conv_loops.py --networks convnet,slim_resnet18 --images 40
"""

import argparse
import time
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from ocssl_jax.backbones import conv, make_backbone

PASSES = 3


def network(name, images, side):
    """Variables, inputs [n side side 3], the step and the forward pass."""
    module = make_backbone(
        name,
        image_size=side,
        dtype="float32",
        width=0,
        depth=0,
        stem="auto",
        pool="cls",
    )
    x = jax.random.normal(jax.random.key(0), (images, side, side, 3))
    mask = jnp.ones(images, bool)
    variables = module.init(jax.random.key(1), x[:1], train=False)

    def forward(variables, x):
        return module.apply(variables, x, train=False)

    def step(variables, x):
        def loss(params):
            e, new = module.apply(
                {**variables, "params": params},
                x,
                train=True,
                mask=mask,
                mutable=["batch_stats"],
            )
            return jnp.mean(jnp.square(e - 1.0)), new["batch_stats"]

        grads, stats = jax.grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], grads)
        return {"params": params, "batch_stats": stats}

    return variables, x, step, forward


def programs(step, forward):
    """Name -> compiled function of (variables, x), to be run to its end."""

    def scan(unroll):
        def run(variables, x):
            body = lambda v, _: (step(v, x), None)
            return lax.scan(body, variables, None, length=PASSES, unroll=unroll)[0]

        return jax.jit(run)

    one = jax.jit(step)

    def python_loop(variables, x):
        for _ in range(PASSES):
            variables = one(variables, x)
        return variables

    def cond(variables, x):
        yes = jnp.sum(x) < jnp.inf
        return lax.cond(yes, step, lambda v, x: v, variables, x)

    def mapped(variables, x):
        parts = x.reshape((2, -1, *x.shape[1:]))
        return lax.map(lambda part: forward(variables, part), parts)

    return {
        "3 steps, Python loop": python_loop,
        "3 steps, scan": scan(1),
        "3 steps, scan unrolled": scan(PASSES),
        "1 step": one,
        "1 step in cond": jax.jit(cond),
        "forward": jax.jit(forward),
        "forward in map of 2": jax.jit(mapped),
    }


def seconds(run, *args):
    start = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - start


def measure(name, images, side, repeats, kinds):
    table = {}
    for kind in kinds:
        explicit = kind == "explicit"
        with mock.patch.object(conv, "explicit_gradients", lambda flag=explicit: flag):
            variables, x, step, forward = network(name, images, side)
            runs = programs(step, forward)
            compile_time = {k: seconds(run, variables, x) for k, run in runs.items()}
        del compile_time  # the first call compiles; it is not the subject here
        table[kind] = (runs, variables, x)
    best: dict[tuple[str, str], float] = {}
    for _ in range(repeats):
        for kind, (runs, variables, x) in table.items():
            for what, run in runs.items():
                spent = seconds(run, variables, x)
                best[what, kind] = min(best.get((what, kind), spent), spent)
    print(f"\n{name}, {images} images of {side}x{side}, best of {repeats}, ms")
    print(f"{'':26s}" + "".join(f"{kind:>12s}" for kind in kinds))
    for what in next(iter(table.values()))[0]:
        row = "".join(f"{1e3 * best[what, kind]:12.1f}" for kind in kinds)
        print(f"{what:26s}{row}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="convnet,slim_resnet18,resnet18")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default="plain,explicit")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")
    for name in args.networks.split(","):
        measure(name, args.images, args.side, args.repeats, args.kinds.split(","))


if __name__ == "__main__":
    main()
