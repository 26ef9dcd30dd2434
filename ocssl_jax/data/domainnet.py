"""DomainNet: 345 classes in six domains, prepared by tensorflow-datasets.

Each domain is a config of TFDS's builder and lies in
`<data_dir>/domainnet/<domain>/<version>/`. Peng et al., "Moment Matching for
Multi-Source Domain Adaptation", ICCV 2019. A domain may lack a class.
"""

from collections.abc import Iterator
from pathlib import Path

from ocssl_jax.data import records
from ocssl_jax.data.cache import Row, Source, fingerprint

# In the order in which CaSSLe (Fini et al., CVPR 2022) has them arrive.
DOMAINS = ("real", "quickdraw", "painting", "sketch", "infograph", "clipart")


def source(data_dir: Path, *, channels: int, size: int) -> Source:
    """All six domains.

    Args:
      data_dir: TFDS's data folder.
      channels: 1 or 3, of the decoded images.
      size: side of the resized images in pixels.

    Raises:
      DataError: a domain is missing or not in the array_record format.
    """
    place = [records.prepared(f"domainnet/{name}", data_dir) for name in DOMAINS]

    def rows(split: str) -> Iterator[Row]:
        for number, folder in enumerate(place):
            yield from records.rows(
                folder, split, channels=channels, size=size, domain=number
            )

    return Source(
        name=f"domainnet-{size}",
        fingerprint=fingerprint([(f.name, records.facts(f)) for f in place]),
        class_names=lambda: records.class_names(place[0]),
        rows=rows,
        domain_names=DOMAINS,
    )
