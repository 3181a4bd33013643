"""Every network as ONNX, and the check that a file has to pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from torch import nn

from rangeseg.cli import main
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.simulated import Simulated
from rangeseg.deploy.backends import OpenVino
from rangeseg.deploy.check import Agreement, compare, require
from rangeseg.deploy.load import read_metadata
from rangeseg.deploy.metadata import describe
from rangeseg.deploy.write import to_onnx
from rangeseg.engine.inference import EvaluateSettings, Prepared, prepare
from rangeseg.errors import DataError
from rangeseg.methods import METHODS
from rangeseg.methods.cps import Average
from rangeseg.models.network import Network
from tests.methods.conftest import make_method, small_fidnet
from tests.models.test_prediction import pair, trained

Capture = pytest.CaptureFixture[str]


def images_of(source: Simulated, layers: int = 1) -> RangeImages:
    """Of as many channels as the small networks have."""
    values = {"height": 32, "width": 64, "channels": ("range", "z", "valid"), "layers": layers}
    return RangeImages(source.info, RangeImageSettings.model_validate(values))


def scans_of(source: Simulated, layers: int = 1) -> list[Prepared]:
    images = images_of(source, layers)
    scans = [prepare(images, source, False, scan_id) for scan_id in source.scan_ids("val")]
    return [scan for scan in scans if isinstance(scan, Prepared)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: trained("cenet"),
        lambda: pair("fidnet", True),
        lambda: trained("fidnet", False),
        lambda: trained("cenet", False, align_corners=True),
        lambda: trained("frnet", layers=3),
    ],
    ids=["cenet", "a pair", "not all around", "as published", "layers"],
)
def test_every_network_passes_its_check(
    make: Callable[[], nn.Module], simulated_root: Path
) -> None:
    source, network = Simulated(simulated_root), make().eval()
    layers = getattr(network, "layers", 1)
    scans, images = scans_of(source, layers), images_of(source, layers)
    for half in (False, True):
        metadata = describe(source, images, EvaluateSettings(tta=2), half=half)
        assert metadata.evaluate.tta == 1
        content = to_onnx(network, metadata)
        agreement = compare(content, network, scans)
        assert agreement.scans == len(scans)
        if not half:
            require(agreement, half)
        assert agreement.labels > 0.95  # an untrained network's labels are nearly ties
        assert agreement.logits < (0.1 if half else 1e-4)
        logits = OpenVino(content).logits(scans[0].image[None])
        assert logits.shape == (1, 5, *scans[0].image.shape[1:])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_predicts_with_networks_that_are_exported(name: str) -> None:
    predictor = make_method(name, small_fidnet).predictor()
    parts = predictor.children() if isinstance(predictor, Average) else [predictor]
    assert all(isinstance(part, Network) for part in parts)


def test_a_file_has_no_trace_of_this_machine(exported: Path) -> None:
    assert str(Path.cwd()).encode() not in exported.read_bytes()
    model = onnx.load(str(exported))
    onnx.checker.check_model(model)
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (image, logits)
    ]
    classes = Simulated.info.label_map.num_classes
    assert shapes == [["batch", 8, 32, 256], ["batch", classes, 32, 256]]


def test_a_file_that_disagrees_is_not_kept(
    exported: Path, trained_run: Path, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = onnx.load(str(exported))
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    wrong = onnx.numpy_helper.to_array(weights) * -1
    weights.CopyFrom(onnx.numpy_helper.from_array(wrong, weights.name))
    monkeypatch.setattr("rangeseg.runs.export.to_onnx", lambda *_: model.SerializeToString())
    out = tmp_path / "net.onnx"
    assert main(["export", str(trained_run), "--out", str(out)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the file was not kept: ")
    assert "% of the labels are those of float32 PyTorch, logits differ by" in line
    assert not list(tmp_path.iterdir())


def test_what_must_agree() -> None:
    require(Agreement(0.9995, 9e-4, 4), half=False)
    require(Agreement(0.991, 0.2, 4), half=True)
    for labels, logits in [(0.9985, 0.0), (1.0, 2e-3), (1.0, float("nan"))]:
        with pytest.raises(DataError, match=r"at least 99.9 % of the labels, and logits within"):
            require(Agreement(labels, logits, 4), half=False)
    with pytest.raises(DataError, match=r"98.200 % .* \(4 scans\), needed are .*without --half"):
        require(Agreement(0.982, 0.0, 4), half=True)


@pytest.mark.slow
def test_half_where_it_loses_labels(simulated_root: Path) -> None:
    source, network = Simulated(simulated_root), trained("fidnet").eval()
    first, second, *_ = (m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    for parameter in (first.weight, first.bias):
        parameter.data *= 1e6  # float16 ends at 65,504
    second.running_mean *= 1e6  # type: ignore[operator]
    second.running_var *= 1e12  # type: ignore[operator]
    metadata = describe(source, images_of(source), EvaluateSettings(), half=True)
    agreement = compare(to_onnx(network, metadata), network, scans_of(source))
    assert agreement.logits == float("inf")
    with pytest.raises(DataError, match="export without --half"):
        require(agreement, half=True)


def test_the_command(exported: Path, trained_run: Path, capsys: Capture) -> None:
    assert main(["export", str(trained_run), "--out", str(exported)]) == 2
    assert f"error: {exported} exists: choose another --out" in capsys.readouterr().err
    metadata = read_metadata(exported, exported.read_bytes())
    assert (metadata.half, metadata.run["steps"]) == (False, 6)
