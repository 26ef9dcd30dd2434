"""Which kinds of stream a data set allows, told before it is decoded."""

from ml_collections import ConfigDict

from ocssl_jax.data import DATASETS
from ocssl_jax.errors import UsageError


def check_domains(config: ConfigDict) -> None:
    """Refuse kinds, and probes, that a data set's domains do not allow.

    Raises:
      UsageError: saying what is allowed.
    """
    s = config.stream
    spec = DATASETS[s.dataset]
    if s.kind == "domain" and not spec.domains:
        known = ", ".join(name for name, row in DATASETS.items() if row.domains)
        raise UsageError(
            f"config.stream.kind domain needs a stream.dataset that has domains, one "
            f"of {known}, got {s.dataset!r}"
        )
    if spec.streaming:
        _check_streaming(config)


def _check_streaming(config: ConfigDict) -> None:
    """A classifier must not be tested on images that it was fitted to."""
    s = config.stream
    if s.kind != "domain":
        raise UsageError(
            f"config.stream.kind must be domain for {s.dataset!r}, got {s.kind!r}"
        )
    scopes = tuple(config.probe.scopes)
    own = config.probe.names and not config.probe.dataset
    if own and scopes != ("separate",):
        raise UsageError(
            f"{s.dataset!r} tests on images that the next domain trains on: only "
            "probes fitted to one domain alone are fair, of the scope separate "
            f"(probe.scopes), or none (probe.names), got {scopes!r}"
        )
