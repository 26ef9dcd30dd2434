"""A learner in one's own loop, for streams that no data set holds.

  learner = ocssl_jax.Learner(config)
  state = learner.init(jax.random.key(0), images)
  for images in camera:
      state, metrics = learner.observe(state, images)
  features = learner.embed(state, images)
  classify = learner.probe(state, some_images, some_labels)

It is the learner of a run, whose state goes from hand to hand: nothing is hidden in the
object, and the same images in the same order give the same bits.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import saved, settings, workdir
from ocssl_jax.build import check_names
from ocssl_jax.checkpoint import Checkpoints, steps_in
from ocssl_jax.core import Key, TrainState
from ocssl_jax.dotted import key as config_key
from ocssl_jax.encoders import FINAL
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.functions import make_functions
from ocssl_jax.pixels import (
    Images,
    filled,
    labels_of,
    pixels_of,
    shape_of,
)
from ocssl_jax.probes import PROBES, Predict
from ocssl_jax.probing import PROBE_KEY
from ocssl_jax.step import Metrics
from ocssl_jax.wiring import group, made, wired


class Learner:
    """An online continual learner, without an end; without labels if it needs none.

    Pixels are normalised as `config.stream.pixels` says, or as those of the data set
    `config.stream.dataset` ('folder': as ImageNet's). Nothing is read of what else
    decides a stream, but for `batch_size` and, by GEM, `tasks`; nor of `config.seeds`
    and `config.baselines`. A new size of images compiles anew.
    """

    def __init__(
        self, config: ConfigDict, overrides: Mapping[str, Any] = MappingProxyType({})
    ):
        """A learner of a config from `configs/`, such as `default.get_config()`.

        Args:
          config: every field of it counts.
          overrides: dotted field -> value; they win over the overlay of
            `fidelity='reference'`.

        Raises:
          UsageError: naming the first field that is not possible.
        """
        config = config.copy_and_resolve_references()
        config.baselines = ()  # what a run has beside it
        own = {name: x for name, x in overrides.items() if name != "baselines"}
        self.config = settings.resolve(config, own)
        check_names(self.config)
        self._functions = cache(partial(make_functions, self.config))

    def check(self, example: Images) -> None:
        """Refuse what only building and tracing the functions tells, without computing.

        Raises:
          UsageError: if parts of the config do not fit each other or images like
            `example` [n h w c], or a file of weights cannot be used.
        """
        pixels = filled(pixels_of(example), self.config.stream.batch_size)
        functions, key = self._functions(shape_of(pixels)), jax.random.key(0)
        label = np.zeros(len(pixels), np.int32) if functions.classes else None
        state = jax.eval_shape(functions.init, key, pixels)
        jax.eval_shape(functions.step, state, pixels, label, 1, True)

    def init(self, key: Key, example: Images) -> TrainState:
        """The state before the first image; `example` shows their size [n h w c].

        Raises:
          UsageError: if `example` is no batch of images, or they do not fit the config.
        """
        pixels = filled(pixels_of(example), self.config.stream.batch_size)
        return self._functions(shape_of(pixels)).init(key, pixels)

    def observe(
        self,
        state: TrainState,
        images: Images,
        labels: Any = None,
        *,
        boundary: bool = False,
    ) -> tuple[TrainState, Metrics]:
        """Learn from what has arrived.

        Args:
          state: of `init`, `observe` or `load`; it is used up, go on with the new one.
          images: [n h w c] in the order of arrival, n from 1 to
            `config.stream.batch_size`; fewer rows are masked, not compiled anew.
          labels: [n] whole numbers from 0, for `config.method.name='supervised'` alone.
          boundary: whether a task begins here, for strategies that want to know; those
            that are free of tasks, as CLIMB, ignore it.

        Returns:
          The new state, and what a run logs of a stream batch, such as `loss`. Both may
          still be being computed.

        Raises:
          UsageError: if images or labels cannot be taken.
        """
        pixels = pixels_of(images)
        size = self.config.stream.batch_size
        if len(pixels) > size:
            raise UsageError(
                f"at most config.stream.batch_size={size} images can be observed at "
                f"once, got {len(pixels)}"
            )
        functions = self._functions(shape_of(pixels))
        label = labels_of(labels, len(pixels), functions.classes)
        label = None if label is None else filled(label, size)
        return functions.step(state, filled(pixels, size), label, len(pixels), boundary)

    def embed(self, state: TrainState, images: Images) -> np.ndarray:
        """Features [n f] float32 of any number of images, by the encoder.

        The state is as it was. `config.probe.batch_size` images are encoded at a time.

        Raises:
          UsageError: if `images` cannot be taken.
        """
        pixels, size = pixels_of(images), self.config.probe.batch_size
        encode = self._functions(shape_of(pixels)).encode
        parts = [pixels[i : i + size] for i in range(0, len(pixels), size)]
        found = [encode(state, filled(part, size))[: len(part)] for part in parts]
        return np.concatenate(jax.device_get(found))

    def probe(
        self,
        state: TrainState,
        images: Images,
        labels: Any,
        *,
        name: str = "",
        held_out: tuple[Images, Any] | None = None,
    ) -> Callable[[Images], np.ndarray]:
        """A classifier on the features, fitted to a few labelled images.

        Args:
          state: the encoder's; the classifier keeps a reference to it, so fit it anew
            once the state has been observed with.
          images: [n h w c].
          labels: [n], any integers.
          name: of the probe; '': the first of `config.probe.names`.
          held_out: images and labels to choose an epoch by, which 'linear' needs.

        Returns:
          A function of images [m h w c] that gives their labels [m].

        Raises:
          UsageError: if the probe cannot be fitted to what is given.
        """
        name = name or next(iter(self.config.probe.names), "ridge")
        one_of("probe.names", name, PROBES)
        fields = group(self.config.probe, name)
        what = f"probe.{name}"
        fit = made(PROBES[name], what, **wired(PROBES[name], what, fields))
        key = jax.random.fold_in(state.key, PROBE_KEY)
        held = (self.embed(state, held_out[0]), held_out[1]) if held_out else ()
        given = self.embed(state, images), np.asarray(labels)
        predict: Predict = made(fit, what, key, *given, *held)
        return lambda new: predict(self.embed(state, new))

    def save(self, folder: str | Path, state: TrainState) -> None:
        """Write a state to `folder`, in place of an earlier one of the same learner.

        Raises:
          UsageError: if the folder holds a state that is as old or older.
          StorageError: if it cannot be written; an earlier one is still there then.
        """
        place, step = Path(folder).expanduser(), int(state.step)
        saves = Checkpoints(place, keep=1)
        latest = saves.latest()
        if latest is None or latest < step:
            about = {"config": settings.as_json(self.config)}
            saves.save(step, [state], about)
        saves.close()
        if latest is not None and latest >= step:
            raise UsageError(
                f"{place} holds the state after stream batch {latest}, this is the one "
                f"after {step}: a folder only takes later ones"
            )

    def export(self, folder: str | Path, state: TrainState, example: Images) -> None:
        """Write the encoder as a finished run does, in place of an earlier one.

        `ocssl_jax.embed` and `ocssl_jax.export` take `folder` for a run's then.

        Args:
          folder: holds `config.json` and `encoder/` afterwards.
          state: the encoder's.
          example: images [n h w c] of its size.

        Raises:
          UsageError: if the folder is of another config.
        """
        place = Path(folder).expanduser()
        described = settings.as_json(self.config)
        workdir.describe_once(place, described, {})
        functions = self._functions(shape_of(pixels_of(example)))
        states = {self.config.seeds[0]: state}
        saved.save(
            place / FINAL, self.config, functions.learning, states, functions.pixels
        )

    def load(self, folder: str | Path, example: Images) -> TrainState:
        """The state in `folder`, bit by bit; `example` shows the images' size.

        Raises:
          UsageError: if there is none, or it is of another config or image size.
        """
        place = Path(folder).expanduser()
        if not steps_in(place):
            raise UsageError(f"{place} holds no state of a learner")
        saves = Checkpoints(place, keep=1)
        like = self.init(jax.random.key(0), example)
        [state], about = saves.restore([like])
        saves.close()
        mine = config_key(settings.as_json(self.config))
        if config_key(about.get("config", {})) != mine:
            raise UsageError(f"{place} holds a state of a learner of another config")
        return state
