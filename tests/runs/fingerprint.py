"""What of a folder must be the same after a resume: every file, but for the times in it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import torch

_TIMES = ("seconds", "data_wait", "scans_per_second")  # in metrics.jsonl


def fingerprint(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder; of checkpoints, of the bits of every tensor."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(_content(p)).hexdigest() for p in files}


def difference(expected: Path, found: Path) -> str:
    """The files that differ, are missing or are too many; empty if none."""
    a, b = fingerprint(expected), fingerprint(found)
    return ", ".join(name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name))


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
    if path.name == "rangeseg_predictions.json":  # it names the folder of the run
        return json.dumps({**json.loads(path.read_text()), "run": None}).encode()
    if path.suffix == ".zip":  # an archive keeps the times of its files
        with zipfile.ZipFile(path) as archive:
            return repr([(i.filename, i.CRC) for i in archive.infolist()]).encode()
    return path.read_bytes()


def _flat(value: Any) -> list[bytes]:
    """The leaves of nested containers."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype).encode(), value.contiguous().view(-1).numpy().tobytes()]
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (repr(key).encode(), *_flat(item))]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flat(item)]
    return [repr(value).encode()]
