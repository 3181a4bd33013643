"""Labels carried along the poses: shown alike for a run and for files, and taught in batches."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.datasets.batches import TrainingScans
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.sampler import SampleKey
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.split_files import read_split
from rangeseg.datasets.splits import parse_labels
from rangeseg.drawing import strips
from rangeseg.drawing.colours import EMPTY, UNSURE, Legend, label_colours
from rangeseg.drawing.sheets import Panel, enlarge, sheet
from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.config import load_config, load_run_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.plan import plan_run
from rangeseg.viewer import batch_sheet as batch_sheets
from rangeseg.viewer.batch import student_batch
from rangeseg.viewer.batch_sheet import batch_sheet
from rangeseg.viewer.modes import check_mode, first_mode
from rangeseg.viewer.scans import ScanViews, open_views
from tests.viewer.test_view import pixels

CPU = torch.device("cpu")
REACH_2 = [
    f"train.propagation.{s}" for s in ("reach=2", "min_confidence=0.8", "movable_distance=0.6")
]
MAP = SemanticKitti.info.label_map

Steps = list[list[SampleKey]]
Propagating = tuple[Path, Steps]
Capture = pytest.CaptureFixture[str]


def views_of(target: Path, split: str | None = None) -> ScanViews:
    return open_views(target, [], None, split, 0.9, CPU)


def test_a_run_and_the_files_show_the_same_labels(
    propagating: Propagating, propagated: Path
) -> None:
    run, _ = propagating
    live, files = views_of(run, "train"), views_of(propagated)
    labelled = read_split(run / "labelled.txt")
    assert (first_mode(live), first_mode(files)) == ("prediction", "propagated")
    assert live.given == set(files.scan_ids)
    assert live.with_propagated().scan_ids == files.scan_ids
    for scan_id in files.scan_ids:
        a, b = live.read(scan_id), files.read(scan_id)
        assert a.propagated is not None
        assert b.propagated is not None
        np.testing.assert_array_equal(a.propagated, b.propagated)
        assert a.sources == b.sources
        assert set(a.sources) <= set(labelled)
        assert b.scan.labels is not None
        known = (b.propagated != IGNORE) & (b.scan.labels != IGNORE)
        assert known.any()
        assert (b.propagated == b.scan.labels)[known].mean() > 0.7
    assert live.read(labelled[0]).propagated is None


def test_scans_without_propagated_labels_refuse_their_modes(
    propagating: Propagating, propagated: Path, capsys: Capture, tmp_path: Path
) -> None:
    words = ["view", str(propagating[0]), "--mode", "propagated", "--save", str(tmp_path / "a.png")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: mode 'propagated' needs propagated labels, and ")
    assert line.endswith("or a run with train.propagation.reach and --split train")
    with pytest.raises(ConfigError, match=r"needs predictions.*; of propagated labels it is"):
        check_mode("error", views_of(propagated))
    with pytest.raises(ConfigError, match="has no labels of the split val: leave --split out"):
        views_of(propagated, "val")


def test_labels_that_are_gone_are_a_warning(
    propagating: Propagating, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(propagating[0], run)
    shutil.rmtree(run / "propagated")
    with caplog.at_level(logging.WARNING):
        views = views_of(run, "train")
    assert not views.given
    assert "holds no propagated labels: they were removed, or the poses have changed" in caplog.text


def test_labels_of_another_scan_are_not_shown(propagated: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(propagated, mine)
    (first, *_) = sorted(mine.rglob("*.label"))
    np.fromfile(first, dtype=np.uint32)[:-1].tofile(first)
    views = views_of(mine)
    with pytest.raises(DataError, match=r"has \d+ points but \d+ propagated labels: the scan was"):
        [views.read(scan_id) for scan_id in views.scan_ids]


@pytest.mark.slow
@pytest.mark.usefixtures("drawing", "no_display")
def test_pictures_of_points(propagating: Propagating, propagated: Path, tmp_path: Path) -> None:
    of_run = ["view", str(propagating[0]), "--split", "train", "--mode", "propagated"]
    assert main([*of_run, "--save", str(tmp_path / "run.png")]) == 0
    assert main(["view", str(propagated), "--save", str(tmp_path / "files.png")]) == 0
    run, files = (pixels(tmp_path / name)[60:760, 20:-20] for name in ("run.png", "files.png"))
    np.testing.assert_array_equal(run, files)  # of the first scan that has such labels
    drawn = {tuple(c) for c in np.unique(run.reshape(-1, 3), axis=0).tolist()}
    marks = {tuple(mark.tolist()) for mark in (EMPTY, UNSURE)}
    assert marks < drawn <= marks | {tuple(c) for c in MAP.colours.tolist()}


def test_strips_name_the_labelled_scans(
    propagated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, list[str]]] = []

    def keep(title: str, panels: Sequence[Panel], legend: Legend) -> np.ndarray:
        told.append((title, [panel.title for panel in panels]))
        return sheet(title, panels, legend)

    monkeypatch.setattr(strips, "sheet", keep)
    assert main(["view", str(propagated), "--panel", "--save", str(tmp_path / "a.png")]) == 0
    views = views_of(propagated)
    view = views.read(views.scan_ids[0])
    ((title, panels),) = told
    assert f" · {view.scan.scan_id}, labels from {', '.join(view.sources)} · " in title
    assert [name.partition(" (")[0] for name in panels[2:]] == [
        "truth", "propagated", "error of the propagated labels, in the colour of the true class",
    ]  # fmt: skip
    assert "% covered, " in panels[3]


def test_a_batch_is_that_of_the_training(propagating: Propagating) -> None:
    """The same scans, and in each pixel the label that the training had there."""
    run, steps = propagating
    experiment = Experiment(load_run_config(run / "config.yaml"))
    labels = experiment.propagated(read_split(run / "labelled.txt"), run)
    assert labels is not None
    augmentation = experiment.config.train.augmentation
    scans = TrainingScans(experiment.source, experiment.images, augmentation, propagated=labels)
    kinds = set()
    for step, keys in enumerate(steps):
        batch = student_batch(experiment, run / "last.pt", step, CPU)
        assert [scan_id for scan_id, _ in batch.scans] == [key.scan_id for key in keys]
        for number, (key, (_, kind)) in enumerate(zip(keys, batch.scans, strict=True), 1):
            kinds.add(kind)
            assert (kind == "propagated") == (key.scan_id in labels)
            loaded: Any = scans[key]
            here = batch.origin == number
            taught = np.broadcast_to(loaded.sample["labels"], here.shape)
            np.testing.assert_array_equal(batch.taught[here], taught[here])
    assert kinds == {"labelled", "propagated"}


def test_a_batch_needs_no_files(propagating: Propagating, tiny_config: list[str]) -> None:
    """Of a configuration nothing was trained: the labels are made for the scans of the batch."""
    path, *words = tiny_config
    config = load_config(Path(path), [*words[1::2], *REACH_2])
    planned = Experiment(plan_run(config, "supervised", parse_labels("10%"), 0))
    trained = Experiment(load_run_config(propagating[0] / "config.yaml"))
    one = student_batch(planned, None, 5, CPU)
    two = student_batch(trained, propagating[0] / "last.pt", 5, CPU)
    assert one.scans == two.scans
    assert "propagated" in {kind for _, kind in one.scans}
    np.testing.assert_array_equal(one.taught, two.taught)


def test_the_sheet_of_a_batch_names_propagated_scans(
    propagating: Propagating, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, steps = propagating
    experiment = Experiment(load_run_config(run / "config.yaml"))
    drawn: list[tuple[list[Panel], Legend]] = []

    def keep(title: str, panels: list[Panel], legend: Legend, columns: int) -> np.ndarray:
        drawn.append((panels, legend))
        return sheet(title, panels, legend, columns)

    monkeypatch.setattr(batch_sheets, "sheet", keep)
    given = views_of(run, "train").given
    step = next(n for n, keys in enumerate(steps) if given & {key.scan_id for key in keys})
    batch = student_batch(experiment, run / "last.pt", step, CPU)
    batch_sheet(batch, "t", MAP)
    ((panels, legend),) = drawn
    names = [name for name, _ in legend]
    assert names[: len(batch.scans)] == [f"{kind} {scan_id}" for scan_id, kind in batch.scans]
    assert {"no propagated label", "confidence: truth or propagated label"} < set(names)
    kinds = np.array(["", *[kind for _, kind in batch.scans]])[batch.origin[0]]
    unknown = (kinds == "propagated") & (batch.taught[0] == IGNORE)
    assert unknown.any()
    wanted = label_colours(batch.taught[0], batch.origin[0] > 0, MAP.colours)
    wanted[unknown] = UNSURE
    np.testing.assert_array_equal(panels[2].image, enlarge(wanted, 400))
