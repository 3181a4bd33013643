"""The demo: everything once, on simulated scans, with the commands a user would type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.drawing.colours import error_colours, label_colours, range_colours
from rangeseg.drawing.pipeline import draw_journey
from rangeseg.drawing.sheets import Panel, save_overview
from rangeseg.engine.inference import Prediction
from rangeseg.engine.metrics_log import METRICS
from rangeseg.errors import ConfigError, DataError, RangesegError
from rangeseg.geometry.channels import to_image
from rangeseg.report.tables import markdown_table
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import result_path
from rangeseg.runs.trained import load_run, read_result
from rangeseg.system.distributed import end_with_parent
from rangeseg.system.progress import Progress

METHODS = ("supervised", "cutmix_seg")
LABELS = "1%"
SPLIT = "test"
STEPS = 1200  # a third of the configuration's: enough to see something in a few minutes


def shipped_config(name: str) -> Path:
    """A configuration that comes with the package.

    Raises:
        ConfigError: it is not there.
    """
    package = Path(__file__).parents[2]
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    # A checkout, then what pip makes: with --target, for the system, with --user.
    prefixes = [package, Path(sysconfig.get_path("data")), Path(sys.prefix), Path(user)]
    folders = [package / "configs", *[p / "share" / "rangeseg" / "configs" for p in prefixes]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(dict.fromkeys(map(str, folders)))
    raise ConfigError(f"{name} is in none of {looked}: install rangeseg anew")


def run_demo(out: Path, steps: int | None = None) -> str:
    """Simulate, train two methods, evaluate, draw. What is already there is not done again.

    Args:
        out: the folder for data, runs and the picture.
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
        f"train.steps={STEPS if steps is None else steps}",
    ]
    config = load_config(path, overrides)
    folders = {method: out / "runs" / method for method in METHODS}
    missing = {m: f for m, f in folders.items() if not result_path(f, SPLIT).is_file()}
    _check_steps([f for m, f in folders.items() if m not in missing], config.train.steps)
    if (out / "data" / "simulation.json").is_file():
        print(f"data: {out / 'data'} is already there", file=sys.stderr)
    Experiment(config).source.scan_ids(SPLIT)  # simulates on first use

    for method, folder in folders.items():
        if method not in missing:
            print(f"{method}: {folder} is already trained and evaluated", file=sys.stderr)
    if missing:
        _train(path, overrides, missing, config.train.steps)
    results = {m: read_result(result_path(f, SPLIT)) for m, f in folders.items()}

    overview, journey = out / "overview.png", out / "journey.png"
    if missing or not (overview.is_file() and journey.is_file()):
        _draw(overview, journey, folders, results)
    return _report(out, results) + f"\npictures: {overview}, {journey}"


def _check_steps(trained: list[Path], steps: int) -> None:
    """That what is there is of the length that is asked for."""
    for folder in trained:
        found = read_result(result_path(folder, SPLIT))["run"]["steps"]
        if found != steps:
            raise ConfigError(
                f"{folder} was trained for {found} steps, not {steps}: choose another --out, or "
                f"--steps {found}"
            )


def _train(path: Path, overrides: list[str], missing: dict[str, Path], steps: int) -> None:
    """Train side by side, one thread each where cores are few: small networks gain most so."""
    threads = max(1, (os.cpu_count() or 1) // len(missing))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    logs = {method: folder.parent / f"{method}.log" for method, folder in missing.items()}
    try:
        for method, folder in missing.items():
            command = [sys.executable, "-m", "rangeseg", "train", str(path), "--method", method]
            command += ["--labels", LABELS, "--out", str(folder), "--resume"]
            for override in overrides:
                command += ["--set", override]
            shown = " ".join(["rangeseg", *command[3:]])
            print(f"$ {shown}", file=sys.stderr)
            processes[method] = _start(command, environment, logs[method])
        _watch(processes, missing, steps)
        failed = {m: code for m, process in processes.items() if (code := process.poll())}
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()
    for method, code in failed.items():
        said = logs[method].read_text().strip().splitlines() or ["nothing"]
        kind = {2: ConfigError, 3: DataError}.get(code, RangesegError)
        raise kind(f"training {method} failed; {logs[method]} ends with: {said[-1]}")


def _start(
    command: list[str], environment: dict[str, str], log_path: Path
) -> subprocess.Popen[bytes]:
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("w") as log:
            return subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A demo that is killed and called again must not find its folders in use.
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
    except OSError as error:
        raise ConfigError(
            f"{log_path} cannot be written, or no process started ({error.strerror}): make room, "
            "or choose another --out"
        ) from None


def _watch(
    processes: dict[str, subprocess.Popen[bytes]], folders: dict[str, Path], steps: int
) -> None:
    """One bar over all trainings, fed by their ``metrics.jsonl``, until all ended or one failed."""
    done = dict.fromkeys(processes, 0)
    with Progress(f"train {' + '.join(processes)}", steps * len(processes), "step") as progress:
        while any(process.poll() is None for process in processes.values()):
            if any(process.poll() for process in processes.values()):
                return
            time.sleep(0.5)
            for method in processes:
                now = _last_step(folders[method] / METRICS)
                progress.update(now - done[method], note=_stage(processes, done, steps))
                done[method] = now


def _stage(
    processes: Mapping[str, subprocess.Popen[bytes]], done: Mapping[str, int], steps: int
) -> str:
    evaluating = [m for m, p in processes.items() if done[m] >= steps and p.poll() is None]
    return ", ".join(f"{method} evaluates" for method in evaluating)


def _last_step(path: Path) -> int:
    """The step of the last whole line of a ``metrics.jsonl``."""
    try:
        lines = path.read_text().splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError):  # not there yet, or half a line
        return 0


def _draw(
    overview: Path, journey: Path, folders: dict[str, Path], results: dict[str, dict[str, Any]]
) -> None:
    """The scan with the most classes: range, truth, both predictions; and its way to the last."""
    predictions: dict[str, Prediction] = {}
    device = torch.device("cpu")
    scan_id = ""
    for method, folder in folders.items():
        experiment, predictor = load_run(folder, device)
        source = experiment.source
        scan_id = scan_id or _richest(source)
        (predictions[method],) = predictor.predict(source, [scan_id])
    info = source.info
    first = predictions[METHODS[0]]
    assert first.scan.labels is not None
    valid, index = first.projection.valid, first.projection.point_index
    truth = to_image(first.scan.labels, index, IGNORE)
    depth = to_image(first.projection.depth, index, 0.0)
    panels = [
        Panel("range (bright is near; the scan unrolled, straight ahead in the middle)",
              range_colours(depth, valid)),
        Panel("truth", label_colours(truth, valid, info.label_map.colours)),
    ]  # fmt: skip
    for method, prediction in predictions.items():
        miou = results[method]["miou"]["point"]
        title = f"{method}, {results[method]['run']['labelled_scans']} labelled scans"
        pixels = to_image(prediction.points, index, IGNORE)
        panels.append(
            Panel(f"{title}: prediction", label_colours(pixels, valid, info.label_map.colours))
        )
        wrong = error_colours(pixels, truth, valid)
        panels.append(Panel(f"{method}: errors (point mIoU {miou:.1f} on all test scans)", wrong))
    shown = sorted(
        set(np.unique(truth[valid]))
        | {c for p in predictions.values() for c in np.unique(p.points)}
    )
    classes = [(info.label_map.names[c], info.label_map.colours[c]) for c in shown if c != IGNORE]
    save_overview(overview, f"rangeseg demo: simulated test scan {scan_id}", panels, classes)
    draw_journey(journey, predictions[METHODS[-1]], info)


def _richest(source: ScanSource) -> str:
    """The test scan with the most classes (a picture of one road says little)."""

    def classes(scan_id: str) -> int:
        labels = source.read_scan(scan_id).labels
        assert labels is not None
        counts = np.bincount(labels, minlength=256)[:IGNORE]
        return int((counts >= 20).sum())

    return max(source.scan_ids(SPLIT), key=classes)


def _report(out: Path, results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for method, result in results.items():
        miou = result["miou"]
        rows.append(
            [
                method,
                str(result["run"]["labelled_scans"]),
                *[f"{miou[kind]:.1f}" for kind in ("point", "point_raw", "pixel")],
                f"{(result['run']['train_seconds'] or 0) + result['seconds']:.0f}",
            ]
        )
    header = ["method", "labelled scans", "point mIoU", "raw point", "pixel", "seconds"]
    first = results[METHODS[0]]
    return (
        f"simulated street, {first['scans']} {first['protocol']['split']} scans, "
        f"{first['run']['steps']} steps, mIoU in per cent (one seed: a look, not a proof; "
        f"the README has the table over several)\n\n"
        f"{markdown_table(header, rows)}\n\n"
        f"runs:     {out / 'runs'}"
    )
