"""Sheets and films: panels keep their pixels, whatever stands around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rangeseg.datasets.labels import IGNORE
from rangeseg.drawing.colours import EMPTY, RIGHT, label_colours, missed_colours
from rangeseg.drawing.sheets import PAPER, Panel, enlarge, save_picture, save_video, sheet
from rangeseg.errors import ConfigError

RNG = np.random.default_rng(0)


def find(picture: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Where a part stands in a picture, pixel for pixel."""
    height, width = part.shape[:2]
    corners = np.argwhere((picture == part[0, 0]).all(axis=2))
    return [
        (int(r), int(c))
        for r, c in corners
        if np.array_equal(picture[r : r + height, c : c + width], part)
    ]


def test_panels_stand_in_rows_with_their_own_pixels() -> None:
    images = [RNG.integers(0, 256, (40, 300, 3), dtype=np.uint8) for _ in range(4)]
    panels = [Panel(f"{number}", image) for number, image in enumerate(images)]
    places = [find(sheet("t", panels, [("a", RIGHT)], columns=2), i) for i in images]
    assert all(len(place) == 1 for place in places)
    (a,), (b,), (c,), (d,) = places
    assert a[0] == b[0] < c[0] == d[0]
    assert a[1] == c[1] < b[1] == d[1]


def test_every_entry_of_the_legend_is_there() -> None:
    colours = RNG.integers(0, 256, (30, 3), dtype=np.uint8)
    image = np.zeros((10, 700, 3), dtype=np.uint8)
    legend = [(f"class {number}", colour) for number, colour in enumerate(colours)]
    picture = sheet("t", [Panel("", image)], legend)
    for colour in colours:
        assert (picture == colour).all(axis=2).sum() > 150


def test_a_long_title_keeps_its_end() -> None:
    image = np.zeros((10, 600, 3), dtype=np.uint8)
    ends = [sheet("/long" * n + " · 08/000001 · truth", [Panel("", image)], []) for n in (80, 90)]
    np.testing.assert_array_equal(*ends)
    assert not np.array_equal(ends[0], sheet("/long" * 80, [Panel("", image)], []))


def test_pixels_become_rectangles() -> None:
    image = RNG.integers(0, 256, (4, 100, 3), dtype=np.uint8)
    large = enlarge(image, 350)
    assert large.shape == (4 * 5, 300, 3)
    np.testing.assert_array_equal(large[::5, ::3], image)
    assert enlarge(image, 50).shape == (8, 100, 3)


def test_errors_have_the_colour_of_the_missed_class() -> None:
    colours = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    labels = np.array([[0, 1, IGNORE, 0]], dtype=np.uint8)
    valid = np.array([[True, True, True, False]])
    found = missed_colours(np.zeros((1, 4), dtype=np.uint8), labels, valid, colours)
    assert found.tolist() == [[RIGHT.tolist(), [4, 5, 6], EMPTY.tolist(), EMPTY.tolist()]]
    assert label_colours(labels, valid, colours)[0, 0].tolist() == [1, 2, 3]


def test_a_film_keeps_the_colours_of_classes(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (20, 3), dtype=np.uint8)
    frames = [colours[RNG.integers(0, 20, (60, 80))] for _ in range(3)]
    frames[1][:2, :, :] = RNG.integers(0, 256, (2, 80, 3))  # more colours than a GIF has
    frames[1][2, :, :] = RNG.integers(0, 256, (80, 3))
    save_video(tmp_path / "a" / "film.gif", frames, 100)
    with Image.open(tmp_path / "a" / "film.gif") as film:
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        for number, frame in enumerate(frames):
            film.seek(number)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB"))[3:], frame[3:])


def test_frames_of_two_sizes_are_filled_up(tmp_path: Path) -> None:
    """A legend may be shorter; a film has one size, and the frame before must not show through."""
    colours = RNG.integers(0, 256, (20, 3), dtype=np.uint8)
    small, large = (colours[RNG.integers(0, 20, size)] for size in ((40, 60), (60, 80)))
    save_video(tmp_path / "film.gif", [small, large, small], 100)
    with Image.open(tmp_path / "film.gif") as film:
        shown = []
        for number in range(3):
            film.seek(number)
            shown.append(np.asarray(film.convert("RGB")))
    np.testing.assert_array_equal(shown[1], large)
    for frame in (shown[0], shown[2]):
        np.testing.assert_array_equal(frame[:40, :60], small)
        assert (frame[40:] == PAPER).all()
        assert (frame[:, 60:] == PAPER).all()


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        save_picture(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), dtype=np.uint8))
