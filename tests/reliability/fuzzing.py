"""How much hypothesis tries here, and that it tries the same in every run."""

from hypothesis import HealthCheck, settings


def tries(examples: int) -> settings:
    """That many examples, however long each takes, no one remembered."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
