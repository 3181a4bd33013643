"""Sheets of titled panels with a legend, as arrays, PNGs and GIFs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rangeseg.drawing.colours import Legend
from rangeseg.system.files import writable

if TYPE_CHECKING:
    from PIL import ImageFont

PAPER = np.array([34, 35, 40], dtype=np.uint8)
INK = np.array([232, 233, 236], dtype=np.uint8)


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        title: above the picture; may be empty.
        image: (H,W,3) uint8.
    """

    title: str
    image: np.ndarray


def enlarge(image: np.ndarray, width: int) -> np.ndarray:
    """Enlarge a range image (H,W,3) to at most ``width``, each pixel a rectangle.

    Beams are farther apart than columns, so pixels are taller than wide.
    """
    times = max(1, width // image.shape[1])
    taller = max(2, round(1.6 * times))
    return image.repeat(taller, axis=0).repeat(times, axis=1)


def sheet(title: str, panels: Sequence[Panel], legend: Legend, columns: int = 1) -> np.ndarray:
    """Draw panels in rows with their titles, a title above and a legend below.

    Args:
        title: title of the sheet.
        panels: panels of one width, row by row.
        legend: meaning of the colours.
        columns: panels per row.

    Returns:
        (H,W,3) uint8; the pixels of the panels keep their colours.
    """
    from PIL import Image, ImageDraw

    width = panels[0].image.shape[1]
    full = columns * width + (columns - 1) * _MARGIN
    body, head = _font(full), _font(full, 1.3)
    line = int(body.size * 1.6)
    titled = line if any(panel.title for panel in panels) else 0
    below = legend_image(legend, full)
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(len(p.image) for p in row) + titled + _MARGIN for row in rows]
    top = _MARGIN + int(head.size * 1.9)
    total = top + sum(heights) + len(below) + _MARGIN // 2
    canvas = Image.new("RGB", (full + 2 * _MARGIN, total), _rgb(PAPER))
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), _end(title, full, head), fill=_rgb(INK), font=head)
    for number, panel in enumerate(panels):
        left = _MARGIN + number % columns * (width + _MARGIN)
        upper = top + sum(heights[: number // columns])
        text = _end(panel.title, width, body)
        draw.text((left, upper), text, fill=_rgb(INK), font=body)
        canvas.paste(Image.fromarray(panel.image), (left, upper + titled))
    canvas.paste(Image.fromarray(below), (_MARGIN, total - len(below) - _MARGIN // 2))
    return np.asarray(canvas)


def legend_image(legend: Legend, width: int, size: int | None = None) -> np.ndarray:
    """Draw a legend in as many columns as fit.

    Args:
        legend: meaning of the colours; may be empty.
        width: width in pixels.
        size: size of the font in pixels; None fits it to the width.

    Returns:
        (H,width,3) uint8.
    """
    from PIL import Image, ImageDraw

    font = _font(width) if size is None else _sized(size)
    side = int(font.size)
    widest = max((font.getlength(name) for name, _ in legend), default=0)
    cell = int(widest) + 3 * side
    columns = max(1, width // cell)
    line = int(side * 1.6)
    rows = -(-len(legend) // columns)
    canvas = Image.new("RGB", (width, rows * line), _rgb(PAPER))
    draw = ImageDraw.Draw(canvas)
    for number, (name, colour) in enumerate(legend):
        x, y = number % columns * cell, number // columns * line + (line - side) // 2
        draw.rectangle((x, y, x + side, y + side), _rgb(colour), _rgb(INK))
        draw.text((x + 1.5 * side, y - side // 8), name, fill=_rgb(INK), font=font)
    return np.asarray(canvas)


def text_image(lines: Sequence[str], size: int) -> np.ndarray:
    """Draw lines of text at their natural width; a tab begins a second column.

    Args:
        lines: at least one.
        size: size of the font in pixels.

    Returns:
        (H,W,3) uint8.
    """
    from PIL import Image, ImageDraw

    font = _sized(size)
    pairs = [text.partition("\t")[::2] for text in lines]
    second = max((font.getlength(a) for a, b in pairs if b), default=0) + size
    width = int(max(second + font.getlength(b) if b else font.getlength(a) for a, b in pairs)) + 1
    step = int(size * 1.5)
    canvas = Image.new("RGB", (width, step * len(lines)), _rgb(PAPER))
    draw = ImageDraw.Draw(canvas)
    for number, pair in enumerate(pairs):
        for x, text in zip((0, second), pair, strict=True):
            draw.text((x, number * step), text, fill=_rgb(INK), font=font)
    return np.asarray(canvas)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write (H,W,3) uint8 as a PNG; create folders, replace an existing file.

    Raises:
        ConfigError: it cannot be written.
    """
    from PIL import Image

    with writable(path, "choose another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, format="PNG")


def save_video(path: Path, frames: Sequence[np.ndarray], milliseconds: int) -> None:
    """Write frames (H,W,3) uint8 as a looping GIF with 256 colours.

    Smaller frames, with shorter legends, are padded.

    Raises:
        ConfigError: it cannot be written.
    """
    from PIL import Image

    height, width = np.max([frame.shape[:2] for frame in frames], axis=0)
    frames = [_filled(frame, height, width) for frame in frames]
    # One palette of the most frequent colours for all frames keeps class colours exact.
    sample = np.concatenate([frame.reshape(-1, 3) for frame in frames[:: -(-len(frames) // 8)]])
    colours, counts = np.unique(_packed(sample), return_counts=True)
    palette = _unpacked(colours[np.argsort(-counts)[:256]])
    reduced = []
    for frame in frames:
        found, place = np.unique(_packed(frame), return_inverse=True)
        distance = (_unpacked(found)[:, None] - palette[None]) ** 2
        nearest = distance.sum(axis=2).argmin(axis=1).astype(np.uint8)
        reduced.append(Image.fromarray(nearest[place].reshape(frame.shape[:2])))
        reduced[-1].putpalette(palette.astype(np.uint8).tobytes())
    with writable(path, "choose another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        reduced[0].save(
            path, format="GIF", save_all=True, append_images=reduced[1:], duration=milliseconds,
            loop=0,
        )  # fmt: skip


_MARGIN = 14


def _filled(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad a picture with PAPER below and on the right."""
    canvas = np.tile(PAPER, (height, width, 1))
    canvas[: frame.shape[0], : frame.shape[1]] = frame
    return canvas


def _packed(colours: np.ndarray) -> np.ndarray:
    """Pack colours (...,3) uint8 into numbers."""
    wide = colours.astype(np.int64)
    packed: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _unpacked(numbers: np.ndarray) -> np.ndarray:
    """Unpack numbers (N,) to colours (N,3) int64."""
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=1)


def _rgb(colour: np.ndarray) -> tuple[int, ...]:
    """Convert a colour (3,) uint8 for Pillow."""
    return tuple(map(int, colour))


def _font(width: int, times: float = 1.0) -> ImageFont.FreeTypeFont:
    """A readable font for a picture of this width on a screen."""
    return _sized(round(max(15, width / 84) * times))


def _end(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Cut a text at its start to fit, as long paths come first."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def _sized(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
