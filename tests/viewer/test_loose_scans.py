"""`rangeseg view RUN PATH`: scans of no data set, by a run or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rangeseg
from rangeseg.cli import main
from rangeseg.datasets.layout import Layout
from rangeseg.errors import ConfigError
from rangeseg.viewer.loose_scans import open_loose_scans
from rangeseg.viewer.modes import check_mode, first_mode, shown_mode
from rangeseg.viewer.scans import open_views

Capture = pytest.CaptureFixture[str]


def test_what_is_shown(exported: Path, simulated_root: Path) -> None:
    folder = simulated_root / "sequences" / "11"
    views = open_loose_scans(exported, [folder], Layout(), 0.3, "auto")
    assert views.scan_ids[0] == "velodyne/000000"
    assert first_mode(views) == "prediction"
    with pytest.raises(ConfigError, match="needs propagated labels"):
        check_mode("propagated", views)
    view = views.read("velodyne/000000")
    points = np.fromfile(folder / "velodyne" / "000000.bin", np.float32).reshape(-1, 4)
    labels, confidence = rangeseg.load(exported).predict(points, confidence=True)
    assert view.prediction is not None
    assert view.covered is not None
    np.testing.assert_array_equal(views.source.encode_labels(view.prediction), labels)
    np.testing.assert_array_equal(view.covered, confidence >= 0.3)
    assert view.miou is None
    assert shown_mode("truth", view) == "range"


def test_strips_without_a_display(
    trained_run: Path, simulated_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, path = tmp_path / "a.png", simulated_root / "sequences" / "12"
    words = ["view", str(trained_run), str(path), "--panel", "--save", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"picture: {out}\n"
    with Image.open(out) as picture:
        assert picture.width > 1000


def test_what_does_not_go(
    trained_run: Path, exported: Path, simulated_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    drive = simulated_root / "sequences" / "12"
    save = ["--panel", "--save", str(tmp_path / "a.png")]
    for words, message in [
        ([drive, "--split", "val"], "--set, --predictions and --split do not go with files"),
        ([drive, "--batch"], "--batch is of the run's own data: leave PATH out"),
        (["--layout", "columns=4"], "--layout is for files of scans: name them behind the run"),
    ]:
        given = [str(word) for word in words]
        own = save[1:] if "--batch" in words else save
        assert main(["view", str(trained_run), *given, *own]) == 2
        assert message in capsys.readouterr().err
    out = tmp_path / "labels"
    assert main(["predict", str(exported), str(drive), "--out", str(out)]) == 0
    with pytest.raises(ConfigError, match=r"holds predictions of files: `rangeseg view .*onnx"):
        open_views(out, [], None, None, 0.9, None)  # type: ignore[arg-type]
