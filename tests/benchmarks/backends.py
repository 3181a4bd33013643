"""What runs a network on one thread of this processor: PyTorch as before, as now, and the others.

Part ``backends`` of ``tests.benchmarks.inference``. FIDNet learns real scans for a few steps, so
that its labels mean something; then it labels whole scans of 64x2048.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.deploy.convert import make_backend
from rangeseg.engine.inference import Backend
from rangeseg.geometry.channels import CHANNELS, to_image
from rangeseg.models import ModelSettings, build_network
from rangeseg.system.device import autocast, to_device
from tests.benchmarks.timing import medians

CPU = torch.device("cpu")
SHAPE = (len(CHANNELS), 64, 2048)
CROP = 256  # columns of a training
BEFORE = "torch, batch norms apart, autocast"
Row = dict[str, object]
Sample = tuple[np.ndarray, np.ndarray]


def backend_rows(root: Path, name: str, width: int, steps: int, repeats: int) -> list[Row]:
    """Times of a real scan, and how many labels of a few are those of float32.

    Args:
        root: a SemanticKITTI folder, a few scans of each sequence are enough.
        name: of the network.
        width: of the network.
        steps: of its training.
        repeats: of the timing.
    """
    source = SemanticKitti(root)
    network = _trained(source, ModelSettings(name=name, width=width), steps)
    samples = [_sample(source, scan_id) for scan_id in source.scan_ids("val")[:3]]
    plain = to_device(network, CPU)
    see: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "torch, batch norms apart, float32": partial(_eager, plain, "float32"),
        BEFORE: partial(_eager, plain, "auto"),
    }
    for kind, precision in [
        ("torch", "float32"), ("torch", "auto"), ("onnxruntime", "float32"),
        ("openvino", "float32"), ("openvino", "auto"),
    ]:  # fmt: skip
        backend = make_backend(kind, network, SHAPE, CPU, precision)  # type: ignore[arg-type]
        see[f"{kind}, {precision}"] = partial(_classes, backend)
    labels = {way: [function(image) for image, _ in samples] for way, function in see.items()}
    calls = {way: partial(function, samples[0][0]) for way, function in see.items()}
    seconds = medians(calls, repeats, clock=time.process_time)  # threads of libraries count too
    exact = labels["torch, batch norms apart, float32"]
    return [
        {"backend": f"{name} {width}, {way}", "ms": 1e3 * seconds[way],
         "ratio": seconds[BEFORE] / seconds[way],
         "labels of float32 %": f"{100 * _same(labels[way], exact, samples):.2f}"}
        for way in see
    ]  # fmt: skip


def _sample(source: SemanticKitti, scan_id: str) -> Sample:
    """The image of a scan, and its labels (H,W) with IGNORE also where no point is."""
    images = RangeImages(source.info, RangeImageSettings(height=SHAPE[1], width=SHAPE[2]))
    scan = source.read_scan(scan_id)
    projection, _ = images.project(scan)
    assert scan.labels is not None
    labels = to_image(scan.labels, projection.point_index, IGNORE)
    return images.image(scan.points, projection), labels


def _trained(source: SemanticKitti, settings: ModelSettings, steps: int) -> nn.Module:
    """A network that knows the common classes, by crops of real scans."""
    torch.manual_seed(0)
    network = build_network(settings, len(CHANNELS), source.info.label_map.num_classes)
    to_device(network, CPU).train()
    samples = [_sample(source, scan_id) for scan_id in source.scan_ids("train")[:8]]
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        pair = [samples[(2 * step + i) % len(samples)] for i in range(2)]
        start = int(rng.integers(SHAPE[2] - CROP))
        images, labels = (
            torch.from_numpy(np.stack([sample[part][..., start : start + CROP] for sample in pair]))
            for part in (0, 1)
        )
        with autocast(CPU, "auto"):
            logits = network(images.to(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.inference_mode()
def _eager(network: nn.Module, precision: str, image: np.ndarray) -> np.ndarray:
    """Classes (H,W) by the network as it was trained."""
    batch = torch.from_numpy(image)[None].to(memory_format=torch.channels_last)
    with autocast(CPU, precision):  # type: ignore[arg-type]
        classes = network(batch).argmax(dim=1)
    found: np.ndarray = classes[0].to(torch.uint8).numpy()
    return found


def _classes(backend: Backend, image: np.ndarray) -> np.ndarray:
    (found,) = backend.classify([image], False)
    return found.arrays()[0]


def _same(
    labels: Sequence[np.ndarray], exact: Sequence[np.ndarray], samples: Sequence[Sample]
) -> float:
    """The share of equal labels where points with a class are."""
    found = zip(labels, exact, samples, strict=True)
    return float(np.mean(np.concatenate([(a == b)[t != IGNORE] for a, b, (_, t) in found])))
