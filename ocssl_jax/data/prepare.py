"""Gets a data set and writes it as array_record, without TensorFlow.

`python -m ocssl_jax.data.prepare cifar100 --data_dir DIR [--manual_dir DIR]`

Archives come from the manual folder (under their published names), from an earlier
download, or from the network. TFDS would try an unreachable address for minutes, so
this looks first whether each archive can be had.
"""

import queue
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocssl_jax.commandline import Parser
from ocssl_jax.data import records
from ocssl_jax.data.domainnet import DOMAINS
from ocssl_jax.data.errors import DataError
from ocssl_jax.data.tf_standin import tf_standin

STOCK = ("cifar10", "cifar100", "mnist", "svhn_cropped", "cars196")  # TFDS's builders
DOMAINNET = tuple(f"domainnet/{domain}" for domain in DOMAINS)
NAMES = ("digits", *STOCK, *DOMAINNET)
ALIASES = {"svhn": "svhn_cropped"}  # a data set's name here -> at TFDS
# TFDS has no register of DomainNet's archives; this list tells whether they can be had.
DOMAINNET_LIST = "http://csr.bu.edu/ftp/visda/2019/multi-source/{}/txt/{}_train.txt"
PATIENCE = 8.0  # seconds to wait for a server's first answer


def reachable(urls: Sequence[str], *, patience: float) -> dict[str, str]:
    """Asks for the first byte of every address at once.

    Args:
      urls: addresses.
      patience: seconds to wait for the answers.

    Returns:
      Why each address that did not answer is out of reach; empty if all did.
    """
    answers: queue.Queue[tuple[str, str]] = queue.Queue()

    def ask(url: str) -> None:
        try:
            with urllib.request.urlopen(url, timeout=patience):
                answers.put((url, ""))
        except urllib.error.URLError as error:
            answers.put((url, str(error.reason)))
        except (OSError, ValueError) as error:
            answers.put((url, str(error)))

    failed = dict.fromkeys(urls, f"no answer within {patience:g} s")
    for url in failed:
        # A daemon, because looking up a name cannot be given a time limit.
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    try:
        for _ in urls:
            url, why = answers.get(timeout=patience)
            failed[url] = why
    except queue.Empty:
        pass
    return {url: why for url, why in failed.items() if why}


def _absent(builder: Any, data_dir: Path, manual_dir: Path | None) -> dict[str, Any]:
    """Archives, by address, that neither folder holds."""
    from tensorflow_datasets.core.download import resource

    downloads = data_dir / "downloads"
    absent = {}
    for url, info in builder.url_infos.items():
        cached = resource.get_dl_fname(url, info.checksum)
        earlier = (downloads / builder.name / cached, downloads / cached)
        if manual_dir is not None and (manual_dir / info.filename).exists():
            continue
        if not any(resource.is_locally_cached(path) for path in earlier):
            absent[url] = info
    return absent


def _check_domainnet(builder: Any, data_dir: Path) -> None:
    from tensorflow_datasets.core.download import resource

    url = DOMAINNET_LIST.format(builder.name, builder.builder_config.name)
    cached = data_dir / "downloads" / builder.name / resource.get_dl_fname(url)
    failed = (
        {}
        if resource.is_locally_cached(cached)
        else reachable((url,), patience=PATIENCE)
    )
    if failed:
        raise DataError(
            f"DomainNet cannot be downloaded from {url} ({failed[url]}); prepare it on "
            f"another machine and copy its folder domainnet to {data_dir}"
        )


def _check_archives(builder: Any, data_dir: Path, manual_dir: Path | None) -> None:
    if not builder.url_infos:
        return _check_domainnet(builder, data_dir)
    absent = _absent(builder, data_dir, manual_dir)
    failed = reachable(tuple(absent), patience=PATIENCE)
    if failed:
        url, why = next(iter(failed.items()))
        files = ", ".join(absent[url].filename for url in failed)
        where = f" is not in {manual_dir} and" if manual_dir else ""
        raise DataError(
            f"{files}{where} cannot be downloaded from {url} ({why}); "
            "get the files on another machine and name their folder with --manual_dir"
        )


def prepare(name: str, *, data_dir: Path, manual_dir: Path | None = None) -> Path:
    """Prepares a data set unless it is there already.

    Args:
      name: one of `NAMES` or `ALIASES`.
      data_dir: TFDS's data folder; made if absent.
      manual_dir: a folder that holds the published archives, checked by sha256.

    Returns:
      The folder of the prepared data set.

    Raises:
      DataError: an archive is out of reach or is not the published one, or the folder
        cannot be written.
    """
    import tensorflow_datasets as tfds

    name = ALIASES.get(name, name)
    if name == "digits":
        from ocssl_jax.data.digits import prepare_digits

        prepare_digits(data_dir)
        return records.versions("ocssl_digits", data_dir)[-1]
    if manual_dir is not None and not manual_dir.is_dir():
        raise DataError(f"--manual_dir {manual_dir}: no such folder")
    builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
    if not Path(builder.data_dir).is_dir():
        _check_archives(builder, data_dir, manual_dir)
        config = tfds.download.DownloadConfig(
            manual_dir=manual_dir, try_download_gcs=False
        )
        with tf_standin():
            builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 with one line on stderr if it fails."""
    names = (*NAMES, *ALIASES)
    text = f"{__doc__}\nData sets: {', '.join(names)}"
    parser = Parser("ocssl_jax.data.prepare", text)
    parser.add_argument("name", choices=names)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--manual_dir", type=Path, help="holds downloaded archives")
    given = parser.parse_args(arguments)
    manual_dir = given.manual_dir and given.manual_dir.expanduser()
    try:
        folder = prepare(
            given.name, data_dir=given.data_dir.expanduser(), manual_dir=manual_dir
        )
    except Exception as error:  # TFDS raises a dozen kinds; all mean: no data
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{given.name}: {lines[0]}", file=sys.stderr)
        return 2
    print(f"{given.name}: ready in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
