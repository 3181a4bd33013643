"""The demo: everything once, on simulated scans, with the commands a user would type."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.simulated import ensure_simulated
from rangeseg.drawing.pipeline import draw_pipeline
from rangeseg.drawing.sheets import save_picture
from rangeseg.drawing.strips import range_panels
from rangeseg.engine.metrics_log import read_metrics
from rangeseg.errors import ConfigError
from rangeseg.report.comparison import KINDS
from rangeseg.report.tables import markdown_table
from rangeseg.runs.config import Config, load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.jobs import Place, PlannedRun, raise_failed, train_missing
from rangeseg.runs.shipped import shipped_config
from rangeseg.runs.trained import load_run, read_result
from rangeseg.system.device import choose_device
from rangeseg.system.process import cores
from rangeseg.system.progress import Progress

RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "supervised": ("supervised", ()),
    "cutmix_seg": ("cutmix_seg", ()),
    "cutmix_seg_propagation": (
        "cutmix_seg",
        (
            "train.propagation.reach=2", "train.propagation.share=null",
            "train.propagation.min_confidence=0.5",
        ),
    ),
}  # fmt: skip
"""Folder of a run -> its method and its own settings."""

LABELS = "1%"
SPLIT = "test"
STEPS = 1200  # a third of the configuration's
MINUTES = "about 4 minutes on 2 cores"

_log = logging.getLogger(__name__)


def run_demo(out: Path, steps: int | None = None) -> str:
    """Simulate, train, evaluate, draw; only what is missing is made.

    Args:
        out: the folder for data, runs and pictures.
        steps: of each training; None takes STEPS.

    Returns:
        The report for stdout.

    Raises:
        RangesegError: a training failed, or the folder holds something else.
    """
    path = shipped_config("simulated.yaml")
    data = str((out / "data").absolute())
    overrides = [
        f"dataset.root={json.dumps(data, ensure_ascii=False)}",  # YAML has JSON's quotes
        f"evaluate.split={SPLIT}",
        "train.labelled=plain",  # learns faster than the strong branch
        f"train.steps={STEPS if steps is None else steps}",
    ]
    config = load_config(path, overrides)
    runs = [_planned(name, out / "runs" / name, path, overrides, config) for name in RUNS]
    missing = [run for run in runs if not run.result.is_file()]
    finished = [run for run in runs if run not in missing]
    for run in finished:
        _check_steps(run, config.train.steps)
    if (out / "data" / "simulation.json").is_file():
        _log.info("1 of 3: %s is already there", out / "data")
    else:
        _log.info("1 of 3: simulate a street of 600 scans, 400 to train on")
    ensure_simulated(Experiment(config).source)
    for run in finished:
        _log.info("%s: %s is already trained and evaluated", run.title, run.folder)
    if missing:
        _log.info("2 of 3: train %s side by side (%s)", _names(missing), MINUTES)
        _train(missing, config.train.steps)
    results = {run: read_result(run.result) for run in runs}
    overview, journey = out / "overview.png", out / "journey.png"
    if missing or not (overview.is_file() and journey.is_file()):
        _log.info("3 of 3: draw a test scan")
        _draw(overview, journey, results)
    return f"{_report(results)}\n\nruns:     {out / 'runs'}\npictures: {overview}, {journey}"


def _names(runs: list[PlannedRun]) -> str:
    return ", ".join(run.title for run in runs)


def _planned(
    name: str, folder: Path, path: Path, overrides: list[str], config: Config
) -> PlannedRun:
    method, settings = RUNS[name]
    words = ["train", str(path), "--method", method, "--labels", LABELS]
    words += ["--out", str(folder), "--resume"]
    for setting in (*overrides, *settings):
        words += ["--set", setting]
    title = name.replace("_propagation", " + propagation")
    return PlannedRun(title, folder, SPLIT, SPLIT, config.dataset.root, tuple(words))


def _check_steps(run: PlannedRun, steps: int) -> None:
    """Check that a finished run is as long as this call asks for."""
    found = read_result(run.result)["run"]["steps"]
    if found != steps:
        raise ConfigError(
            f"{run.folder} was trained for {found} steps, not {steps}: choose another --out, or "
            f"--steps {found}"
        )


def _train(runs: list[PlannedRun], steps: int) -> None:
    """Train side by side, with one progress bar over all steps."""

    def last_step(run: PlannedRun) -> int:
        try:
            return int(read_metrics(run.folder)[-1]["step"])
        except (OSError, IndexError):  # nothing is written yet
            return 0

    def show() -> None:
        done = {run: last_step(run) for run in runs}
        stages = [
            f"{run.title} evaluates"
            for run, step in done.items()
            if step >= steps and not run.result.is_file()
        ]
        note = ", ".join(stages) or "training"
        progress.update(sum(done.values()) - progress.done, note=note)

    for run in runs:
        _log.info("$ rangeseg %s", shlex.join(run.train))
    threads = max(1, cores() // len(runs))
    place = Place(choose_device("auto").type, {"OMP_NUM_THREADS": str(threads)})
    with Progress(f"train {len(runs)} networks", steps * len(runs), "step") as progress:
        failed = train_missing(runs, [place] * len(runs), show)
    raise_failed(failed, len(runs))


def _draw(overview: Path, journey: Path, results: dict[PlannedRun, dict[str, Any]]) -> None:
    """Draw one test scan: the predictions of all runs, and the way to the last of them."""
    scan_id, strips = "", {}
    for run, result in results.items():
        experiment, predictor = load_run(run.folder, torch.device("cpu"))
        source = experiment.source
        scan_id = scan_id or _richest(source)
        (prediction,) = predictor.predict(source, [scan_id])
        labelled, miou = result["run"]["labelled_scans"], result["miou"]["point"]
        name = f"{run.title}, {labelled} labelled scans: point mIoU {miou:.1f} on all test scans"
        strips[name] = prediction.points
    title = f"rangeseg demo: simulated test scan {scan_id}"
    label_map = source.info.label_map
    picture = range_panels(title, prediction.scan, prediction.projection, label_map, strips)
    save_picture(overview, picture)
    draw_pipeline(journey, prediction, label_map)


def _richest(source: ScanSource) -> str:
    """The middle one of the test scans with the most classes: most show a road and little else."""
    classes: dict[str, int] = {}
    for scan_id in source.scan_ids(SPLIT):
        labels = source.read_scan(scan_id).labels
        assert labels is not None
        classes[scan_id] = int((np.bincount(labels, minlength=256)[:IGNORE] >= 20).sum())
    most = max(classes.values())
    richest = [scan_id for scan_id, found in classes.items() if found == most]
    return richest[len(richest) // 2]


def _report(results: dict[PlannedRun, dict[str, Any]]) -> str:
    first, *_ = results.values()
    rows = [
        [
            run.title,
            *[f"{result['miou'][kind]:.1f}" for kind in KINDS],
            f"{result['miou']['point'] - first['miou']['point']:+.1f}",
            f"{(result['run']['train_seconds'] or 0) + result['seconds']:.0f}",
        ]
        for run, result in results.items()
    ]
    header = ["method", "point mIoU", "raw point", "pixel", "point gain", "seconds"]
    labelled, steps = first["run"]["labelled_scans"], first["run"]["steps"]
    return (
        f"simulated street, {labelled} labelled scans, {first['scans']} {SPLIT} scans, {steps} "
        f"steps, one seed, mIoU in per cent\n\n{markdown_table(header, rows)}"
    )
