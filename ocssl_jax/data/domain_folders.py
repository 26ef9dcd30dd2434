"""Class folders of several domains, in one of three layouts.

* `<root>/<domain>/{train,test}/<class>/*`
* `<root>/{train,test}/<domain>/<class>/*`
* `<root>/<domain>_{train,test}/<class>/*`

`val` stands in for `test` where there is none. Domains are numbered in the order of
their names. Classes are those of all domains in the order of theirs; a domain may lack
some. Within a class folder everything is as in `folders.py`.
"""

from pathlib import Path

from ocssl_jax.data import folders
from ocssl_jax.data.cache import Source
from ocssl_jax.data.errors import DataError

LAYOUTS = (
    "{0}/<domain>/train/<class>/<picture>, {0}/train/<domain>/<class>/<picture> or "
    "{0}/<domain>_train/<class>/<picture>, and the same with test"
)
ENDS = ("_train", "_test", "_val")
Layout = dict[str, dict[str, str]]  # domain -> split -> folder below the root


def source(root: Path, *, channels: int, size: int) -> Source:
    """A data set of domain folders.

    Args:
      root: holds them in one of the three layouts.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.

    Raises:
      ValueError: no size is given.
      DataError: there are no domain folders, or one of them has no picture to train on.
    """
    folders.check_size(root, size)
    layout = _layout(root)
    if not layout:
        raise DataError(
            f"no domain folders in {root}; they are laid out as {LAYOUTS.format(root)}"
        )
    files: dict[str, list[folders.File]] = {"train": [], "test": []}
    for number, (domain, splits) in enumerate(layout.items()):
        for split, folder in splits.items():
            found = folders.scan(root, folder, domain=number)
            if split == "train" and not found:
                raise DataError(f"domain {domain}: {folders.no_picture(root / folder)}")
            files[split] += found
    return folders.of_files(
        "domain_folder",
        root,
        files,
        channels=channels,
        size=size,
        domain_names=tuple(layout),
    )


def _layout(root: Path) -> Layout:
    """Where each domain's splits lie, domains in the order of their names."""
    names = _folders(root)
    if "train" in names:
        held_out = "test" if "test" in names else "val"
        domains = _folders(root / "train") + _folders(root / held_out)
        return {
            domain: {"train": f"train/{domain}", "test": f"{held_out}/{domain}"}
            for domain in sorted(set(domains))
        }
    stems = {n.removesuffix(end) for n in names for end in ENDS if n.endswith(end)}
    inside = [
        n for n in names if any((root / n / s).is_dir() for s in ("train", "test"))
    ]
    if any(f"{stem}_train" in names for stem in stems):
        start = {domain: f"{domain}_" for domain in sorted(stems)}
    else:
        start = {domain: f"{domain}/" for domain in inside}
    return {
        domain: {"train": f"{path}train", "test": _held_out(root, path)}
        for domain, path in start.items()
    }


def _held_out(root: Path, start: str) -> str:
    return f"{start}test" if (root / f"{start}test").is_dir() else f"{start}val"


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return folders.listing(root, ".", folders.UNLABELLED)[1]
