"""CLIMB's stream batch: passes over stream and replay, then the memory."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.in_torch import augment, losses, networks
from benchmarks.in_torch.memory import Centroid, memory_of

VIEWS = 2


class Climb:
    """A learner that starts where ours does.

    Args:
      config: of the run, as JSON holds it.
      start: the arrays of `benchmarks.start`.
      device: where all of it lives.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        start: Mapping[str, np.ndarray],
        device: torch.device,
    ):
        group = lambda name: {
            path.removeprefix(name): array
            for path, array in start.items()
            if path.startswith(name)
        }
        s, o = config["strategy"], config["optimizer"]
        self.config, self.device = config, device
        self.network = networks.student(config)
        networks.load(self.network, group("network/"))
        width = config["method"]["projection"]
        self.aligner = networks.aligner(width, s["align_hidden"])
        networks.load(self.aligner, group("aligner/") | self._statistics(s))
        self.network.to(device).train()
        self.aligner.to(device).train()
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.SGD(
            [*self.network.parameters(), *self.aligner.parameters()],
            lr=o["learning_rate"],
            momentum=o["momentum"],
            weight_decay=o["weight_decay"],
        )
        self.memory = memory_of(start, config, device)
        self.normalize = augment.normalizer(start["mean"], start["std"], device)

    @staticmethod
    def _statistics(s: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Running ones, which ours does without: the head only ever trains."""
        zeros = np.zeros(s["align_hidden"], np.float32)
        return {"norm1/mean": zeros, "norm1/var": zeros + 1}

    def observe(self, images: Tensor) -> list[Tensor]:
        """Learn a stream batch, uint8 [b c h w]; the loss of each pass."""
        images = images.to(self.device)
        found = []
        for _ in range(self.config["passes"]):
            old, centroids = self.memory.sample(self.config["strategy"]["replay_size"])
            views = augment.views(torch.cat([old, images]), VIEWS)
            found.append(self.learn(self.normalize(views), centroids)["loss"])
        self.memory.process(images, self.embed(images), self.embed)
        return found

    def learn(self, views: Tensor, centroids: list[Centroid]) -> dict[str, Tensor]:
        """One pass over views [2 n c h w], the rows of `centroids` first.

        Returns:
          The terms of the loss, and their sum.
        """
        s, replayed = self.config["strategy"], len(centroids)
        z = [self.project(self.network, view) for view in views]
        temperature = self.config["method"]["simclr"]["temperature"]
        ssl = losses.nt_xent(z[0], z[1], temperature=temperature)
        with torch.no_grad():
            target = self.project(self.teacher, views[:, :replayed].flatten(0, 1))
        prediction = self.aligner(torch.cat([view[:replayed] for view in z]))
        align = s["align_weight"] * losses.alignment(prediction, target)
        loss = ssl + align
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.follow(s["ema_decay"])
            seen = torch.stack([view[:replayed] for view in z]).mean(dim=0)
            self.memory.refresh(centroids, seen)
        return {"loss": loss.detach(), "ssl": ssl.detach(), "align": align.detach()}

    def follow(self, decay: float) -> None:
        """The teacher moves towards the network."""
        pairs = zip(self.teacher.parameters(), self.network.parameters(), strict=True)
        for slow, now in pairs:
            slow.lerp_(now, 1 - decay)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Projections [m d] of uint8 [m c h w], with running statistics."""
        self.network.eval()
        z = self.project(self.network, self.normalize(images.float() / 255.0))
        self.network.train()
        return z

    def project(self, network: nn.Module, x: Tensor) -> Tensor:
        """Projections in float32, computed in the config's precision."""
        half = self.config["precision"] == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            z = network(x)
        return z.float()
