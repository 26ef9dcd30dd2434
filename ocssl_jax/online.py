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
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ocssl_jax import saved, settings, state_files, states, workdir
from ocssl_jax.build import check_names
from ocssl_jax.core import Key, TrainState
from ocssl_jax.encoders import FINAL
from ocssl_jax.errors import UsageError, one_of
from ocssl_jax.functions import Functions, make_functions
from ocssl_jax.pixels import (
    Images,
    Shape,
    array_of,
    filled,
    labels_of,
    pair_of,
    pixels_of,
    shape_of,
)
from ocssl_jax.probes import HELD_OUT, PROBES, Predict
from ocssl_jax.probing import PROBE_KEY
from ocssl_jax.step import Metrics
from ocssl_jax.wiring import group, made, wired


class Learner:
    """An online continual learner, without an end; without labels if it needs none.

    Pixels are normalised as `config.stream.pixels` says, or as those of the data set
    `config.stream.dataset` ('folder': as ImageNet's). Nothing is read of what else
    decides a stream, but for `batch_size` and, by GEM, `tasks`; nor of `config.seeds`
    and `config.baselines`.

    Images are square. A state takes those of the size that it was made for; of another
    size only where the arrays in use do not depend on it, as the weights of a
    convolutional network (`embed`, `probe`, `export`; `observe` without a memory of
    images). A new size compiles anew.
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
        self._made: dict[Shape, Functions] = {}  # when their images first come
        self._likes: dict[Shape, TrainState] = {}  # what states for them are like

    def _functions(self, shape: Shape) -> Functions:
        if shape not in self._made:
            self._made[shape] = make_functions(self.config, shape, self._likes)
            self._likes[shape] = self._made[shape].like
        return self._made[shape]

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
        """The state before the first image.

        Args:
          key: of `jax.random.key`; it decides all that is drawn.
          example: [n h w c] of the images' size; which ones does not matter.

        Raises:
          UsageError: if `example` is no batch of square images, or they do not fit the
            config.
        """
        pixels = filled(pixels_of(example), self.config.stream.batch_size)
        return self._functions(shape_of(pixels)).init(states.typed(key), pixels)

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
          UsageError: if state, images or labels cannot be taken; the state is as it
            was then.
        """
        state, pixels = states.alive(state), pixels_of(images)
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
          UsageError: if `state` or `images` cannot be taken.
        """
        state, pixels = states.alive(state), pixels_of(images)
        size = self.config.probe.batch_size
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
          held_out: images [k h w c] and labels [k], to choose an epoch by; 'linear'
            needs them.

        Returns:
          A function of images [m h w c] that gives their labels [m].

        Raises:
          UsageError: if the probe cannot be fitted to what is given.
        """
        key = jax.random.fold_in(states.alive(state).key, PROBE_KEY)
        name = name or next(iter(self.config.probe.names), "ridge")
        one_of("probe.names", name, PROBES)
        if held_out is None and name in HELD_OUT:
            raise UsageError(
                f"the {name} probe chooses its epoch by images that it is not fitted "
                f"to: give held_out=(images, labels), or name='ridge', which needs none"
            )
        pairs = [(images, labels), *([] if held_out is None else [pair_of(held_out)])]
        fields = group(self.config.probe, name)
        what = f"probe.{name}"
        fit = made(PROBES[name], what, **wired(PROBES[name], what, fields))
        must = "labels must be [n] whole numbers, one an image"
        given = [
            x
            for image, label in pairs
            for x in (self.embed(state, image), array_of(label, must))
        ]
        predict: Predict = made(fit, what, key, *given)
        return lambda new: predict(self.embed(state, new))

    def save(self, folder: str | Path, state: TrainState) -> None:
        """Write a state to `folder`, in place of an earlier one of the same learner.

        Raises:
          UsageError: if `state` was used up; if the folder holds this state or a later
            one, one of another config or size of images, a run's checkpoints, or other
            files and no state.
          StorageError: if it cannot be written; an earlier one is still there then.
        """
        shape = states.made_for(states.alive(state), self._likes)
        about = state_files.described(settings.as_json(self.config), shape)
        fits = lambda shape: states.fits(state, self._functions(shape).like)
        place = Path(folder).expanduser()
        with state_files.on_disk(place):
            state_files.save(place, state, about, fits)

    def export(self, folder: str | Path, state: TrainState, example: Images) -> None:
        """Write the encoder as a finished run does, in place of an earlier one.

        `ocssl_jax.embed` and `ocssl_jax.export` take `folder` for a run's then.

        Args:
          folder: holds `config.json` and `encoder/` afterwards.
          state: the encoder's.
          example: images [n h w c] of its size.

        Raises:
          UsageError: if the folder is of another config or a file, or `state` or
            `example` cannot be taken.
          StorageError: if it cannot be written.
        """
        place, state = Path(folder).expanduser(), states.alive(state)
        shape = shape_of(pixels_of(example))
        functions = self._functions(shape)
        learning, pixels = functions.learning, functions.pixels
        states.check(state, shape, self._likes, learning.encoder)
        described, mine = settings.as_json(self.config), {self.config.seeds[0]: state}
        with state_files.on_disk(place):
            workdir.describe_once(place, described, {})
            saved.save(place / FINAL, self.config, learning, mine, pixels)

    def load(self, folder: str | Path, example: Images) -> TrainState:
        """The state in `folder`, bit by bit; `example` shows the images' size.

        Raises:
          UsageError: if there is none, or it is of another config or image size.
          StorageError: if it cannot be read.
        """
        place, shape = Path(folder).expanduser(), shape_of(pixels_of(example))
        with state_files.on_disk(place):
            about = state_files.newest(place, settings.as_json(self.config))
            known = state_files.shape_in(about)
            mine = self._functions(shape).like
            if known and not states.fits(self._functions(known).like, mine):
                raise UsageError(states.told(shape, f"the state in {place} was", known))
            like = self.init(jax.random.key(0), example)
            return state_files.restore(place, like, "" if known else states.size(shape))
