"""The picture of a result: it shows the figures, whatever is known of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rangeseg.datasets.labels import LabelMap
from rangeseg.drawing.figures import draw_figures, save_figures
from rangeseg.engine.calibration import Calibration
from rangeseg.engine.distance import ConfusionByDistance
from rangeseg.engine.figures import point_figures
from rangeseg.errors import ConfigError


def result_of(classes: int, calibrated: bool = True, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(3000, 4)) * 12).astype(np.float32)
    truth = rng.integers(0, classes - 1, 3000).astype(np.uint8)  # the last one is absent
    found = np.where(rng.random(3000) < 0.7, truth, rng.integers(0, classes, 3000))
    confusion, calibration = ConfusionByDistance(classes), Calibration()
    confusion.update(found.astype(np.uint8), truth, points)
    calibration.update(rng.random(3000).astype(np.float32), found.astype(np.uint8), truth)
    names = tuple(f"class $_{i}" for i in range(classes))
    label_map = LabelMap(names, ((0, 0, 0),) * classes, {i: i for i in range(classes)})
    known = {"calibration": calibration.result()} if calibrated else {}
    return {**point_figures(confusion, label_map), **known, **more}


def drawn(result: dict[str, Any]) -> np.ndarray:
    with Image.open(io.BytesIO(draw_figures("a $_run", result))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("classes", "calibrated"), [(19, True), (2, False)])
def test_any_result_is_drawn(classes: int, calibrated: bool) -> None:
    assert drawn(result_of(classes, calibrated)).shape == (990, 1650, 3)


def test_missed_points_have_a_column() -> None:
    result = result_of(3, calibrated=False)
    more = drawn({**result, "withheld": [400, 0, 0], "withheld_points": 400})
    assert (more != drawn(result)).any()


def test_it_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    save_figures(tmp_path / "new" / "a.png", "run", result_of(3))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another file"):
        save_figures(tmp_path / "file" / "a.png", "run", result_of(3))
