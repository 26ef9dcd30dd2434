"""A folder that grows: its pictures in the order of their arrival, each once.

A picture has arrived when two looks in a row find the same file, so that one that is
being written is waited for. Its time of arrival is that of the last change of its
entry (`st_ctime`), which moving and copying it here sets, whatever time it was taken.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ocssl_jax.data.folders import File, below, decoded

Read = Callable[[File], np.ndarray | None]
Picture = tuple[File, np.ndarray]


class Growing:
    """What waits in a folder to be taken."""

    def __init__(self, root: Path, taken: Sequence[str]):
        """Nothing waits before the first look.

        Args:
          root: the folder, with any folders below it.
          taken: paths below it that were taken before.
        """
        self.root = root
        self.waiting: list[File] = []
        self.coming: dict[str, File] = {}  # were different, or not there, a look ago
        self.broken: dict[str, File] = {}  # could not be read as they were
        self._known = set(taken)

    def look(self) -> int:
        """Look at the folder; how many pictures have arrived.

        Raises:
          DataError: if it cannot be listed.
        """
        found = {file.path: file for file in below(self.root, self._known)}
        new = {
            path: file
            for path, file in found.items()
            if file.size and self.broken.get(path) != file
        }
        arrived = [file for path, file in new.items() if self.coming.get(path) == file]
        self.coming = {p: f for p, f in new.items() if self.coming.get(p) != f}
        self._known.update(file.path for file in arrived)
        self.waiting += sorted(arrived, key=self._arrival)
        return len(arrived)

    def _arrival(self, file: File) -> tuple[int, str]:
        try:
            return os.stat(self.root / file.path).st_ctime_ns, file.path
        except OSError:  # gone again, as reading it will tell
            return 0, file.path

    def take(self, count: int, read: Read) -> tuple[list[Picture], list[str]]:
        """The next `count` pictures that can be read, or as many as wait.

        And the paths of those among them for which `read` gives None: they are `broken`
        and arrive anew if they change.
        """
        taken: list[Picture] = []
        lost: list[str] = []
        while self.waiting and len(taken) < count:
            wanted = count - len(taken)
            block, self.waiting = self.waiting[:wanted], self.waiting[wanted:]
            for file, image in decoded(block, read):
                if image is None:
                    lost.append(file.path)
                    self.broken[file.path] = file
                    self._known.discard(file.path)
                else:
                    taken.append((file, image))
                    self.broken.pop(file.path, None)
        return taken, lost

    def put_back(self, taken: Sequence[Picture]) -> None:
        """Let them wait again, first in line."""
        self.waiting = [file for file, _ in taken] + self.waiting
