"""Probe the saved encoders of a run again, now or whenever there is time for it.

  python -m ocssl_jax.evaluate runs/climb --probe knn
  python -m ocssl_jax.evaluate runs/climb --scope separate --ratio 0.05,0.1,0.5,1
  python -m ocssl_jax.evaluate runs/climb --probe linear_augmented --last

Every experience's encoders are judged unless the run kept none
(--config.checkpoint.encoders=False): then the final ones once it has finished. Of a run
under way those are judged that it has by now. Results go to WORKDIR/evaluation/; repeat
a command to go on where it was interrupted.

The probe linear_augmented is the papers' linear evaluation: all training images are
augmented and encoded anew in each of its --epochs, so --last encoders may do. Of its
--rates the best on training images held out is chosen; rates.csv has them all. With
--labels_per_class 0 it sees all labels, whatever the run's probes did.

Exit code: 0 done, or stopped and saved; 2 wrong input; 1 an encoder that is not
finite, or the disk failed.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ocssl_jax import signals
from ocssl_jax.commandline import ending, program

PROGRAM = "ocssl_jax.evaluate"


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with what is wrong; --help tells the rest."""
        self.exit(2, f"{PROGRAM}: {message}; see --help\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what is not given stays None, which means: as in the run."""
    parser = Parser(
        PROGRAM,
        allow_abbrev=False,  # as of the other commands: --prob is a mistake
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", metavar="WORKDIR", type=Path)
    add = parser.add_argument
    add("--probe", type=listed(str), help="names of probes (default: the run's own)")
    add("--scope", type=listed(str), help="joint, upto, separate (the run's own)")
    add("--ratio", type=listed(float), help="shares of the labels, in (0, 1]")
    add("--labels_per_class", type=int, metavar="N", help="labels of a class; 0: all")
    add("--last", action="store_true", help="the last encoders that there are, alone")
    add("--epochs", type=int, metavar="N", help="of linear_augmented (the run's own)")
    add("--rates", type=listed(float), help="learning rates that it tries (the same)")
    add("--dataset", metavar="NAME", help="judge on that data set, not the stream's")
    add("--dataset_dir", metavar="DIR", help="where it lies (beside the stream's)")
    add("--data_dir", metavar="DIR", help="where the stream's lies, if it was moved")
    return parser.parse_args(arguments)


def fields(given: argparse.Namespace) -> dict[str, Any]:
    """The config's fields that a command line sets."""
    asked = {
        "probe.names": given.probe,
        "probe.scopes": given.scope,
        "probe.ratios": given.ratio,
        "probe.labels_per_class": given.labels_per_class,
        "probe.linear_augmented.epochs": given.epochs,
        "probe.linear_augmented.learning_rates": given.rates,
        "probe.dataset": given.dataset,
        "probe.data_dir": given.dataset_dir,
        "stream.data_dir": given.data_dir,
    }
    return {name: value for name, value in asked.items() if value is not None}


def listed(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """A reader of `a,b`."""

    def read(text: str) -> tuple[Any, ...]:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())

    read.__name__ = f"comma-separated {kind.__name__}"  # for argparse's complaint
    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge what the command line asks for."""
    given = parse(arguments)
    with ending(PROGRAM, given.workdir):
        # Imported here, for --help and wrong flags to be answered at once.
        from ocssl_jax import evaluation

        signals.interrupt()  # until somebody listens
        print(evaluation.evaluate(given.workdir, fields(given), last=given.last))


if __name__ == "__main__":
    program(main)
