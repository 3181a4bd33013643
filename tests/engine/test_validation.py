"""Validation during the training: right figures, and no trace in what is trained."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rangeseg.cli import main
from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.simulated import Simulated
from rangeseg.drawing.curves import CURVES
from rangeseg.engine.metrics_log import read_metrics
from rangeseg.engine.validation import Validated, Validation, scans_to_validate
from rangeseg.runs.trained import load_network, load_run

from ..runs.fingerprint import difference, fingerprint

CPU = torch.device("cpu")


def train(words: list[str], out: Path, *more: str, method: str = "cutmix_seg") -> int:
    sets = [word for each in more for word in (("--set", each) if "=" in each else (each,))]
    base = ["train", *words, "--method", method, "--labels", "10%", "--out", str(out)]
    return main([*base, *sets])


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


@pytest.fixture(scope="module")
def run(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps without validation."""
    out = tmp_path_factory.mktemp("validated") / "run"
    settings = [
        f"dataset.root={simulated_root}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=5", "train.batch_size=2", "train.validate_every=0",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    words = [str(config), *[word for s in settings for word in ("--set", s)]]
    assert train(words, out) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cps", "pcr"])
def test_it_changes_nothing(tiny_config: list[str], tmp_path: Path, method: str) -> None:
    """The mean of two networks, and a teacher with prototypes."""
    without, validated = tmp_path / "without", tmp_path / "with"
    assert train(tiny_config, without, "train.validate_every=0", method=method) == 0
    settings = ["train.validate_every=2", "train.validate_scans=2"]
    assert train(tiny_config, validated, *settings, method=method) == 0
    a, b = fingerprint(without), fingerprint(validated)
    assert a["last.pt"] == b["last.pt"]
    for key in ("miou", "iou", "scans", "skipped_scans"):
        assert result_of(without)[key] == result_of(validated)[key]
    assert result_of(without)["run"]["fingerprint"] == result_of(validated)["run"]["fingerprint"]
    lines = read_metrics(validated)
    assert [line["loss"] for line in lines] == [line["loss"] for line in read_metrics(without)]
    assert [line["step"] for line in lines if "val_miou" in line] == [2, 4]  # not after the last
    assert [line["step"] for line in lines if "val_iou" in line] == [2, 4]
    assert not [line for line in read_metrics(without) if "val_miou" in line]


def test_its_figures_are_those_of_the_evaluation(run: Path) -> None:
    experiment, network = load_network(run, CPU)
    source, predictor = experiment.source, experiment.predictor(network, CPU)
    ids = scans_to_validate(source, 20)
    assert ids == source.scan_ids("val")
    validation = Validation(source, ids, BadScans("fail", 3), lambda: predictor, None, print)
    found = validation.run(network)  # type: ignore[arg-type]
    result = result_of(run)
    assert found.miou == result["miou"]["point"]
    assert found.iou == result["iou"]
    assert found.picture is None


def test_a_picture_is_drawn_of_the_first_scan(run: Path) -> None:
    experiment, network = load_network(run, CPU)
    source, predictor = experiment.source, experiment.predictor(network, CPU)
    ids, seen = source.scan_ids("val"), []

    def draw(prediction: Any) -> np.ndarray:
        seen.append(prediction.scan.scan_id)
        return np.zeros((2, 3, 3), np.uint8)

    validation = Validation(source, ids, BadScans("fail", 3), lambda: predictor, draw, print)
    found = validation.run(network)  # type: ignore[arg-type]
    assert seen == ids[:1]
    assert found.picture is not None


class Rolling(nn.Module):
    """A network that draws from PyTorch's own generator, and says so by its mode and its norm."""

    was_training: ClassVar[list[bool]] = []  # of its copies too

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        self.frozen = nn.BatchNorm2d(8).eval()

    def forward(self, image: Tensor) -> Tensor:
        self.was_training.extend(module.training for module in self.modules())
        classes = torch.rand(len(image), 19, *image.shape[2:])
        return classes + self.frozen(self.norm(image))[:, :1]


def test_modes_statistics_and_generators_stay(run: Path) -> None:
    experiment, _ = load_network(run, CPU)
    source = experiment.source
    method = Rolling().train()
    method.frozen.eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    state = torch.random.get_rng_state()

    def make() -> Any:
        return experiment.predictor(method, CPU)

    ids = source.scan_ids("val")
    Validation(source, ids, BadScans("fail", 3), make, None, print).run(method)  # type: ignore[arg-type]
    assert method.was_training
    assert not any(method.was_training)
    assert method.training
    assert method.norm.training
    assert not method.frozen.training
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("count", "places"), [(1, [1]), (2, [0, 2]), (3, [0, 1, 2])])
def test_scans_are_spaced_evenly(simulated_root: Path, count: int, places: list[int]) -> None:
    source = Simulated(simulated_root)
    ids = source.scan_ids("val")
    assert scans_to_validate(source, count) == [ids[place] for place in places]
    assert scans_to_validate(source, 50) == ids
    train_ids = source.scan_ids("train")
    source.labelled_ids = lambda split: train_ids  # type: ignore[method-assign]
    assert scans_to_validate(source, 4) == [train_ids[place] for place in (2, 7, 12, 17)]


def test_a_split_without_labels_is_not_validated(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path
) -> None:
    """Where the test split is evaluated, val may have none."""
    root = tmp_path / "data"
    shutil.copytree(simulated_root, root)
    shutil.rmtree(root / "sequences" / "08" / "labels")
    settings = [f"dataset.root={root}", "train.validate_every=2", "evaluate.split=test"]
    assert train(tiny_config, tmp_path / "run", *settings) == 0
    assert not [line for line in read_metrics(tmp_path / "run") if "val_miou" in line]


@pytest.mark.slow
def test_a_signal_during_a_validation_is_heard_and_the_resumed_run_is_the_same(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = [*tiny_config, "--set", "train.validate_every=2", "--set", "train.save_every=50"]
    assert train(config, tmp_path / "whole") == 0
    stopped, validate = tmp_path / "stopped", Validation.run

    def run_and_stop(self: Validation, method: Any) -> Validated:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, method)

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "run", run_and_stop)
        assert train(config, stopped) == 143
    assert torch.load(stopped / "last.pt", weights_only=True)["step"] == 2
    assert [line["step"] for line in read_metrics(stopped)] == [1, 2]
    assert (stopped / CURVES).is_file()  # one can look while it runs
    assert train(config, stopped, "--resume") == 0
    assert difference(tmp_path / "whole", stopped) == ""


@pytest.mark.slow
def test_a_bad_scan_is_treated_as_in_the_evaluation(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(simulated_root, root)
    path = root / "sequences" / "08" / "velodyne" / "000000.bin"
    path.write_bytes(path.read_bytes()[:-5])
    config = [*tiny_config, "--set", f"dataset.root={root}", "--set", "train.validate_every=2"]
    assert train(config, tmp_path / "run") == 3
    assert "08/velodyne/000000.bin" in capsys.readouterr().err
    words = ["dataset.on_bad_scan=skip", "--resume"]
    assert train(config, tmp_path / "run", *words) == 0
    result = result_of(tmp_path / "run")
    assert list(result["skipped_scans"]) == ["08/000000"]
    assert result["scans"] == 2
    assert result["run"]["skipped_scans"] == {}
    assert len([line for line in read_metrics(tmp_path / "run") if "val_miou" in line]) == 2


def test_its_settings_are_not_those_of_the_weights(run: Path) -> None:
    config = load_run(run, CPU)[0].config
    assert not [key for key in config.of_the_weights() if key.startswith("train.validate_")]


def in_one_of_two(number: int, folder: str, run: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=number, world_size=2
    )
    experiment, network = load_network(Path(run), CPU)
    source, predictor = experiment.source, experiment.predictor(network, CPU)
    read: list[str] = []
    predict = predictor.predict

    def remember(source: Any, scan_ids: list[str], **more: Any) -> Iterator[Any]:
        read.extend(scan_ids)
        return predict(source, scan_ids, **more)

    predictor.predict = remember  # type: ignore[method-assign]
    ids = source.scan_ids("val")
    validation = Validation(source, ids, BadScans("fail", 3), lambda: predictor, None, print)
    found = validation.run(network)  # type: ignore[arg-type]
    Path(folder, f"{number}.json").write_text(json.dumps([found.miou, found.iou, read]))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_processes_share_the_scans_and_agree(run: Path, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_one_of_two, (str(tmp_path), str(run)), nprocs=2)
    found = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)]
    result = result_of(run)
    assert found[0][:2] == found[1][:2] == [result["miou"]["point"], result["iou"]]
    assert sorted(found[0][2] + found[1][2]) == ["08/000000", "08/000001", "08/000002"]
    assert len(found[0][2]) == 2
