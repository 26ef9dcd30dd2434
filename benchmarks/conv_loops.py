"""Times convolutions inside loops: plain autodiff against explicit gradients.

  python -m benchmarks.conv_loops --case convnet,slim_resnet18 --images 40

A train step (forward, backward, plain SGD) runs three times: as a Python loop of jitted
steps, as `lax.scan`, as `lax.scan(unroll=True)`, and once under `lax.cond`; a forward
pass runs directly and inside `lax.map`. `plain` leaves the gradients of convolutions to
JAX, `explicit` is ocssl_jax/backbones/conv.py.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import commandline
from benchmarks.tables import Row
from benchmarks.timing import interleaved, timed
from ocssl_jax.backbones import conv, make_backbone

KINDS = ("plain", "explicit")
NETWORKS = ("convnet", "slim_resnet18", "resnet18")
PASSES = 3


def network(name: str, images: int, side: int) -> tuple[Any, Any, Any, Any]:
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


def programs(step: Any, forward: Any) -> dict[str, Any]:
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


def rows(name: str, images: int, side: int, repeats: int) -> Iterator[Row]:
    """Every program of one network in both kinds, interleaved."""
    clocks = {}
    for kind in KINDS:
        with mock.patch.object(conv, "form", lambda dtype, kind=kind: kind):
            variables, x, step, forward = network(name, images, side)
            for what, run in programs(step, forward).items():
                jax.block_until_ready(run(variables, x))  # traced while patched
                clocks[what, kind] = timed(partial(run, variables, x))
    for (what, kind), seconds in sorted(interleaved(clocks, repeats).items()):
        more = {"kind": kind, "images": images, "side": side}
        yield Row(f"{name}: {what}, {kind}", seconds, more=more)


def main() -> None:
    """Parse the flags, measure, print."""
    parser = commandline.parser(__doc__, cases="the networks", repeats=3)
    parser.add_argument("--images", type=commandline.positive, default=16)
    parser.add_argument("--side", type=commandline.positive, default=32)
    args = commandline.parsed(parser)
    names = commandline.chosen(parser, args.case, NETWORKS)
    if args.small:
        args.images, args.side, names = 2, 8, names[:1]
    found = [
        row
        for name in names
        for row in rows(name, args.images, args.side, args.repeats)
    ]
    commandline.finish(args, jax.devices()[0].device_kind, found)


if __name__ == "__main__":
    main()
