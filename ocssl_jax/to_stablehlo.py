"""An encoder as one program with its weights, in StableHLO: any backbone, any machine.

The file is what `jax.export` writes; whoever has JAX loads and calls it, without this
library and for as long as StableHLO is kept compatible. It takes any number of images.
"""

import importlib.util

import jax
import jax.numpy as jnp
from jax import export

from ocssl_jax.errors import UsageError
from ocssl_jax.learning import backbone_of
from ocssl_jax.saved import Saved

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(encoder: Saved) -> bytes:
    """The program: uint8 images [n h w c] -> features [n f] float32, computed as such.

    Raises:
      UsageError: if what JAX needs to write it is not installed.
    """
    if not importlib.util.find_spec("flatbuffers"):
        raise UsageError(
            "--to stablehlo needs flatbuffers: pip install 'ocssl_jax[stablehlo]'"
        )
    # In bfloat16 the program would be one for the machine that writes it.
    config = encoder.config.copy_and_resolve_references()
    config.precision = "float32"
    module = backbone_of(config, image_size=encoder.pixels.shape[0])
    whole = encoder._replace(module=module)
    variables = jax.tree.map(jnp.asarray, encoder.variables)
    (n,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((n, *encoder.pixels.shape), jnp.uint8)
    encode = jax.jit(lambda images: whole.encode(variables, images))
    return bytes(export.export(encode, platforms=PLATFORMS)(images).serialize())
