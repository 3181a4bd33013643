"""From scans to predictions: the network's precision and layout, and the pipeline around it.

    python -m tests.benchmarks.inference [--root SEMANTIC_KITTI_ROOT] [--model fidnet]
        [--parts network labels backends load pipeline segmenter gpu]
        [--width 128] [--scans 12] [--repeats 5] [--json FILE]

``network``: FIDNet at 64x512 on this CPU, one thread, random weights (they change no time).
``labels``: how many pixels get the same label, by a network of width 16 after 100 steps on
simulated scans. ``backends``: real scans of 64x2048 on one thread, by each backend; only with
--root. ``pipeline``: whole evaluations and exports of 64x2048 without and with the default threads,
with FIDNet (of width 8 on a CPU, --width on a GPU) and with a stand-in that only waits for 10 ms,
as one does for a GPU. ``segmenter``: the Python call, cloud by cloud, and ``rangeseg predict``,
which reads and writes files, against the network alone. ``load``: a new process that loads an
ONNX file, to its first label, by each backend. ``gpu``: the network at 64x2048, timed by
CUDA events. By default all that the machine can do. Both sides of a ratio take turns.
"""

from __future__ import annotations

import copy
import io
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.deploy.metadata import describe
from rangeseg.deploy.segmenter import Segmenter
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.inference import BackProjection, EvaluateSettings, Predictor
from rangeseg.engine.prediction_files import PredictionSettings, write_predictions
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.geometry.channels import CHANNELS, to_image
from rangeseg.models import ModelSettings, build_network
from rangeseg.simulation.generate import SimulationSettings, simulate_scan
from rangeseg.simulation.world import World
from rangeseg.system.device import autocast, choose_device, device_name, to_device
from tests.benchmarks.backends import backend_rows
from tests.benchmarks.first_label import first_label_rows
from tests.benchmarks.timing import (
    benchmark_parser,
    matrix_rate,
    medians,
    print_table,
    write_json,
)

CPU = torch.device("cpu")
CLASSES = SemanticKitti.info.label_map.num_classes
PARTS = ("network", "labels", "backends", "load", "pipeline", "segmenter", "gpu")
BATCH_SIZES = (1, 2, 4, 8, 16)
Row = dict[str, object]


class OneSequence(SemanticKitti):
    """A split of one sequence."""

    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {"val": ("08",)}


def make_scans(root: Path, scans: int, columns: int, different: int) -> OneSequence:
    """Simulated scans of 64 beams, of which only so many differ."""
    settings = SimulationSettings(beams=64, columns=columns)
    world = World(settings.seed, "08")
    folder = root / "sequences" / "08"
    for kind in ("velodyne", "labels"):
        (folder / kind).mkdir(parents=True)
    for frame in range(different):
        reading = simulate_scan(world, frame, settings)
        for number in range(frame, scans, different):
            reading.points.astype("<f4").tofile(folder / "velodyne" / f"{number:06}.bin")
            reading.labels.astype("<u4").tofile(folder / "labels" / f"{number:06}.label")
    return OneSequence(root)


def new_network(width: int) -> nn.Module:
    """FIDNet with random weights, the same each time."""
    torch.manual_seed(0)
    return build_network(ModelSettings(width=width), len(CHANNELS), CLASSES).eval()


class Waiting(nn.Module):
    """Keeps its caller waiting as a device does that works beside the processor."""

    SECONDS = 0.01  # a scan

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(self.SECONDS * len(image))
        return image[:, :2]


def random_images(size: int, columns: int) -> torch.Tensor:
    """As many (B,C,64,W) numbers as a batch of range images has."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, len(CHANNELS), 64, columns, generator=generator)


@torch.inference_mode()
def see(
    network: nn.Module, images: torch.Tensor, precision: str, channels_last: bool
) -> torch.Tensor:
    """Classes (B,H,W); the network lies in memory as the images will."""
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    with autocast(images.device, precision):  # type: ignore[arg-type]
        return network(images).argmax(dim=1)


def network_rows(width: int, repeats: int) -> list[Row]:
    """Plain float32 against what the engine does on this CPU."""
    plain = new_network(width)
    fast = to_device(copy.deepcopy(plain), CPU)
    images = random_images(1, 512)
    seconds = medians(
        {
            "float32, contiguous": lambda: see(plain, images, "float32", False),
            "float32, channels_last": lambda: see(fast, images, "float32", True),
            "auto, channels_last": lambda: see(fast, images, "auto", True),
        },
        repeats,
    )
    base, operations, peak = seconds["float32, contiguous"], count(plain, images), matrix_rate(CPU)
    return [
        {"network": f"FIDNet {width}, 64x512, {way}", "ms": 1e3 * value, "ratio": base / value,
         "share of the matrix rate": operations / value / peak}
        for way, value in seconds.items()
    ]  # fmt: skip


def count(network: nn.Module, images: torch.Tensor) -> int:
    """Operations of a forward."""
    with FlopCounterMode(display=False) as counter:
        see(network, images, "float32", False)
    return counter.get_total_flops()


def label_rows(root: Path) -> list[Row]:
    """Labels of pixels in plain float32 and as the engine runs, by a small network."""
    source = make_scans(root, 12, 512, different=12)
    images = RangeImages(source.info, RangeImageSettings(height=64, width=512, rows="inclination"))
    samples = []
    for scan_id in source.scan_ids("val"):
        scan = source.read_scan(scan_id)
        projection, _ = images.project(scan)
        assert scan.labels is not None
        labels = to_image(scan.labels, projection.point_index, IGNORE)
        samples.append((images.image(scan.points, projection), labels))
    network = train_briefly(new_network(16), samples[:8], 100)
    fast = to_device(copy.deepcopy(network), CPU)
    same, right, pixels = 0, 0, 0
    for image, labels in samples[8:]:
        batch = torch.from_numpy(image)[None]
        plain = see(network, batch, "float32", False)[0].numpy()
        other = see(fast, batch, "auto", True)[0].numpy()
        known = labels != IGNORE
        same += int((plain == other)[known].sum())
        right += int((plain == labels)[known].sum())
        pixels += int(known.sum())
    return [
        {"labels": "FIDNet 16 after 100 steps, 4 other scans of 64x512", "pixels": pixels,
         "right %": 100 * right / pixels, "same label %": f"{100 * same / pixels:.2f}"}
    ]  # fmt: skip


def train_briefly(
    network: nn.Module, samples: list[tuple[np.ndarray, np.ndarray]], steps: int
) -> nn.Module:
    """A network that knows the common classes."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    network.train()
    for step in range(steps):
        chosen = [samples[(2 * step + i) % len(samples)] for i in range(2)]
        images = torch.from_numpy(np.stack([image for image, _ in chosen]))
        labels = torch.from_numpy(np.stack([label for _, label in chosen])).long()
        loss = nn.functional.cross_entropy(network(images), labels, ignore_index=IGNORE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def pipeline_rows(root: Path, scans: int, width: int, repeats: int) -> list[Row]:
    """Scans a second, without threads and with the default."""
    source = make_scans(root, scans, 2048, different=3)
    networks = {"a wait of 10 ms": Waiting(), f"FIDNet {width}": new_network(width)}
    works: list[tuple[str, BackProjection]] = [
        ("evaluate", "nearest_point"), ("evaluate", "knn_vote"), ("predict", "nearest_point"),
    ]  # fmt: skip
    threads = EvaluateSettings().threads
    rows: list[Row] = []
    for (network_name, network), (name, way) in itertools.product(networks.items(), works):
        calls: dict[str, Callable[[], object]] = {}
        for number in (0, threads):
            predictor = predictor_of(source, network, way, number)
            out = root / network_name / str(number)
            calls[str(number)] = (
                partial(evaluate, predictor, source, "val")
                if name == "evaluate"
                else partial(export, predictor, source, out)
            )
        with redirect_stderr(io.StringIO()):
            seconds = medians(calls, repeats, time.perf_counter)
        rows.append(
            {"pipeline": f"{name}, {network_name}, {way}",
             "scans/s without threads": scans / seconds["0"],
             f"scans/s with {threads}": scans / seconds[str(threads)],
             "ratio": seconds["0"] / seconds[str(threads)]}
        )  # fmt: skip
    return rows


def predictor_of(
    source: OneSequence, network: nn.Module, way: BackProjection, threads: int
) -> Predictor:
    """As the commands make it, of 64x2048."""
    images = RangeImages(source.info, RangeImageSettings(height=64, width=2048))
    settings = EvaluateSettings(back_projection=way, threads=threads)
    backend = TorchBackend(network, choose_device("auto"), "auto")
    return Predictor(backend, images, settings, CLASSES)


def export(predictor: Predictor, source: OneSequence, out: Path) -> None:
    """All files anew."""
    for file in out.rglob("*.label"):
        file.unlink()
    write_predictions(predictor, source, PredictionSettings(split="val"), out, {}, resume=True)


def segmenter_rows(root: Path, scans: int, width: int, repeats: int) -> list[Row]:
    """Seconds a scan by the call and by the command, of the same network."""
    source = make_scans(root, scans, 2048, different=min(scans, 3))
    predictor = predictor_of(source, new_network(width), "nearest_point", 2)
    metadata = describe(source, predictor.images, predictor.settings)
    segmenter = Segmenter(metadata, predictor)
    read = [source.read_scan(i, with_labels=False) for i in source.scan_ids("val")]
    clouds = [scan.points for scan in read]
    images = [predictor.images.image(s.points, predictor.images.project(s)[0]) for s in read]
    calls: dict[str, Callable[[], object]] = {
        "the network alone": lambda: [predictor.backend.classify([x], False) for x in images],
        "rangeseg predict": partial(export, predictor, source, root / "out"),
        "segmenter.predict(cloud)": lambda: [segmenter.predict(cloud) for cloud in clouds],
        "segmenter.predict(clouds)": lambda: segmenter.predict(clouds),
    }
    with redirect_stderr(io.StringIO()):
        seconds = medians(calls, repeats, time.perf_counter)
    base = seconds["the network alone"]
    return [
        {"segmenter": f"FIDNet {width}, 64x2048, {name}", "ms/scan": 1e3 * value / scans,
         "ratio": value / base}
        for name, value in seconds.items()
    ]  # fmt: skip


def load_rows(root: Path, width: int, repeats: int) -> list[Row]:
    """Seconds to the first label of a file; FIDNet on a simulated scan of 64x2048."""
    source = make_scans(root, 1, 2048, different=1)
    images = RangeImages(source.info, RangeImageSettings(height=64, width=2048))
    return first_label_rows(root, source, images, new_network(width), repeats)


def gpu_rows(width: int, repeats: int) -> list[Row]:
    """FIDNet of 64x2048 on the GPU, by batch size, and compiled."""
    device = choose_device("cuda")  # which also sets TF32 and cuDNN's search, for both sides
    plain = new_network(width).to(device)
    fast = to_device(copy.deepcopy(plain), device)
    batches = {size: random_images(size, 2048).to(device) for size in BATCH_SIZES}
    calls: dict[str, Callable[[], object]] = {
        "float32, contiguous, batch 1": lambda: see(plain, batches[1], "float32", False)
    }
    sizes = {"float32, contiguous, batch 1": 1}
    for size, images in batches.items():
        name = f"bfloat16, channels_last, batch {size}"
        sizes[name] = size
        calls[name] = lambda images=images: see(fast, images, "bfloat16", True)
    rates = {n: sizes[n] / s for n, s in device_medians(calls, repeats).items()}
    best = max(sizes[n] for n in rates if rates[n] == max(rates.values()))
    compiled = torch.compile(fast, dynamic=False)
    for size in sorted({1, best}):
        name = f"bfloat16, channels_last, compiled, batch {size}"
        call = {name: lambda size=size: see(compiled, batches[size], "bfloat16", True)}
        rates[name] = size / device_medians(call, repeats)[name]
    base = rates["float32, contiguous, batch 1"]
    operations, peak = count(plain, batches[1]), matrix_rate(device)
    return [
        {"gpu": f"FIDNet {width}, 64x2048, {name}", "scans/s": rate, "ratio": rate / base,
         "share of the matrix rate": operations * rate / peak}
        for name, rate in rates.items()
    ]  # fmt: skip


def device_medians(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of the device between two events; the functions take turns."""
    for function in functions.values():
        for _ in range(3):  # chooses kernels, compiles
            function()
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end) / 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """A table for each part."""
    parser = benchmark_parser("inference", "Networks and the pipeline around them.", repeats=5)
    has_gpu = torch.cuda.is_available()
    there = [p for p in PARTS if p != "backends" and (has_gpu or p != "gpu")]
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=there, help="which tables")
    parser.add_argument("--root", type=Path, help="of SemanticKITTI, for `backends`")
    parser.add_argument("--model", default="fidnet", help="of `backends` (default fidnet)")
    parser.add_argument("--steps", type=int, default=60, help="of its training (default 60)")
    parser.add_argument("--width", type=int, default=128, help="of the network (default 128)")
    parser.add_argument("--scans", type=int, default=12, help="of the pipeline (default 12)")
    arguments = parser.parse_args()
    if "backends" in arguments.parts and arguments.root is None:
        parser.error("part backends needs --root")
    width, repeats, threads = arguments.width, arguments.repeats, torch.get_num_threads()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tables: dict[str, Callable[[], list[Row]]] = {
            "network": lambda: network_rows(width, repeats),
            "labels": lambda: label_rows(root / "labels"),
            "backends": lambda: backend_rows(
                arguments.root, arguments.model, width, arguments.steps, repeats
            ),
            "load": lambda: load_rows(root / "load", width, repeats),
            "pipeline": lambda: pipeline_rows(
                root / "pipeline", arguments.scans, width if has_gpu else 8, repeats
            ),
            "segmenter": lambda: segmenter_rows(
                root / "segmenter", arguments.scans, width, repeats
            ),
            "gpu": lambda: gpu_rows(width, repeats),
        }
        for part in arguments.parts:
            torch.set_num_threads(1 if part in ("network", "backends") else threads)
            rows = tables[part]()
            device = choose_device("auto" if part in ("pipeline", "segmenter", "gpu") else "cpu")
            print(f"\n{device_name(device)}, {torch.get_num_threads()} threads of PyTorch")
            print_table(rows)
            found += rows
    write_json(arguments.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
