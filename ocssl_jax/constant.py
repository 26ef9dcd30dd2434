"""Encoders that never change, such as a random one, judged beside those that learn."""

from collections.abc import Mapping, Sequence

from ocssl_jax.accuracy import Record, hold
from ocssl_jax.probes import Fit, Looking
from ocssl_jax.probing import Features, Probing, judge
from ocssl_jax.scopes import Variant


def judge_constant(
    probes: Mapping[str, Fit | Looking],
    ways: Sequence[Variant],
    images: Probing,
    features: Features,
    *,
    seed: int,
    after: Sequence[int],
    met: bool = False,
) -> list[Record]:
    """As `judge` after each experience of `after`, of an encoder that never changes.

    Only those that are about the tasks met so far are asked anew: the scope `upto`,
    fitted each time, and a method's own classifier.
    """
    more = lambda way: way.scope == "upto" or way.defines == "classifier"
    growing = [way for way in ways if more(way)]
    others = [way for way in ways if not more(way)]
    once = judge(probes, others, images, features, seed=seed, after=0, met=met).test
    held = hold(once, experiences=1 + max(after))
    records = [record for record in held if record.after_experience in after]
    for experience in after:
        found = judge(
            probes, growing, images, features, seed=seed, after=experience, met=met
        )
        records += found.test
    return records
