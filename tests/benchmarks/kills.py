"""SIGKILL at random moments, then the same command again: what is lost?

    python -m tests.benchmarks.kills [--kills 30] [--seed 0]

Trainings, evaluations, exports, archives, simulations and packings of tiny size are killed, each
once, and resumed. The table says for each what differs from one that was never killed: weights,
banks, optimiser and schedule, metrics, result, every file; times are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_tools.cli import main as data_main
from rangeseg.cli import main
from rangeseg.simulation.generate import SimulationSettings, generate_dataset

CONFIG = Path(__file__).parents[2] / "configs" / "simulated.yaml"
STEPS = 12
SETTINGS = [
    "range_image.width=256", "range_image.crop_width=64", "model.width=4", "train.batch_size=2",
    f"train.steps={STEPS}", "train.log_every=2", "train.save_every=3",
    "methods.ael.ramp_start=0.2", "methods.pcr.ramp_start=0.2",
]  # fmt: skip
TRAININGS = {
    "ael, no worker": ["--method", "ael"],
    "pcr, 2 workers": ["--method", "pcr", "--set", "train.workers=2"],
}
SIMULATION = ["--train-scans", "12", "--val-scans", "2", "--test-scans", "2", "--columns", "256"]
_TIMES = ("seconds", "data_wait", "scans_per_second")  # in metrics.jsonl
_TRIES = 5
_START = "import sys; exec(f'from {sys.argv.pop(1)}.cli import main'); sys.exit(main())"


def fingerprint(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder, of what must be the same after a resume."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digests[str(path.relative_to(folder))] = hashlib.sha256(_content(path)).hexdigest()
    return digests


def _content(path: Path) -> bytes:
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        return b"".join(_flat((state["step"], state["method"], state["training"])))
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return repr([{**line, **dict.fromkeys(_TIMES)} for line in lines]).encode()
    if path.name.startswith("result"):
        result = json.loads(path.read_text())
        result["seconds"] = result["scans_per_second"] = result["run"]["train_seconds"] = None
        return json.dumps(result).encode()
    if path.name == "rangeseg_export.json":  # it names the folder of the run
        return json.dumps({**json.loads(path.read_text()), "run": None}).encode()
    if path.suffix == ".zip":  # an archive keeps the times of its files
        import zipfile

        with zipfile.ZipFile(path) as archive:
            return repr([(i.filename, i.CRC) for i in archive.infolist()]).encode()
    return path.read_bytes()


def _flat(value: Any) -> list[bytes]:
    """The leaves of nested containers, tensors bit for bit."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype).encode(), value.contiguous().view(-1).numpy().tobytes()]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (repr(key).encode(), *_flat(item))]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flat(item)]
    return [repr(value).encode()]


def difference(expected: dict[str, str], found: dict[str, str]) -> str:
    """The files that differ, are missing or are too many; empty if none."""
    names = sorted(expected.keys() | found.keys())
    return ", ".join(name for name in names if expected.get(name) != found.get(name))


@dataclass(frozen=True)
class Kill:
    """What became of one kill.

    Attributes:
        what: which command was killed.
        where: doing what.
        done: how far it was.
        differs: the files that are not as they should be after the resume.
    """

    what: str
    where: str
    done: str
    differs: str


@dataclass
class Kills:
    """The commands, what they make when nobody kills them, and the kills.

    Args:
        root: an empty folder.
        data: simulated scans; None makes them.
        trainings: names in TRAININGS.
        seed: of the moments.
    """

    root: Path
    data: Path | None = None
    trainings: list[str] = field(default_factory=lambda: list(TRAININGS))
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        if self.data is None:
            self.data = self.root / "data"
            settings = SimulationSettings(train_scans=20, val_scans=3, test_scans=4, columns=256)
            generate_dataset(self.data, settings, workers=1)
        self.whole: dict[str, Path] = {}
        self.places: list[Callable[[int], Kill]] = [
            self.training, self.checkpoint, self.evaluation, self.export, self.archive,
            self.simulation, self.packing,
        ]  # fmt: skip

    def run(self, count: int) -> list[Kill]:
        """So many kills, at one place after the other."""
        return [self.places[i % len(self.places)](i) for i in range(count)]

    def training(self, number: int) -> Kill:
        """In the middle of some step."""
        name = self.trainings[number // len(self.places) % len(self.trainings)]
        line, delay = int(self.rng.integers(0, STEPS // 2 - 1)), float(self.rng.uniform(0, 0.1))

        def moment(out: Path) -> bool:
            if _lines(out / "metrics.jsonl") <= line:
                return False
            time.sleep(delay)
            return True

        return self._train(number, name, "training", moment)

    def checkpoint(self, number: int) -> Kill:
        """While a checkpoint has its temporary name."""
        name = self.trainings[number // len(self.places) % len(self.trainings)]
        first = bool(self.rng.random() < 0.3)

        def moment(out: Path) -> bool:
            ready = first or (out / "last.pt").exists()
            return ready and (out / "last.pt.partial").exists()

        return self._train(number, name, "checkpoint", moment)

    def evaluation(self, number: int) -> Kill:
        """After the last step, before the result is there."""
        name = self.trainings[number // len(self.places) % len(self.trainings)]

        def moment(out: Path) -> bool:
            if _lines(out / "metrics.jsonl") < STEPS // 2:
                return False
            time.sleep(float(self.rng.uniform(0, 0.1)))
            return not (out / "result.json").exists()

        return self._train(number, name, "evaluation", moment)

    def export(self, number: int) -> Kill:
        """Between the files of an export."""
        files = int(self.rng.integers(0, 4))
        return self._predict(number, "export", lambda out: _labels(out) >= files and out.exists())

    def archive(self, number: int) -> Kill:
        """While the archive is packed."""

        def moment(out: Path) -> bool:
            return out.with_name(f"{out.name}.zip.partial").exists()

        return self._predict(number, "archive", moment)

    def simulation(self, number: int) -> Kill:
        """Between the files of a simulated data set."""
        files = int(self.rng.integers(1, 16))

        def command(out: Path) -> list[str]:
            return ["data_tools", "simulate", str(out), *SIMULATION, "--workers", "1"]

        def moment(out: Path) -> bool:
            return len(list(out.rglob("*.bin"))) >= files

        if "simulation" not in self.whole:
            self.whole["simulation"] = self.root / "simulation"
            _quietly(data_main, command(self.whole["simulation"])[1:])
        out = self._kill(number, command, moment)
        done = f"{len(list(out.rglob('*.bin')))} of 16 scans"
        _quietly(data_main, command(out)[1:])
        differs = difference(fingerprint(self.whole["simulation"]), fingerprint(out))
        return Kill("simulate", "simulation", done, differs)

    def packing(self, number: int) -> Kill:
        """While a pack has its temporary name."""
        size = int(self.rng.integers(0, 500_000))

        def command(out: Path) -> list[str]:
            return ["data_tools", "pack", "simulated", str(self.data), "--out", str(out)]

        def moment(out: Path) -> bool:
            return _size(out.with_name(f"{out.name}.partial")) > size

        if "pack" not in self.whole:
            self.whole["pack"] = self.root / "pack" / "data.pack"
            _quietly(data_main, command(self.whole["pack"])[1:])
        out = self._kill(number, command, moment, "data.pack")
        done = f"{_size(out.with_name(f'{out.name}.partial')) >> 10} KiB"
        if not out.exists():  # it may be killed when it has just got its name
            _quietly(data_main, command(out)[1:])
        expected = fingerprint(self.whole["pack"].parent)
        return Kill("pack", "packing", done, difference(expected, fingerprint(out.parent)))

    def _train(self, number: int, name: str, where: str, moment: Callable[[Path], bool]) -> Kill:
        def command(out: Path) -> list[str]:
            settings = [*SETTINGS, f"dataset.root={self.data}"]
            overrides = [word for s in settings for word in ("--set", s)]
            words = ["train", str(CONFIG), *overrides, *TRAININGS[name], "--labels", "10%"]
            return ["rangeseg", *words, "--out", str(out)]

        if name not in self.whole:
            self.whole[name] = self.root / f"whole {name}"
            _quietly(main, command(self.whole[name])[1:])
        if where == "whole":
            return Kill(name, where, "", "")
        out = self._kill(number, command, moment)
        done = f"{2 * _lines(out / 'metrics.jsonl')} of {STEPS} steps"
        _quietly(main, [*command(out)[1:], "--resume"])
        return Kill(name, where, done, difference(fingerprint(self.whole[name]), fingerprint(out)))

    def _predict(self, number: int, where: str, moment: Callable[[Path], bool]) -> Kill:
        name = self.trainings[0]
        self._train(number, name, "whole", lambda out: False)

        def command(out: Path) -> list[str]:
            return ["rangeseg", "predict", str(self.whole[name]), "--out", str(out), "--zip"]

        if "export" not in self.whole:
            self.whole["export"] = self.root / "export" / "files"
            _quietly(main, command(self.whole["export"])[1:])
        out = self._kill(number, command, moment, "files")
        done = f"{_labels(out)} of 4 files"
        _quietly(main, [*command(out)[1:], "--resume"])
        expected = fingerprint(self.whole["export"].parent)
        return Kill("predict", where, done, difference(expected, fingerprint(out.parent)))

    def _kill(
        self,
        number: int,
        command: Callable[[Path], list[str]],
        moment: Callable[[Path], bool],
        below: str = "",
    ) -> Path:
        """Start a command in a folder of its own and kill it at its moment."""
        for attempt in range(_TRIES):
            out = self.root / f"{number}.{attempt}" / below
            process = subprocess.Popen(
                [sys.executable, "-c", _START, *command(out)], stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            try:
                while process.poll() is None:
                    if moment(out):
                        break
                    time.sleep(0.0005)
            finally:
                # With its loader processes, as a machine that goes down would.
                killed = process.poll() is None
                if killed:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if killed:
                return out
        raise RuntimeError(f"{command(Path('OUT'))} ended {_TRIES} times before its moment came")


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _labels(out: Path) -> int:
    return len(list(out.rglob("*.label")))


def _quietly(command: Callable[[list[str]], int], words: list[str]) -> None:
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        code = command(words)
    if code != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {code}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kills = Kills(Path(folder), seed=arguments.seed)
        print(f"{'killed':<16} {'while':<12} {'done':<16} differs after the resume")
        outcomes = []
        for i in range(arguments.kills):
            outcomes.append(kills.places[i % len(kills.places)](i))
            k = outcomes[-1]
            print(f"{k.what:<16} {k.where:<12} {k.done:<16} {k.differs or 'nothing'}", flush=True)
    differing = sum(1 for kill in outcomes if kill.differs)
    print(f"\n{len(outcomes)} kills, {len(outcomes)} resumes, {differing} differences")
    sys.exit(differing > 0)
