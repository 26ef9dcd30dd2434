"""The final encoder of a run in the form of another program, in one file."""

from pathlib import Path
from typing import Any

from safetensors import numpy as safetensors

from ocssl_jax import replacing, saved
from ocssl_jax.errors import UsageError
from ocssl_jax.to_stablehlo import to_stablehlo
from ocssl_jax.to_torch import recipe, to_torch
from ocssl_jax.workdir import write_bytes

SUFFIXES = {"torch": ".safetensors", "stablehlo": ".stablehlo"}
LOAD = {
    "torch": (
        "import safetensors.torch\n"
        'model.load_state_dict(safetensors.torch.load_file("{0}"))'
    ),
    "stablehlo": (
        "import jax\n"
        'encode = jax.export.deserialize(open("{0}", "rb").read()).call\n'
        "features = encode(images)  # uint8 [n {1} {2} {3}]"
    ),
}


def export(workdir: Path, kind: str, out: Path, *, seed: int | None) -> str:
    """Write the encoder to `out`; what was written and how it is loaded, in lines.

    Args:
      workdir: of a finished run.
      kind: a key of `SUFFIXES`.
      out: a file of that suffix.
      seed: whose encoder; None: the first.

    Raises:
      UsageError: before anything is written, if that is not possible.
    """
    if kind not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"--to must be one of {known}, got {kind!r}")
    if out.suffix != SUFFIXES[kind]:
        raise UsageError(f"--out must be a file named *{SUFFIXES[kind]}, got {out}")
    replacing.check(out, "--out")
    encoder = saved.load(workdir, seed)
    load = LOAD[kind].format(out, *encoder.pixels.shape)
    if kind == "stablehlo":
        write_bytes(out, to_stablehlo(encoder))
        return f"{out}, in Python:\n\n{load}"
    if encoder.lens:
        raise UsageError(
            f"--to torch has no autoencoder, through which the encoder of strategy "
            f"{encoder.config.strategy.name!r} looks: --to stablehlo takes both"
        )
    module: Any = encoder.module  # others than a timm model's are refused
    tensors = to_torch(module, encoder.variables)
    model = recipe(module, encoder.pixels.shape[2])
    write_bytes(out, safetensors.save(tensors, metadata={"model": model}))
    return f"{out}, in Python:\n\n{model}\n{load}\nmodel.eval()"
