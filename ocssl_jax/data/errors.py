"""The one error of the data layer: data that is missing, damaged or unknown."""

from ocssl_jax.errors import UsageError


class DataError(UsageError):
    """One line that names the file or folder at fault and what to do about it."""
