"""``rangeseg view``: check the request, then open a window or write pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.splits import parse_labels
from rangeseg.drawing.sheets import save_picture
from rangeseg.engine.checkpoint import CHECKPOINT
from rangeseg.errors import ConfigError
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import read_run_config
from rangeseg.runs.plan import plan_run
from rangeseg.system.device import choose_device
from rangeseg.viewer.batch import student_batch
from rangeseg.viewer.batch_sheet import batch_sheet
from rangeseg.viewer.loose_scans import open_loose_scans
from rangeseg.viewer.modes import PROPAGATED_MODES, check_mode, first_mode, side_modes
from rangeseg.viewer.save import save_scans
from rangeseg.viewer.scans import ScanViews, open_views
from rangeseg.viewer.window import show_window

VIDEO_SCANS = 50
"""Default number of frames in a GIF: all frames are in memory, and in the file."""


@dataclass(frozen=True)
class ViewRequest:
    """The request of ``rangeseg view``.

    Attributes:
        target: the folder of a run, of predictions or of propagated labels, or a configuration.
        paths: files of scans, and folders, with a run or a file from ``rangeseg export``.
        layout: the user's layout of these files.
        overrides: ``key=value`` for a configuration.
        predictions: a folder of predictions, with a configuration.
        split: split of the scans; None takes the target's.
        scans: ids of the scans; empty for all.
        count: largest number of scans.
        mode: mode of the colours; None for the initial one.
        side_by_side: show truth next to prediction, or next to propagated labels.
        hide_ignored: leave out points whose true class is ignored.
        point_size: size of points in pixels.
        min_confidence: least confidence of a pseudo-label.
        device: device of networks.
        save: a PNG, or a folder of them.
        video: a GIF; with neither, a window opens.
    """

    target: Path
    paths: list[Path]
    layout: Layout
    overrides: list[str]
    predictions: Path | None
    split: str | None
    scans: list[str]
    count: int | None
    mode: str | None
    side_by_side: bool
    hide_ignored: bool
    point_size: float
    min_confidence: float
    device: str
    save: Path | None
    video: Path | None


def view_scans(request: ViewRequest, panel: bool, say: Callable[[str], None]) -> None:
    """Show scans in a window, or write pictures of them.

    Args:
        request: the request.
        panel: draw range-image strips instead of points.
        say: takes lines for the user.

    Raises:
        ConfigError: options are wrong or do not go together.
        RangesegError: scans cannot be read, or nothing can be drawn.
    """
    out, count = request.video or request.save, request.count
    if request.video is not None and request.video.suffix.lower() != ".gif":
        raise ConfigError(f"--video {request.video}: name a .gif")
    if request.save is not None and request.save.suffix.lower() not in ("", ".png"):
        raise ConfigError(f"--save {request.save}: name a .png or a folder")
    if panel and out is None:
        raise ConfigError("--panel makes a picture: give its file with --save strips.png")
    if not 0 <= request.min_confidence <= 1:
        raise ConfigError(f"--min-confidence {request.min_confidence}: give 0 to 1")
    if count is not None and count < 1:
        raise ConfigError(f"--count {count}: give a number from 1 on")
    if not (isfinite(request.point_size) and request.point_size > 0):
        raise ConfigError(f"--point-size {request.point_size}: give pixels, more than 0")
    _check_target(request.target)
    if request.video is not None and count is None and not request.scans:
        count = VIDEO_SCANS
    views = _open(request)
    mode = check_mode(request.mode or first_mode(views), views)
    if request.side_by_side:
        side_modes(mode, views)
    if mode in PROPAGATED_MODES and not request.scans:
        views = views.with_propagated()
    views = views.chosen(request.scans, count)
    if out is None:
        show_window(
            views, mode, request.side_by_side, request.hide_ignored, request.point_size, say
        )
        return
    written = save_scans(
        views, out, mode, request.side_by_side, panel, request.hide_ignored, request.point_size
    )
    more = f" and {len(written) - 1} more" if len(written) > 1 else ""
    say(f"picture: {written[0]}{more}")


def view_batch(
    request: ViewRequest,
    method: str | None,
    labels: str | None,
    seed: int | None,
    say: Callable[[str], None],
) -> None:
    """Write a picture of a training batch of a method's student.

    Args:
        request: request with target (a run or a configuration), device and ``save``.
        method: name of the method, with a configuration.
        labels: as for ``train``, with a configuration; None for 10 %.
        seed: seed of the training, with a configuration; None for 0.
        say: takes lines for the user.

    Raises:
        ConfigError: options are wrong or do not go together.
        RangesegError: scans or the checkpoint cannot be read.
    """
    save = request.save
    if save is None or save.suffix.lower() != ".png":
        raise ConfigError("--batch makes a picture: give its file with --save batch.png")
    _check_target(request.target)
    checkpoint = None
    if request.target.is_dir():
        if request.overrides or method is not None or labels is not None or seed is not None:
            raise ConfigError(
                "--method, --labels, --seed and --set go with a configuration: a run has its own"
            )
        config, checkpoint = read_run_config(request.target), request.target / CHECKPOINT
    elif method is None:
        raise ConfigError("--batch with a configuration needs --method, e.g. --method cutmix_seg")
    else:
        values = load_config(request.target, request.overrides)
        config = plan_run(values, method, parse_labels(labels or "10%"), seed or 0)
    experiment = Experiment(config)
    step = config.train.steps - 1  # all ramps of the training are complete
    batch = student_batch(experiment, checkpoint, step, choose_device(request.device))
    predicts = any(kind == "unlabelled" for _, kind in batch.scans)
    trained = " · networks without training: their predictions mean nothing"
    trained = trained if predicts and checkpoint is None else ""
    title = f"{config.run.method} · what the student sees and is taught{trained}"
    save_picture(save, batch_sheet(batch, title, experiment.source.info.label_map))
    say(f"picture: {save}")


def _open(request: ViewRequest) -> ScanViews:
    """Open the requested scans."""
    if not request.paths:
        return open_views(
            request.target, request.overrides, request.predictions, request.split,
            request.min_confidence, choose_device(request.device),
        )  # fmt: skip
    if request.overrides or request.predictions is not None or request.split is not None:
        raise ConfigError("--set, --predictions and --split do not go with files of scans")
    return open_loose_scans(
        request.target, request.paths, request.layout, request.min_confidence, request.device
    )


def _check_target(target: Path) -> None:
    """Check that the target exists: a run's mistyped folder is no configuration."""
    if not target.exists():
        raise ConfigError(
            f"{target} does not exist: give the folder of a run, of predictions or of propagated "
            "labels, or a YAML file, e.g. one of configs/"
        )
