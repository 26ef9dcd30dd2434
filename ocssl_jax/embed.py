r"""Features of every picture in a folder, by the encoder that a run ended with.

  python -m ocssl_jax.embed runs/climb ~/pictures --out features.parquet
  python -m ocssl_jax.embed runs/climb ~/pictures --out features.npz --seed 2

Arguments:
  WORKDIR      folder of a finished run
  FOLDER       pictures, in it and in all folders below it
  --out FILE   .parquet (which needs pip install 'ocssl_jax[parquet]') or .npz
  --seed N     whose encoder it is (default the first of the run's seeds)

Columns: path, below FOLDER; class, the name of the folder that a picture lies in, if
there are such folders; feature, a list of float32. Bytes of a name that are not UTF-8
are written as \xff. Pictures are resized as those of class folders are. What cannot be
read is named, left out and counted.
Exit code: 0 done; 2 wrong input; 1 features that are not finite, or the disk failed.
"""

from collections.abc import Sequence
from pathlib import Path

from ocssl_jax import signals
from ocssl_jax.commandline import Parser, ending, program

PROGRAM = "ocssl_jax.embed"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the features that the command line asks for."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(argv)
    with ending(PROGRAM, given.out):
        # Imported here, for --help and wrong flags to be answered at once.
        from ocssl_jax import embedding

        signals.interrupt()
        print(embedding.embed(given.workdir, given.folder, given.out, seed=given.seed))


if __name__ == "__main__":
    program(main)
