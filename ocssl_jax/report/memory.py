"""The picture of a memory: lines of images under headings, on one canvas of pixels.

Everything is laid out in whole pixels, so that an 8 x 8 digit and a 224 x 224
photograph are both crisp and about the same size.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocssl_jax.report import style
from ocssl_jax.report.sheet import Group, Sheet, count

TILE, GAP, MARGIN = 56, 4, 28  # pixels: side of a tile, space between two, page margin
TITLE, REST, CAPTION, HEADING = 190, 60, 40, 44  # pixels kept for words
COLUMNS, LINES = 20, 20  # most tiles a line, most lines a block


class Cell(NamedTuple):
    """A group within a line: its title, its tiles, and how many more it has."""

    title: str
    tiles: Sequence[np.ndarray]  # [h w 3] uint8 each
    rest: str = ""

    @property
    def start(self) -> int:
        """Pixels from the left of the title to the first tile."""
        return TITLE if self.title else 0

    @property
    def width(self) -> int:
        """Pixels of title, tiles and, if there is one, the remark behind them."""
        tiles = sum(t.shape[1] + GAP for t in self.tiles)
        return self.start + tiles + (REST if self.rest else 0)


class Line(NamedTuple):
    """One line of the page: cells side by side, or words."""

    cells: Sequence[Cell] = ()
    stride: int = 0  # pixels from one cell to the next
    words: str = ""
    heading: bool = False

    @property
    def height(self) -> int:
        """Pixels from this line to the next."""
        tiles = [t for cell in self.cells for t in cell.tiles]
        return max(t.shape[0] for t in tiles) + GAP if tiles else HEADING

    @property
    def width(self) -> int:
        """Pixels it takes, margins included."""
        ends = (i * self.stride + cell.width for i, cell in enumerate(self.cells))
        return 2 * MARGIN + max(ends, default=0)


def memory_picture(path: Path, *, sheet: Sheet) -> None:
    """Draw a sheet; what does not fit on the page is counted in words.

    Args:
      path: file to write, a PNG.
      sheet: what to draw; images [k h w c] uint8 with 1 or 3 channels.

    Raises:
      ValueError: if the images are of another kind.
    """
    for group in sheet.groups:
        _door(group.images)
    lines = page(sheet)
    width = max([700, *(line.width for line in lines)])
    height = 2 * MARGIN + CAPTION + sum(line.height for line in lines)
    inches = {"width": width / style.DPI, "height": height / style.DPI}
    with style.figure(path, **inches) as figure:
        figure.set_layout_engine("none")
        canvas = np.full((height, width, 3), 255, np.uint8)
        write = lambda x, y, text, **look: figure.text(
            x / width, 1 - y / height, text, va="center", **look
        )
        write(MARGIN, MARGIN + 10, sheet.caption, weight="bold", size=10)
        y = MARGIN + CAPTION
        for line in lines:
            _draw(line, canvas, write, y)
            y += line.height
        figure.figimage(canvas, origin="upper", zorder=-1)


def page(sheet: Sheet) -> list[Line]:
    """The lines of a sheet: a lone group wraps, others share lines, block by block."""
    groups = [group for group in sheet.groups if len(group.images)]
    if not groups:
        return [Line(words="The memory is empty.")]
    if len(groups) == 1:
        return _grid(groups[0])
    lines = []
    for block, members in groupby(groups, key=lambda g: g.block):
        lines += _block(block, list(members), sheet.noun)
    return lines


def tile(image: np.ndarray) -> np.ndarray:
    """An image [h w c] as [h' w' 3] of about `TILE` pixels a side.

    Small images are enlarged by repeating pixels, large ones reduced by averaging
    blocks, both by a whole factor.
    """
    rgb = np.broadcast_to(image, (*image.shape[:2], 3))
    side = max(image.shape[:2])
    if side <= TILE:
        factor = round(TILE / side)
        return rgb.repeat(factor, axis=0).repeat(factor, axis=1)
    factor = round(side / TILE)
    h, w = (max(1, n // factor) for n in image.shape[:2])
    blocks = rgb[: h * factor, : w * factor].reshape(h, factor, w, factor, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _grid(group: Group) -> list[Line]:
    # Spread over the memory, so that its last classes are not the ones left out.
    most = min(len(group.images), COLUMNS * LINES)
    chosen = np.linspace(0, len(group.images) - 1, most).round().astype(int)
    shown = [tile(group.images[i]) for i in chosen]
    rows = [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]
    heading = [Line(words=group.title, heading=True)] if group.title else []
    more = len(group.images) - len(shown)
    return heading + [Line([Cell("", row)]) for row in rows] + _remark(more, "image")


def _block(block: str, groups: Sequence[Group], noun: str) -> list[Line]:
    """A heading and as many groups side by side as the largest one leaves room for."""
    largest = min(max(len(g.images) for g in groups), COLUMNS)
    wide = tile(groups[0].images[0]).shape[1] + GAP
    stride = TITLE + largest * wide + 6 * GAP
    slots = max(1, (TITLE + COLUMNS * wide) // stride)
    shown = [_cell(group) for group in groups[: LINES * slots]]
    rows = [shown[i : i + slots] for i in range(0, len(shown), slots)]
    held = sum(len(g.images) for g in groups)
    words = f"{block} · {count(len(groups), noun)} · {count(held, 'image')}"
    heading = [Line(words=words, heading=True)] if block else []
    more = len(groups) - len(shown)
    return heading + [Line(row, stride) for row in rows] + _remark(more, noun)


def _cell(group: Group) -> Cell:
    rest = len(group.images) - COLUMNS
    tiles = [tile(image) for image in group.images[:COLUMNS]]
    return Cell(group.title, tiles, f"+ {rest}" if rest > 0 else "")


def _remark(more: int, noun: str) -> list[Line]:
    return [Line(words=f"and {count(more, f'more {noun}')}")] if more > 0 else []


def _draw(line: Line, canvas: np.ndarray, write: Any, y: int) -> None:
    """Put one line's tiles on the canvas and its words beside them."""
    middle = y + (line.height - GAP) / 2
    weight, colour = ("bold", style.INK) if line.heading else ("normal", style.MUTED)
    write(MARGIN, middle, line.words, size=8, weight=weight, color=colour)
    for i, cell in enumerate(line.cells):
        left = MARGIN + i * line.stride
        write(left, middle, cell.title, size=8)
        x = left + cell.start
        for pixels in cell.tiles:
            h, w, _ = pixels.shape
            canvas[y : y + h, x : x + w] = pixels
            x += w + GAP
        write(x + 4, middle, cell.rest, size=8, color=style.MUTED)


def _door(images: np.ndarray) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise ValueError(
            "a sheet shows uint8 images [k h w c] with 1 or 3 channels, got "
            f"{images.dtype} {list(images.shape)}"
        )
