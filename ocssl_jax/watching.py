"""An evaluation that takes long: what is seen of it, and how it is stopped."""

import sys
import time

from tqdm import tqdm

from ocssl_jax.progress import QUIET
from ocssl_jax.stop import Stop
from ocssl_jax.views import Blocks, Watch


def watch(what: str, stop: Stop) -> Watch:
    """Shows a bar in a terminal, calm lines elsewhere; ends it when asked to.

    Args:
      what: is evaluated, in words.
      stop: who listens for signals.
    """

    def watched(blocks: Blocks, total: int) -> Blocks:
        began = said = time.monotonic()
        seen = sys.stderr.isatty()
        with tqdm(
            total=total, desc=what, unit=" images", disable=not seen, leave=False
        ) as bar:
            done = 0
            for block in blocks:
                stop.check(f"amid {what}, which will begin anew")
                done += len(block)
                bar.update(len(block))
                now = time.monotonic()
                if not seen and now > said + QUIET:
                    said = now
                    left = tqdm.format_interval((now - began) * (total / done - 1))
                    line = f"{what}: {done:,} of {total:,} images, {left} left"
                    print(line, flush=True)
                yield block

    return watched
