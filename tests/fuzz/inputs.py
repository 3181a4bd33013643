"""What may stand in a file from a disk, a network or a stranger, as hypothesis strategies."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st

from rangeseg.datasets.packed.index import FOOTER, MAGIC

Bytes = st.SearchStrategy[bytes]

NUMBERS = np.array(
    [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e20, 1e-45, -0.0, 0.0, -1.0, 31.5, 256.0], dtype="<f4"
)
"""Values that are no measurement."""

WORDS = [n.tobytes() for n in NUMBERS] + [bytes(4), b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"]

NASTY: list[Any] = [
    None, True, -1, 0, 1 << 31, 10**400, 1e308, float("nan"), "", "a\x00b", "\u202e", "../escaped",
    "/etc/hostname", "x" * 5000, "1e9", [], {}, [[]], ["a"] * 1000, {"a": {"b": [1]}}, [None],
]  # fmt: skip
"""Values where another one is expected."""

YAML_TEXTS = [
    "!!python/object/apply:os.system ['exit 1']", "!!python/name:os.system", "&a [*a]",
    "2026-13-45", "0x" + "f" * 5000, "1" + ":59" * 400 + ".0", "!!int x", "[" * 3000,
    "{a: " * 3000, "- " * 3000, "{? [a] : b}", "{<<: 3}", "*nowhere", '"\\ud800"', '"\\0"', ".nan",
    "1e400", "| \n\t x", "'", "&a [x, *a, *a]", "---\n---", "x" * 300_000,
]  # fmt: skip

LINES = ["../../escaped", "/etc/passwd", "00\\1", "00/", "#", "0" * 32, "00/\x00", "\ufeff00/0"]


def arbitrary() -> Bytes:
    """Bytes that were never such a file."""
    return st.binary(max_size=400) | st.integers(0, 4000).map(bytes)


def damaged(valid: bytes) -> Bytes:
    """A file with up to three faults: cut off, or bytes changed, lost or put in."""
    places = st.integers(0, len(valid))
    lost = st.integers(0, 16) | st.just(len(valid))
    pieces = st.sampled_from(WORDS) | st.binary(max_size=16)

    def spoil(faults: list[tuple[int, int, bytes]]) -> bytes:
        content = valid
        for place, count, piece in faults:
            content = content[:place] + piece + content[place + count :]
        return content

    return st.lists(st.tuples(places, lost, pieces), min_size=1, max_size=3).map(spoil)


def scans(valid: np.ndarray) -> Bytes:
    """Damaged scans, and whole ones in which a share of the values is no measurement.

    Args:
        valid: (N, columns) float32.
    """

    def make(seed: int, points: int, share: float, number: float) -> bytes:
        values = np.resize(valid, (points, valid.shape[1])).astype("<f4")
        hit = np.random.default_rng(seed).random(values.shape) < share
        hit[:, 4:] = False  # a beam that does not exist is refused at once
        values[hit] = number
        return values.tobytes()

    counts, shares = st.sampled_from([0, 1, 32, 3000]), st.sampled_from([0.01, 0.5, 1.0])
    whole = st.builds(make, st.integers(0, 99), counts, shares, st.sampled_from(NUMBERS))
    return whole | damaged(valid[:200].astype("<f4").tobytes()) | arbitrary()


def lists(valid: list[str]) -> Bytes:
    """Lists of scans: sound lines, hostile ones and damaged ones."""
    line = st.sampled_from(valid) | st.sampled_from(LINES) | st.text(max_size=40)
    ends = st.sampled_from(["\n", "\r\n", "\x00"])
    texts = st.builds(lambda rows, end: end.join(rows), st.lists(line, max_size=8), ends)
    plain = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    return plain | damaged("\n".join(valid).encode())


def yaml_files(valid: str) -> Bytes:
    """Configurations in which a value is another one, and damaged ones."""
    rows = valid.splitlines()

    def replace(place: int, text: str) -> bytes:
        changed = f"{rows[place].partition(':')[0]}: {text}"
        text = "\n".join([*rows[:place], changed, *rows[place + 1 :]])
        return text.encode("utf-8", "surrogatepass")

    values = st.sampled_from(YAML_TEXTS) | st.text(max_size=30)
    return (
        st.builds(replace, st.integers(0, len(rows) - 1), values)
        | damaged(valid.encode())
        | trees(yaml.safe_load(valid)).map(lambda tree: yaml.safe_dump(tree).encode())
    )


def json_files(valid: Any) -> Bytes:
    """Documents in which a value is another one, and damaged ones."""
    others = st.sampled_from([b"[" * 100_000, b'"\\ud800"', b"\xff", b"NaN", b"1e999"])
    changed = trees(valid).map(lambda tree: json.dumps(tree).encode())
    return changed | damaged(json.dumps(valid).encode()) | others


def checkpoints(valid: bytes) -> Bytes:
    """Checkpoints that are damaged, whose pickle is, or whose values are others."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = next(name for name in entries if name.endswith("data.pkl"))

    def with_pickle(pickle: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for entry, content in {**entries, name: pickle}.items():
                archive.writestr(entry, content)
        return file.getvalue()

    def saved(tree: Any) -> bytes:
        file = io.BytesIO()
        torch.save(tree, file)
        return file.getvalue()

    changed = trees(torch.load(io.BytesIO(valid), weights_only=True)).map(saved)
    return damaged(valid) | damaged(entries[name]).map(with_pickle) | changed


def trees(valid: Any) -> st.SearchStrategy[Any]:
    """A tree of dicts and lists with up to three values replaced by nasty or by other values."""
    paths = list(_paths(valid, ()))
    values = st.sampled_from(NASTY) | st.sampled_from([_at(valid, path) for path in paths])

    def replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
        tree = copy.deepcopy(valid)
        for path, value in changes:
            try:
                _at(tree, path[:-1])[path[-1]] = copy.deepcopy(value)
            except (LookupError, TypeError):
                continue  # an earlier change took the place away
        return tree

    return st.lists(st.tuples(st.sampled_from(paths), values), min_size=1, max_size=3).map(replaced)


def sealed(scans: bytes, index: Any) -> bytes:
    """A pack of these bytes with an index whose checksum is right."""
    text = json.dumps(index).encode()
    digest = hashlib.sha256(text).digest()
    return scans + text + FOOTER.pack(len(scans), len(text), digest, MAGIC)


def _paths(tree: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from _paths(tree[key], (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
