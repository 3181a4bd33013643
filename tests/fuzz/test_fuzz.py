"""Whatever a file holds: it works, or ends in one of our errors that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from rangeseg.datasets.split_files import check_split, read_split
from rangeseg.engine.checkpoint import Identity, fitting, load_checkpoint, save_checkpoint
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.engine.optimiser import Optimiser
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.methods import METHODS
from rangeseg.runs.config import RunConfig, RunSettings, load_config, load_run_config
from rangeseg.simulation.generate import STAMP, SimulationSettings, read_stamp
from tests.datasets import own_scans
from tests.datasets.formats.files import FORMATS
from tests.fuzz import inputs
from tests.methods.conftest import make_task, three_layers

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = torch.device("cpu")
TOKENS = [f"{number:032x}" for number in range(2)]
POINTS, BEAMS = own_scans.turn(order="firings")

Target = tuple[Path, inputs.Bytes, Callable[[], object]]
"""A file, what may stand in it, and what reads it and asserts that the outcome is right."""


class Flat(torch.nn.Module):
    """Logits without weights: a class per pixel that depends on the image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.sum(dim=1, keepdim=True) * torch.linspace(-1, 1, 20)[:, None, None]


def check_scan(source: ScanSource, scan_id: str, points: int) -> None:
    """A class for every point of the file, and images that a network can learn from."""
    size = RangeImageSettings(height=own_scans.BEAMS, width=64, rows="inclination")
    images = RangeImages(source.info, size)
    scan = source.read_scan(scan_id, with_labels=False)
    for way in ("nearest_point", "nearest_label", "knn_vote", "none"):
        how = EvaluateSettings(back_projection=way)
        predictor = Predictor(TorchBackend(Flat(), CPU, "float32"), images, how, 20)
        (found,) = predictor.predict(source, [scan_id], False, True)
        assert found.points.shape == found.raw.shape == (points,) == scan.points.shape[:1]
        assert found.confidence is not None
        assert found.confidence.shape == (points,)
        assert np.isfinite(found.image).all()
    rng = np.random.default_rng(0)
    sample = images.training_sample(scan, rng, AugmentationSettings(), 0.5)
    assert np.isfinite(sample["image"]).all()


def check_labels(source: ScanSource, scan_id: str) -> None:
    """A training class, or none, for each point."""
    scan = source.read_scan(scan_id)
    assert scan.labels is not None
    assert scan.labels.shape == (len(scan.points),)
    assert np.isin(scan.labels, [*source.info.label_map.raw_to_train.values(), IGNORE]).all()


def kitti(root: Path) -> tuple[SemanticKitti, str, np.ndarray, list[int]]:
    """A data set, a scan whose points are there, its values and the raw ids of its labels."""
    source = SemanticKitti(root)
    for path in source.paths("00/000000"):
        path.parent.mkdir(parents=True)
    POINTS.tofile(source.paths("00/000000")[0])
    return source, "00/000000", POINTS, sorted(source.info.label_map.raw_to_train)


def nuscenes(root: Path) -> tuple[NuScenes, str, np.ndarray, list[int]]:
    """As :func:`kitti`; its index lists two scans."""
    for folder in ("points", "labels"):
        (root / folder).mkdir(parents=True)
    scans = [[token, token, f"points/{token}", f"labels/{token}", 0] for token in TOKENS]
    scenes = {
        "scene-0061": {"split": "mini_train", "scans": scans[:1]},
        "scene-0103": {"split": "mini_val", "scans": scans[1:]},
    }
    index = {"format": FORMAT, "version": "v1.0-mini", "data": None, "scenes": scenes}
    index_path(root, "v1.0-mini").write_text(json.dumps(index))
    values = np.column_stack([POINTS, 31 - BEAMS]).astype("<f4")
    values.tofile(root / scans[0][2])
    return NuScenes(root), TOKENS[0], values, list(range(32))


def points_of(source: Any, scan_id: str, values: np.ndarray, _: object) -> Target:
    path, size = source.paths(scan_id)[0], 4 * values.shape[1]

    def read() -> None:
        check_scan(source, scan_id, path.stat().st_size // size)

    return path, inputs.scans(values), read


def labels_of(source: Any, scan_id: str, values: np.ndarray, ids: list[int]) -> Target:
    valid = np.resize(ids, len(values)).astype("<u4" if isinstance(source, SemanticKitti) else "u1")
    contents = inputs.damaged(valid.tobytes()) | inputs.arbitrary()
    return source.paths(scan_id)[1], contents, lambda: check_labels(source, scan_id)


def nuscenes_index(root: Path) -> Target:
    nuscenes(root)
    path = index_path(root, "v1.0-mini")

    def read() -> None:
        source = NuScenes(root)
        for token in source.scan_ids("train") + source.scan_ids("val"):
            files = *source.paths(token), source.prediction_file(token, "val")
            assert not [file for file in files if file and ".." in Path(file).parts]

    return path, inputs.json_files(json.loads(path.read_text())), read


def npy_points(root: Path) -> Target:
    layout = {"points_suffix": ".npy", "intensity_max": 255}
    source = Custom(root, Description.model_validate(own_scans.DESCRIPTION | {"layout": layout}))
    path = own_scans.write_points(root, "01/000000", POINTS[:300], ".npy")

    def read() -> None:
        check_scan(source, "01/000000", source.check_files("01/000000", False))

    return path, inputs.damaged(path.read_bytes()) | inputs.arbitrary(), read


def named_points(root: Path, name: str) -> Target:
    """A scan in one of the formats whose fields have names."""
    suffix, write = FORMATS[name]
    layout = {"points_suffix": suffix}
    source = Custom(root, Description.model_validate(own_scans.DESCRIPTION | {"layout": layout}))
    path = source.paths("01/000000")[0]
    path.parent.mkdir(parents=True)
    write(path, POINTS[:300], BEAMS[:300].astype(np.uint16))

    def read() -> None:
        check_scan(source, "01/000000", source.check_files("01/000000", False))

    return path, inputs.damaged(path.read_bytes()) | inputs.arbitrary(), read


def packed(root: Path) -> Target:
    description = Description.model_validate(own_scans.DESCRIPTION)
    own_scans.write_root(root / "scans", scans=1)
    pack_dataset(Custom(root / "scans", description), "custom", root / "mine.pack")

    def read() -> None:
        source = open_dataset("custom", root / "mine.pack", description)
        for scan_id in source.scan_ids("train"):
            check_scan(source, scan_id, source.check_files(scan_id, True))
            check_labels(source, scan_id)

    valid = (root / "mine.pack").read_bytes()
    return root / "mine.pack", inputs.damaged(valid) | inputs.arbitrary(), read


def split_list(root: Path) -> Target:
    source = SemanticKitti(root)
    valid = [f"{sequence}/000000" for sequence in SemanticKitti.SPLITS["train"]]
    for scan_id in valid:
        path = source.paths(scan_id)[0]
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(16))

    def read() -> None:
        listed = read_split(root / "list.txt")
        check_split(listed, source, root / "list.txt")
        assert set() < set(listed) <= set(valid)

    return root / "list.txt", inputs.lists(valid[:6]), read


def configuration(root: Path) -> Target:
    again = root / "again.yaml"

    def read() -> None:
        found = load_config(root / "config.yaml")
        again.write_text(found.resolved(), encoding="utf-8")
        assert load_config(again).resolved() == found.resolved()

    shipped = [inputs.yaml_files(file.read_text()) for file in sorted(CONFIGS.glob("*.yaml"))]
    return root / "config.yaml", st.one_of(*shipped, inputs.arbitrary()), read


def configuration_of_a_run(root: Path) -> Target:
    config = load_config(CONFIGS / "simulated.yaml")
    asked = {"run": RunSettings(method="cps", labels="10%", seed=0)}
    valid = RunConfig.model_validate(config.model_dump() | asked).resolved()
    path = root / "config.yaml"
    return path, inputs.yaml_files(valid), lambda: load_run_config(path).of_the_weights()


def simulation_stamp(root: Path) -> Target:
    valid = {"version": 1, "settings": SimulationSettings().model_dump(), "complete": True}

    def read() -> None:
        assert 4 <= Simulated(root).info.sensor.beams <= 64
        read_stamp(root)

    return root / STAMP, inputs.json_files(valid), read


def checkpoint(root: Path) -> Target:
    path = root / "last.pt"
    torch.manual_seed(0)
    method = METHODS["supervised"](three_layers, make_task(), METHODS["supervised"].Settings())
    identity = Identity("supervised", ("a", "b", "c", "d"), "0" * 64, {"model.width": 4})

    def step(optimiser: Optimiser) -> Optimiser:
        for parameter in method.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        return optimiser

    def read() -> None:
        assert load_checkpoint(path, identity, method, CPU)[0] == 1
        optimiser = Optimiser(method, 4, 1e-3, 1e-2, 0.3, 1.0)
        with fitting(path):
            optimiser.load_state_dict(load_checkpoint(path, identity, method, CPU)[1])
        assert step(optimiser).state_dict()["step"] == 2

    start = step(Optimiser(method, 4, 1e-3, 1e-2, 0.3, 1.0)).state_dict()
    save_checkpoint(path, identity, 1, method, start)
    return path, inputs.checkpoints(path.read_bytes()), read


TARGETS: dict[str, Callable[[Path], Target]] = {
    "kitti points": lambda root: points_of(*kitti(root)),
    "kitti labels": lambda root: labels_of(*kitti(root)),
    "nuscenes points": lambda root: points_of(*nuscenes(root)),
    "nuscenes labels": lambda root: labels_of(*nuscenes(root)),
    "nuscenes index": nuscenes_index,
    "npy points": npy_points,
    **{
        f"{name} points": partial(named_points, name=name)
        for name in list(FORMATS)[2:]
        if name != "laz"  # a damaged one can hang lazrs
    },
    "packed": packed,
    "split list": split_list,
    "configuration": configuration,
    "configuration of a run": configuration_of_a_run,
    "simulation stamp": simulation_stamp,
    "checkpoint": checkpoint,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_it_works_or_is_refused(name: str, tmp_path: Path) -> None:
    path, contents, read = TARGETS[name](tmp_path)

    # The same examples every time.
    @settings(
        max_examples=100, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(contents)
    def try_out(content: bytes) -> None:
        path.write_bytes(content)
        message = str(path)
        try:
            read()
        except RangesegError as error:
            message = str(error)
        assert str(path) in message
        assert len(message) < 20_000

    try_out()
