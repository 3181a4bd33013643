"""``rangeseg view`` as a user types it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rangeseg.cli import main
from rangeseg.datasets.labels import LabelMap
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.drawing import colours
from rangeseg.viewer import modes as viewer_colours
from rangeseg.viewer import view as view_room
from rangeseg.viewer.batch import StudentBatch
from rangeseg.viewer.batch_sheet import batch_sheet
from rangeseg.viewer.offscreen import OffscreenRenderer
from rangeseg.viewer.save import PANE
from rangeseg.viewer.scans import open_views

Capture = pytest.CaptureFixture[str]
EMPTY, IGNORED = tuple(colours.EMPTY.tolist()), tuple(viewer_colours.IGNORED.tolist())
COLOURS = {tuple(c) for c in SemanticKitti.info.label_map.colours.tolist()}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def holds(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether a part stands in a picture, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, part.shape)
    return any(np.array_equal(window, part) for row in windows for window in row[:, 0])


def test_help_needs_neither_torch_nor_open3d() -> None:
    code = (
        "import sys; from rangeseg.cli import main\n"
        "try: main(['view', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numba', 'open3d', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--side-by-side" in done.stdout


@pytest.mark.usefixtures("drawing", "no_display")
def test_pictures_of_points(run: Path, tmp_path: Path, capsys: Capture) -> None:
    for mode in ("truth", "error"):
        out = tmp_path / f"{mode}.png"
        assert main(["view", str(run), "--mode", mode, "--save", str(out)]) == 0
        assert f"picture: {out}" in capsys.readouterr().out
    truth, error = pixels(tmp_path / "truth.png"), pixels(tmp_path / "error.png")
    assert truth.shape[1] == error.shape[1]
    assert not np.array_equal(truth[:700], error[:700])
    names = SemanticKitti.info.label_map.names
    road = SemanticKitti.info.label_map.colours[names.index("road")]
    assert (truth[60:700] == road).all(axis=2).sum() > 1000
    # Between title and legend there are class colours and two greys, and nothing else.
    drawn = {tuple(c) for c in np.unique(truth[60:760, 20:-20].reshape(-1, 3), axis=0).tolist()}
    assert drawn <= COLOURS | {EMPTY, IGNORED}

    folder = tmp_path / "many"
    words = ["view", str(run), "--split", "test", "--side-by-side", "--save", str(folder)]
    assert main([*words, "--count", "3"]) == 0
    files = ["11_000000.png", "11_000001.png", "12_000000.png"]
    assert sorted(path.name for path in folder.iterdir()) == files
    assert capsys.readouterr().out == f"picture: {folder / files[0]} and 2 more\n"

    # Left the truth, right the prediction, each as it is drawn alone.
    both = pixels(folder / files[0])
    views = open_views(run, [], None, "test", 0.9, torch.device("cpu"))
    view = views.read("11/000000")
    shown = viewer_colours.visible_points(view, False)
    with OffscreenRenderer(*PANE, 2.0, colours.EMPTY) as renderer:
        for mode, half in (
            ("truth", both[:, : both.shape[1] // 2]),
            ("prediction", both[:, both.shape[1] // 2 :]),
        ):
            wanted = viewer_colours.point_colours(mode, view, views.source.info.label_map)
            assert holds(half, renderer.draw(view.scan.points[shown], wanted[shown])), mode


@pytest.mark.usefixtures("drawing", "no_display")
def test_ignored_points_are_left_out(run: Path, tmp_path: Path) -> None:
    words = ["view", str(run), "--split", "test", "--mode", "truth", "--save"]
    assert main([*words, str(tmp_path / "all.png")]) == 0
    assert main([*words, str(tmp_path / "known.png"), "--hide-ignored"]) == 0
    everything, known = (
        (pixels(tmp_path / name)[60:700] == IGNORED).all(axis=2).sum()
        for name in ("all.png", "known.png")
    )
    assert everything > 100
    assert known == 0


@pytest.mark.slow
@pytest.mark.usefixtures("drawing", "no_display")
def test_a_film(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    assert main(["view", str(run), "--split", "test", "--mode", "truth", "--video", str(out)]) == 0
    with Image.open(out) as film:
        assert film.n_frames == 4
        film.seek(1)
        frame = np.asarray(film.convert("RGB"))
    shown = {tuple(c) for c in np.unique(frame[60:700, 20:-20].reshape(-1, 3), axis=0).tolist()}
    assert shown <= COLOURS | {EMPTY, IGNORED}
    assert len(shown) > 5


def test_strips_and_batches_need_no_open3d(
    run: Path, small_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)  # importing it fails
    monkeypatch.setenv("PATH", "")  # no child process either
    assert main(["view", str(run), "--panel", "--save", str(tmp_path / "a.png")]) == 0
    assert main(["view", *small_config, "--panel", "--save", str(tmp_path / "b.png")]) == 0
    six, three = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    assert six.shape[0] > three.shape[0] + 3 * 200  # 32 rows, five times as high, and titles
    assert main(["view", str(run), "--batch", "--save", str(tmp_path / "c.png")]) == 0
    words = ["view", *small_config, "--method", "lasermix", "--batch"]
    assert main([*words, "--save", str(tmp_path / "d.png")]) == 0
    assert pixels(tmp_path / "d.png").shape[0] > pixels(tmp_path / "c.png").shape[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--panel"], "--panel makes a picture: give its file with --save"),
        (["--save", "a.jpg"], "--save a.jpg: name a .png or a folder"),
        (["--video", "a.mp4"], "--video a.mp4: name a .gif"),
        (["--count", "0", "--save", "a.png"], "--count 0: give a number from 1 on"),
        (["--min-confidence", "2"], "--min-confidence 2.0: give 0 to 1"),
        (["--batch"], "--batch makes a picture: give its file with --save batch.png"),
        (["--batch", "--method", "cps", "--save", "a.png"], "a run has its own"),
        (["--batch", "--mode", "error", "--save", "a.png"], "a batch is always shown whole"),
        (["--batch", "--panel", "--save", "a.png"], "--panel is for scans: a batch is always"),
        (["--batch", "--count", "2", "--save", "a.png"], "--count is for scans: a batch is"),
        (["--batch", "--scan", "08/000000", "--save", "a.png"], "--scan is for scans: a batch is"),
        (["--method", "cps", "--save", "a.png"], "--method goes with --batch"),
        (["--seed", "0", "--save", "a.png"], "--seed goes with --batch"),
        (["--panel", "--mode", "error", "--save", "a.png"], "--mode is for points: strips show"),
        (["--panel", "--side-by-side", "--save", "a.png"], "--side-by-side is for points: strips"),
        (["--point-size", "0", "--save", "a.png"], "--point-size 0.0: give pixels, more than 0"),
        (["--mode", "depth", "--save", "a.png"], "unknown colour mode 'depth'"),
        (["--set", "model.width=4"], "--set and --predictions go with a configuration"),
    ],
)
def test_wrong_words(words: list[str], message: str, run: Path, capsys: Capture) -> None:
    assert main(["view", str(run), *words]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert message in line


def test_lines_are_there_while_the_window_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a pipe, which Python fills before it passes anything on."""
    passed_on: list[str] = []

    class Pipe(io.StringIO):
        def flush(self) -> None:
            passed_on.append(self.getvalue())

    def look(request: object, panel: bool, say: Callable[[str], None]) -> None:
        say("08/000000 · truth")
        assert passed_on[-1:] == ["08/000000 · truth\n"]

    monkeypatch.setattr(view_room, "view_scans", look)
    monkeypatch.setattr(sys, "stdout", Pipe())
    assert main(["view", str(run)]) == 0


@pytest.mark.parametrize("more", [[], ["--batch"]])
def test_a_place_that_is_not_there_may_have_been_a_run(
    more: list[str], tmp_path: Path, capsys: Capture
) -> None:
    words = ["view", str(tmp_path / "rnu"), *more, "--save", str(tmp_path / "a.png")]
    assert main(words) == 2
    assert "rnu does not exist: give the folder of a run, of predict" in capsys.readouterr().err


def test_raw_data_are_named_by_a_configuration(simulated_root: Path, capsys: Capture) -> None:
    assert main(["view", str(simulated_root), "--save", "a.png"]) == 2
    said = capsys.readouterr().err
    assert f"give a configuration, with --set dataset.root={simulated_root} for raw data" in said


def test_what_predicts_nothing_is_not_said_to_predict_nonsense(
    small_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def keep(batch: StudentBatch, title: str, label_map: LabelMap) -> np.ndarray:
        titles.append(title)
        return batch_sheet(batch, title, label_map)

    monkeypatch.setattr(view_room, "batch_sheet", keep)
    for method in ("supervised", "cutmix_seg"):
        words = ["view", *small_config, "--method", method, "--batch"]
        assert main([*words, "--save", str(tmp_path / "a.png")]) == 0
    assert ["mean nothing" in title for title in titles] == [False, True]


@pytest.mark.usefixtures("drawing", "no_display")
@pytest.mark.real_data
def test_a_real_scan(real_data: Path, tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "configs" / "semantic_kitti.yaml"
    words = ["view", str(config), "--set", f"dataset.root={real_data / 'semantickitti_mini'}"]
    assert main([*words, "--save", str(tmp_path / "scan.png")]) == 0
    picture = pixels(tmp_path / "scan.png")[60:760, 20:-20]
    drawn = {tuple(c) for c in np.unique(picture.reshape(-1, 3), axis=0).tolist()}
    assert drawn <= COLOURS | {EMPTY, IGNORED}
    assert len(drawn) > 8
