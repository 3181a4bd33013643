"""What reads a file from outside, each with the inputs that are tried and what must hold."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.index import FORMAT, index_path
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.datasets.splits import check_split, read_split
from rangeseg.engine.checkpoint import Identity, fitting, load_checkpoint, save_checkpoint
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.engine.optimiser import Optimiser
from rangeseg.errors import RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.geometry.sensor import RowRule
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method
from rangeseg.runs.config import RunConfig, RunSettings, load_config, load_run_config
from rangeseg.runs.experiment import open_source
from rangeseg.simulation.generate import STAMP, SimulationSettings, read_stamp
from tests.datasets.own_scans import BEAMS, DESCRIPTION, turn, write_labels, write_points
from tests.fuzz import inputs
from tests.methods.conftest import CLASSES, make_task, three_layers

Outcome = Literal["works", "refused"]

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = torch.device("cpu")
TOKENS = [f"{number:032x}" for number in range(3)]


HANGING_S = 30.0


class Hanging(BaseException):
    """Not an Exception: code that turns those into its own errors must not swallow this one."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hanging(f"still at it after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Target:
    """A file, what may stand in it, and its reader.

    Attributes:
        name: what it is called in reports.
        path: the file.
        contents: tried one after the other.
        read: uses the file as the toolkit does and asserts that what comes out is right.
    """

    name: str
    path: Path
    contents: inputs.Bytes
    read: Callable[[], None]

    def try_out(self, content: bytes) -> Outcome:
        """Read the file with this content: it works, or ends in an error that names the file.

        Raises:
            Hanging: it took too long.
        AssertionError: a wrong output, or an error that does not say where.
            Exception: what nobody foresaw.
        """
        self.path.write_bytes(content)
        try:
            with _at_most(HANGING_S):
                self.read()
        except RangesegError as error:
            message = str(error)
        else:
            return "works"
        assert str(self.path) in message, f"does not name {self.path}: {message}"
        return "refused"


def make_targets(folder: Path) -> list[Target]:
    """All targets, with sound files around those that are damaged."""
    return [
        *_kitti(folder / "kitti"),
        *_nuscenes(folder / "nuscenes"),
        _npy(folder / "npy"),
        _pack(folder / "pack"),
        _split(folder / "split"),
        *_configs(folder / "configs"),
        _simulation(folder / "simulation"),
        _checkpoint(folder / "checkpoint"),
    ]


def _kitti(root: Path) -> list[Target]:
    points, _ = turn(order="beams")
    source = SemanticKitti(root)
    points_path, label_path = source.paths("00/000000")
    sound, labels = source.paths("00/000001")
    for path in (points_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    points.tofile(sound)
    ids = sorted(source.info.label_map.raw_to_train)
    valid = np.resize(ids, len(points)).astype("<u4")
    predict = make_predictors(source, "scan_order")
    inclination = make_predictors(source, "inclination")

    def read_points() -> None:
        check_prediction(source, "00/000000", points_path.stat().st_size // 16, predict)
        check_prediction(source, "00/000000", points_path.stat().st_size // 16, inclination)

    def read_labels() -> None:
        scan = source.read_scan("00/000001")
        assert scan.labels is not None
        assert scan.labels.shape == (len(points),)
        assert scan.labels.dtype == np.uint8
        assert np.isin(scan.labels, [*range(19), IGNORE]).all()

    return [
        Target(".bin", points_path, _points(4, points), read_points),
        Target(
            ".label",
            labels,
            inputs.st.one_of(
                inputs.raw_labels("<u4", ids, len(points)),
                inputs.damaged(valid.tobytes()),
                inputs.arbitrary(),
            ),
            read_labels,
        ),
    ]


def _nuscenes(root: Path) -> list[Target]:
    names = [f"samples/LIDAR_TOP/{token}.pcd.bin" for token in TOKENS]
    label_names = [f"lidarseg/v1.0-mini/{token}_lidarseg.bin" for token in TOKENS]
    for name in (names[0], label_names[0]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    points, beams = turn(order="firings")
    values = np.column_stack([points, 31 - beams]).astype("<f4")
    values.tofile(root / names[1])
    scans = list(zip(TOKENS, TOKENS, names, label_names, range(3), strict=True))
    index = {
        "format": FORMAT,
        "version": "v1.0-mini",
        "data": None,
        "scenes": {
            "scene-0061": {"split": "mini_train", "scans": scans[:2]},
            "scene-0103": {"split": "mini_val", "scans": scans[2:]},
        },
    }
    path = index_path(root, "v1.0-mini")
    path.write_text(json.dumps(index))
    source = NuScenes(root)
    source.check_root()  # keeps the sound index, whatever is written over it later
    ring, file_order = make_predictors(source, "ring"), make_predictors(source, "file_order")

    def read_points() -> None:
        size = (root / names[0]).stat().st_size // 20
        check_prediction(source, TOKENS[0], size, ring)
        check_prediction(source, TOKENS[0], size, file_order)

    def read_labels() -> None:
        scan = source.read_scan(TOKENS[1])
        assert scan.labels is not None
        assert scan.labels.shape == (len(points),)
        assert np.isin(scan.labels, [*range(16), IGNORE]).all()

    def read_the_index() -> None:
        fresh = NuScenes(root)
        for split in ("train", "val"):
            files = []
            for token in fresh.scan_ids(split):
                points_path, label_path = fresh.paths(token)
                _check_inside(points_path, points_path.parents[2])
                assert label_path is None or ".." not in label_path.parts
                files.append(fresh.prediction_file(token, split))
                _check_inside(root / "out" / files[-1], root / "out")
            assert len(set(files)) == len(files)

    return [
        Target(".pcd.bin", root / names[0], _points(5, values), read_points),
        Target(
            "lidarseg .bin",
            root / label_names[1],
            inputs.st.one_of(
                inputs.raw_labels("uint8", list(range(32)), len(points)), inputs.arbitrary()
            ),
            read_labels,
        ),
        Target("index", path, inputs.json_texts(index), read_the_index),
    ]


def _npy(root: Path) -> Target:
    layout = {"points_suffix": ".npy", "intensity_max": 255}
    source = Custom(root, Description.model_validate(DESCRIPTION | {"layout": layout}))
    path = source.paths("01/000000")[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    points, _ = turn()
    predict = make_predictors(source, "inclination")

    def read() -> None:
        check_prediction(source, "01/000000", source.check_files("01/000000", False), predict)

    return Target(".npy", path, inputs.npy(points[:300]), read)


def _pack(root: Path) -> Target:
    layout = {"columns": 5, "ring_column": 4}
    description = Description.model_validate(DESCRIPTION | {"layout": layout})
    points, beams = turn()
    points[5:9], points[9:12] = 0, np.nan
    for sequence in ("01", "02", "03"):
        write_points(root, f"{sequence}/000000", np.column_stack([points, beams])[:320])
        write_labels(root, f"{sequence}/000000", np.resize([0, 7, 9], 320).astype(np.uint32))
    path = root / "mine.pack"
    pack_dataset(Custom(root, description), "custom", path)

    def read() -> None:
        source = open_dataset("custom", path, description)
        predict = make_predictors(source, "ring")
        for split in source.splits:
            for scan_id in source.scan_ids(split):
                size = source.check_files(scan_id, source.has_labels(scan_id))
                check_prediction(source, scan_id, size, predict)
                _check_inside(root / source.prediction_file(scan_id, split), root)
                labels = source.read_scan(scan_id, source.has_labels(scan_id)).labels
                assert labels is None or np.isin(labels, [0, 1, IGNORE]).all()

    return Target("pack", path, inputs.packs(path.read_bytes()), read)


def _split(root: Path) -> Target:
    source = SemanticKitti(root)
    valid = [f"{s}/{frame:06d}" for s in SemanticKitti.SPLITS["train"] for frame in (0, 1)]
    for scan_id in valid:
        path = source.paths(scan_id)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(16))
    path = root / "list.txt"

    def read() -> None:
        labelled = read_split(path)
        for scan_id in labelled:
            if "/" in scan_id:
                _check_inside(source.paths(scan_id)[0], root)
                _check_inside(root / source.prediction_file(scan_id, "train"), root)
        check_split(labelled, source, path)
        assert labelled
        assert set(labelled) <= set(valid)

    return Target("split list", path, inputs.lists(valid[:6]), read)


def _configs(root: Path) -> list[Target]:
    root.mkdir()
    path, run_path, again = root / "config.yaml", root / "run.yaml", root / "again.yaml"
    config = load_config(CONFIGS / "simulated.yaml")
    asked = {"run": RunSettings(method="cps", labels="10%", seed=0)}
    run = RunConfig.model_validate(config.model_dump() | asked).resolved()

    def read() -> None:
        found = load_config(path)
        open_source(found)
        again.write_text(found.resolved(), encoding="utf-8")
        assert load_config(again).resolved() == found.resolved()

    def read_run() -> None:
        load_run_config(run_path).of_the_weights()

    shipped = [file.read_text() for file in sorted(CONFIGS.glob("*.yaml"))]
    contents = inputs.st.one_of(
        *map(inputs.yaml_texts, shipped),
        inputs.st.sampled_from(inputs.YAML_TEXTS).map(lambda text: text.encode()),
        inputs.arbitrary(),
    )
    return [
        Target("configuration", path, contents, read),
        Target("run's configuration", run_path, inputs.yaml_texts(run), read_run),
    ]


def _simulation(root: Path) -> Target:
    root.mkdir()
    settings = SimulationSettings().model_dump()
    stamp = {"version": 1, "settings": settings, "complete": True}

    def read() -> None:
        source = Simulated(root)
        RangeImages(source.info, RangeImageSettings(height=32, width=64))
        assert 4 <= source.info.sensor.beams <= 64
        read_stamp(root)

    return Target("simulation stamp", root / STAMP, inputs.json_texts(stamp), read)


def _checkpoint(root: Path) -> Target:
    root.mkdir()
    path = root / "last.pt"
    torch.manual_seed(0)
    method = METHODS["supervised"](three_layers, make_task(), METHODS["supervised"].Settings())
    identity = Identity("supervised", ("a", "b", "c", "d"), "0" * 64, {"model.width": 4})
    started = _one_step(method, Optimiser(method, 4, 1e-3, 1e-2, 0.3, 1.0))
    save_checkpoint(path, identity, 1, method, started.state_dict())

    def read() -> None:
        step, training = load_checkpoint(path, identity, method, CPU)
        descent = Optimiser(method, 4, 1e-3, 1e-2, 0.3, 1.0)
        with fitting(path):
            descent.load_state_dict(training)
        assert step == 1
        after = _one_step(method, descent).state_dict()
        assert after["step"] == 2
        parameters = dict(method.named_parameters())
        assert after["optimiser"].keys() == parameters.keys()
        for name, moments in after["optimiser"].items():
            assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape == parameters[name].shape
        with torch.inference_mode():
            logits = method.predictor().eval()(torch.zeros(1, 6, 8, 16))
        assert logits.shape == (1, CLASSES, 8, 16)

    return Target("checkpoint", path, inputs.checkpoints(path.read_bytes()), read)


def _one_step(method: Method[Any], descent: Optimiser) -> Optimiser:
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)
    descent.step()
    return descent


def _points(columns: int, valid: np.ndarray) -> inputs.Bytes:
    return inputs.st.one_of(
        inputs.scans(columns, valid),
        inputs.damaged(valid[:200].astype("<f4").tobytes()),
        inputs.arbitrary(),
    )


class _Flat(torch.nn.Module):
    """Logits without weights: a class per pixel that depends on the image."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.sum(dim=1, keepdim=True) * torch.linspace(-1, 1, self.classes)[:, None, None]


def make_predictors(source: ScanSource, rows: RowRule) -> tuple[Predictor, ...]:
    """A predictor for each way back to the points."""
    size = RangeImageSettings(height=BEAMS, width=64, rows=rows)
    images = RangeImages(source.info, size)
    classes = source.info.label_map.num_classes
    return tuple(
        Predictor(
            _Flat(classes), images, EvaluateSettings(back_projection=way), classes, CPU, "float32"
        )
        for way in ("nearest_point", "nearest_label", "knn_vote", "none")
    )


def check_prediction(
    source: ScanSource, scan_id: str, points: int, predictors: tuple[Predictor, ...]
) -> None:
    """A class for every point of the file, and images that a network can learn from."""
    classes = source.info.label_map.num_classes
    scan = source.read_scan(scan_id, with_labels=False)
    for predictor in predictors:
        (prediction,) = predictor.predict(source, [scan_id], False, True)
        assert len(scan.points) == len(prediction.scan.points) == points
        assert prediction.points.shape == prediction.raw.shape == (points,)
        assert max(prediction.points.max(), prediction.raw.max()) < classes
        assert prediction.confidence is not None
        assert prediction.confidence.shape == (points,)
        assert np.isfinite(prediction.image).all(), "an image that is not finite"
        encoded = source.encode_prediction(prediction.points)
        assert encoded.shape == (points,)
    sample = predictors[0].images.training_sample(
        scan, np.random.default_rng(0), AugmentationSettings(), 0.5
    )
    assert np.isfinite(sample["image"]).all(), "a training image that is not finite"


def _check_inside(path: Path, folder: Path) -> None:
    assert ".." not in path.parts
    assert path.is_relative_to(folder), f"{path} is not in {folder}"
