"""Compare runs: the papers' tables, mean and spread over seeds.

  python -m ocssl_jax.report runs/*
  python -m ocssl_jax.report runs/er runs/climb runs/my_sweep --out runs/compared

Arguments:
  WORKDIR...                folders of runs; that of a sweep stands for its points, and
                            RUN/baselines/NAME is a run too
  --out DIR                 also write report.md, report.csv and index.html there, in
                            no run's folder
  --probe NAME              probe whose accuracies are shown (default the one that
                            stands for the first run)
  --metrics NAME[,NAME...]  metrics that come first (default CA,FA; of classifiers
                            accuracy,forgetting)
  --compute                 also a table by what each run computed, in operations

Runs whose configs differ in seeds alone are one line, mean ± sample standard deviation
over all their seeds; a seed that is there twice is refused. A strategy run on several
numbers of tasks is shown in the papers' layout first. Unfinished runs are marked, and
of those that broke down it is said why; their numbers are those so far, all tasks
weighed alike. Of several folders those that hold no run are left out.
Exit code: 0 done; 2 wrong input.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocssl_jax import workdir
from ocssl_jax.commandline import Parser, ending, program
from ocssl_jax.errors import UsageError
from ocssl_jax.metrics import ALL, OWN
from ocssl_jax.report import runs
from ocssl_jax.report.compare import Line, lines
from ocssl_jax.report.compare_tables import markdown
from ocssl_jax.report.table import aligned

if TYPE_CHECKING:
    from ocssl_jax.report.compute import Spent

PROGRAM = "ocssl_jax.report"


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the runs that the command line names."""
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("workdir", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--probe")
    parser.add_argument("--metrics", default="")
    parser.add_argument("--compute", action="store_true")
    args = parser.parse_args(argv)
    with ending(PROGRAM, args.out or Path()):
        if args.out:
            check_out(args.out)
        # `runs/*` may well hold what an earlier call has written.
        folders = [f for f in args.workdir if not (args.out and same(f, args.out))]
        found = runs.find(runs_among(folders))
        if not found:
            raise UsageError("there is no run to compare in the folders given")
        probe = chosen_probe(found, args.probe)
        rows = lines(found, probe)
        names = chosen_metrics(rows, args.metrics)
        notes = remarks(rows, probe)
        print(markdown(rows, probe=probe, names=names, notes=notes))
        costs = computed(rows, names) if args.compute else []
        if args.out:
            # Imported here, since it takes what draws pictures.
            from ocssl_jax.report.compare_page import write_comparison

            index = write_comparison(
                args.out, rows, probe=probe, names=names, notes=notes, costs=costs
            )
            print(f"\nreport: {index}")


def computed(rows: Sequence[Line], names: Sequence[str]) -> list["Spent"]:
    """What the lines computed, printed as a table.

    Raises:
      UsageError: if that is known of none of them.
    """
    # Imported here, since it takes networks.
    from ocssl_jax.report.compute import compute_table, spent

    found = spent(rows)
    if not found:
        raise UsageError("--compute needs a finished run, with its encoder/ folder")
    one = compute_table(found, names)
    print(f"\n**{one.title}**\n\n{aligned(one.head, one.body)}")
    return found


def runs_among(folders: Sequence[Path]) -> Sequence[Path]:
    """The folders without those that hold no run, each of which is named.

    All of them where none holds one: the refusal then says why.
    """
    kept = [f for f in folders if runs.is_run(f) or not f.exists()]
    if not kept:
        return folders
    for folder in folders:
        if folder not in kept:
            print(f"{PROGRAM}: {folder} is no run, left out", file=sys.stderr)
    return kept


def check_out(out: Path) -> None:
    """Refuse to write among the files of a run, whose own report has the same names.

    Raises:
      UsageError: if `out` is the folder of a run or a sweep, or lies in that of a run.
    """
    place = out.resolve()
    if runs.is_run(place) or any(map(holds_run, place.parents)):
        raise UsageError(f"--out {out} lies in the folder of a run; choose another")


def holds_run(folder: Path) -> bool:
    """Whether the `config.json` there is a run's: other programs have some too."""
    path = folder / "config.json"
    try:
        return path.is_file() and bool(workdir.read_json(path, needs="config"))
    except (UsageError, OSError):  # damaged, or not for us to read
        return False


def same(a: Path, b: Path) -> bool:
    """Whether two paths lead to one place."""
    return a.resolve() == b.resolve()


def chosen_probe(found: Sequence[runs.Found], asked: str | None) -> str:
    """The probe to show.

    Raises:
      UsageError: if no run was judged by it.
    """
    known = list(dict.fromkeys(probe for run in found for probe in run.probes))
    if asked and asked not in known:
        listed = ", ".join(known) or "none"
        raise UsageError(f"--probe must be one of {listed}, got {asked!r}")
    return asked or next((run.probes[0] for run in found if run.probes), "no")


def chosen_metrics(rows: Sequence[Line], asked: str) -> list[str]:
    """The metrics that come first.

    Raises:
      UsageError: naming one that no run has.
    """
    known = list(dict.fromkeys(name for row in rows for name in row.values)) or ALL
    usual = OWN if "accuracy" in known else ("CA", "FA")
    names = [name.strip() for name in asked.split(",")] if asked else list(usual)
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            raise UsageError(f"--metrics must be among {listed}, got {name!r}")
    return list(dict.fromkeys(names))


def remarks(rows: Sequence[Line], probe: str) -> list[str]:
    """What a reader has to know besides."""
    notes = []
    bare = [row.label for row in rows if row.finished and not row.values]
    if bare:
        which = "any" if probe == "no" else f"the {probe}"
        notes.append(f"Not judged by {which} probe: {', '.join(bare)}.")
    if any(row.values and not row.finished for row in rows):
        notes.append(
            "Unfinished runs: the numbers are those so far, all tasks weighed alike."
        )
    broken = [run for row in rows for run in row.runs if run.failed]
    notes += [f"{run.folder} broke down: {run.failed}" for run in broken]
    return notes


if __name__ == "__main__":
    program(main)
