"""The encoder that a run ended with, for other programs.

  python -m ocssl_jax.export runs/climb --to torch --out encoder.safetensors
  python -m ocssl_jax.export runs/climb --to stablehlo --out encoder.stablehlo

Arguments:
  WORKDIR      folder of a finished run
  --to KIND    torch: weights under timm's names, of ResNets and the ViT, without torch
               stablehlo: one program with its weights, for every backbone, which JAX
               runs on any device without this library
  --out FILE   named .safetensors for torch, .stablehlo (which needs
               pip install 'ocssl_jax[stablehlo]') for stablehlo
  --seed N     whose encoder it is (default the first of the run's seeds)

Lines of Python that load the file are printed. What torch gets are images normalised
as WORKDIR/encoder/encoder.json says; the program normalises uint8 images itself.
Exit code: 0 done; 2 wrong input; 1 the disk failed.
"""

from collections.abc import Sequence
from pathlib import Path

from ocssl_jax import signals
from ocssl_jax.commandline import Parser, ending, program

PROGRAM = "ocssl_jax.export"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file that the command line asks for."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--to", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(argv)
    with ending(PROGRAM, given.out):
        # Imported here, for --help and wrong flags to be answered at once.
        from ocssl_jax.exporting import export

        signals.interrupt()
        print(export(given.workdir, given.to, given.out, seed=given.seed))


if __name__ == "__main__":
    program(main)
