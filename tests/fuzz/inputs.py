"""Inputs that a disk, a network or a stranger may hand to the toolkit."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st

from rangeseg.datasets.packed.index import FOOTER, MAGIC

Bytes = st.SearchStrategy[bytes]

WORDS = [
    np.array(value, dtype="<f4").tobytes()
    for value in (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e20, 1e-45, -0.0, 0.0, -1.0, 31.5, 256.0)
] + [bytes(4), b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80"]
"""Four bytes each: numbers that are no places, and counts that are none."""

NASTY: list[Any] = [
    None, True, -1, 0, 255, 1 << 31, 1 << 64, 10**400, 1e308, -0.5, float("nan"), float("inf"), "",
    " ", "~", "a\x00b", "\u202e", "../../../escaped", "/etc/hostname", "x" * 5000, "1e9", [], {},
    [[]], ["a"] * 1000, {"a": {"b": [1]}}, [None], "00", "2026-13-45", "!!python/name:os.system",
]  # fmt: skip
"""Values for a place where another one is expected."""

YAML_TEXTS = [
    "!!python/object/apply:os.system ['exit 1']", "!!python/name:os.system", "&a [*a]",
    "2026-13-45", "9" * 5000, "0x", "0b_", "1" + ":59" * 400 + ".0", "!!binary x", "!!float x",
    "!!int x", "!!timestamp x", "[" * 3000, "{a: " * 3000, "{? [a] : b}", "{<<: 3}", "*nowhere",
    '"\\ud800"', '"\\0"', ".nan", ".inf", "-1", "null", "{}", "[]", "1e400", "!!omap [a]",
    "!!set {a, [b]}",
    "\t", "| \n\t x", "&a [x, *a, *a]", "'", "%", "`", "---\n---", "? ", "- - - -",
    "{a: &a [y,y,y,y,y,y,y,y,y], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,"
    "*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,"
    "*e,*e,*e,*e,*e,*e,*e], g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f], h: [*g,*g,*g,*g,*g,*g,*g,*g,*g]}",
]  # fmt: skip

LINES = [
    "../../escaped", "/etc/passwd", "00/../../escaped", "../sequences/00/velodyne/000000.bin",
    "sequences/../velodyne/000000.bin", "00/000000", "00\\000001", "08/000000", "00/", "/", "..",
    "00/000000/..", "#", "00/000000 # a comment", "0" * 32, "f" * 32, "00/" + "0" * 5000,
    "00/\x00", "00/\u0660", "C:\\sequences\\00\\velodyne\\000000.bin", "00/000000 00/000001",
    "00/.000000", "~/00/000000", "$HOME/000000", "`id`/000000", "00/000000.bin.bin",
    "\ufeff00/000000",
]  # fmt: skip


def damaged(valid: bytes) -> Bytes:
    """A file with up to four faults: cut off, bits flipped, bytes lost, repeated or put in."""
    place = st.integers(0, max(len(valid) - 1, 0))
    piece = st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=16))
    fault = st.one_of(
        st.tuples(st.just(_cut), place, st.just(b"")),
        st.tuples(st.just(_flip), place, st.binary(min_size=1, max_size=1)),
        st.tuples(st.just(_insert), place, piece),
        st.tuples(st.just(_lose), place, piece),
        st.tuples(st.just(_repeat), place, piece),
        st.tuples(st.just(_overwrite), place.map(lambda i: i & ~3), st.sampled_from(WORDS)),
        st.tuples(st.just(_overwrite), place, piece),
    )
    return st.lists(fault, min_size=1, max_size=4).map(lambda faults: _apply(valid, faults))


def arbitrary() -> Bytes:
    """Bytes that were never such a file."""
    return st.one_of(st.binary(max_size=400), st.integers(0, 4000).map(bytes))


def scans(columns: int, valid: np.ndarray) -> Bytes:
    """Whole scans of which a share of the values is no measurement.

    Args:
        columns: values of a point.
        valid: (N, columns) float32 to be damaged.
    """

    def make(seed: int, points: int, share: float, kinds: list[bytes], reach: int) -> bytes:
        rng = np.random.default_rng(seed)
        values = np.resize(valid, (points, columns)).astype("<f4")
        words = np.frombuffer(b"".join(kinds), dtype="<f4")
        hit = rng.random(values.shape) < share
        hit[:, reach:] = False
        values[hit] = rng.choice(words, int(hit.sum()))
        return values.tobytes()

    return st.builds(
        make,
        st.integers(0, 1 << 32),
        st.one_of(st.integers(0, 40), st.sampled_from([1, 32, 320, 3000])),
        st.sampled_from([0.01, 0.1, 0.5, 1.0]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
        st.sampled_from([4, columns]),  # a ring that is none is refused at once
    )


def raw_labels(dtype: str, ids: list[int], points: int) -> Bytes:
    """Label files of about the right length, some ids unknown."""
    highest = 2 ** (8 * np.dtype(dtype).itemsize) - 1
    number = st.one_of(*[st.sampled_from(ids)] * 3, st.integers(0, highest))

    def make(few: list[int], seed: int, length: int) -> bytes:
        return np.random.default_rng(seed).choice(few, length).astype(dtype).tobytes()

    few = st.lists(number, min_size=1, max_size=4)
    length = st.sampled_from([points] * 8 + [0, 1, points - 1, points + 1, 2 * points])
    return st.builds(make, few, st.integers(0, 1 << 32), length)


def npy(points: np.ndarray) -> Bytes:
    """``.npy`` files, the header of some telling another shape or type than the content."""
    file = io.BytesIO()
    np.save(file, points)
    shape = str(points.shape)
    headers = [
        "(99999999999, 4)", "(-1, 4)", "(4611686018427387904, 4)", "(4,)", "()", "(1, 1, 4)",
        "(True, 4)", "(1.5, 4)", "('a', 4)", "(0, 4)", "((" * 60, "99999999999999999999999999",
        f"{points.shape}, 'x': 1", "{}", "[1, 4]",
    ]  # fmt: skip
    types = ["|O", "<f8", ">f4", "<i4", "<c8", "<U4", "|V16", "<f16", "x", "<m8", "[('a', '<f4')]"]

    def header(old: str, new: str) -> bytes:
        version, text = file.getvalue()[:8], file.getvalue()[10:].split(b"\n")[0].decode()
        replaced = text.replace(old, new).rstrip().encode() + b"\n"
        content = file.getvalue().split(b"\n", 1)[1]
        return version + len(replaced).to_bytes(2, "little") + replaced + content

    return st.one_of(
        damaged(file.getvalue()),
        st.sampled_from(headers).map(lambda new: header(shape, new)),
        st.sampled_from(types).map(lambda new: header("<f4", new)),
    )


def lists(valid: list[str]) -> Bytes:
    """Lists of scans: sound lines, hostile ones and damaged ones, plain or packed."""
    line = st.one_of(st.sampled_from(valid), st.sampled_from(LINES), st.text(max_size=40))
    ends = st.sampled_from(["\n", "\r\n", "\r", "\x00", "\n\n", "\u2028"])
    text = st.builds(lambda rows, end: end.join(rows), st.lists(line, max_size=8), ends)
    plain = text.map(lambda t: t.encode("utf-8", "surrogatepass"))
    sound = "\n".join(valid).encode()
    return st.one_of(
        plain,
        damaged(sound),
        plain.map(lambda content: gzip.compress(content, 1, mtime=0)),
        damaged(gzip.compress(sound, mtime=0)),
    )


def yaml_texts(valid: str) -> Bytes:
    """Configurations with values, lines or bytes that do not belong there."""
    rows = valid.splitlines()
    value = st.one_of(st.sampled_from(YAML_TEXTS), st.text(max_size=30))

    def replace(place: int, text: str) -> bytes:
        key = rows[place].partition(":")[0]
        return _joined([*rows[:place], f"{key}: {text}", *rows[place + 1 :]])

    def add(place: int, text: str) -> bytes:
        return _joined([*rows[:place], text, *rows[place:]])

    def move(place: int, other: int) -> bytes:
        return _joined([*rows[:place], *rows[place + 1 : other], rows[place], *rows[other:]])

    place = st.integers(0, len(rows) - 1)
    return st.one_of(
        st.builds(replace, place, value),
        st.builds(add, place, value),
        st.builds(move, place, place),
        damaged(valid.encode()),
        trees(yaml.safe_load(valid)).map(lambda t: yaml.safe_dump(t).encode()),
    )


def json_texts(valid: Any) -> Bytes:
    """Documents of which a value is another one, and damaged ones."""
    deep = st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"', b"\xff", b"NaN", b"1e999"]
    )
    return st.one_of(
        trees(valid).map(lambda tree: json.dumps(tree).encode()),
        damaged(json.dumps(valid).encode()),
        deep,
    )


def trees(valid: Any) -> st.SearchStrategy[Any]:
    """A tree of dicts and lists with up to three values replaced by nasty or by other values."""
    paths = list(_paths(valid, ()))
    inner = [_at(valid, path) for path in paths]
    change = st.tuples(
        st.sampled_from(paths), st.one_of(st.sampled_from(NASTY), st.sampled_from(inner))
    )

    def replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
        tree = copy.deepcopy(valid)
        for path, value in changes:
            try:
                parent = _at(tree, path[:-1])
            except (LookupError, TypeError):
                continue  # an earlier change took the place away
            if isinstance(parent, dict) or (
                isinstance(parent, list) and path[-1] in range(len(parent))
            ):
                parent[path[-1]] = copy.deepcopy(value)
        return tree

    return st.lists(change, min_size=1, max_size=3).map(replaced)


def packs(valid: bytes) -> Bytes:
    """Packs that are damaged, of which the index is another, or of which a scan is."""
    start, length, _, _ = FOOTER.unpack(valid[-FOOTER.size :])
    scans, index = valid[:start], json.loads(valid[start : start + length])
    place = st.integers(len(MAGIC), start - 1)
    code = st.sampled_from([0, 1, 2, 12, 40, 96, 191, 192, 222, 251, 252, 253, 254, 255])

    def recoded(places: list[int], codes: list[int]) -> bytes:
        changed, right = bytearray(scans), copy.deepcopy(index)
        for where, byte in zip(places, codes, strict=False):
            changed[where] = byte
        for scan in itertools.chain(*right["sequences"].values()):
            scan[5] = zlib.crc32(changed[scan[2] : scan[2] + scan[3]])
        return sealed(bytes(changed), right)

    return st.one_of(
        damaged(valid),
        trees(index).map(lambda tree: sealed(scans, tree)),
        st.builds(
            recoded,
            st.lists(st.one_of(place, st.integers(len(MAGIC), len(MAGIC) + 11)), max_size=8),
            st.lists(code, min_size=8, max_size=8),
        ),
        arbitrary().map(lambda content: MAGIC + content),
    )


def sealed(scans: bytes, index: Any) -> bytes:
    """A pack of these bytes with an index whose checksum is right."""
    text = json.dumps(index).encode()
    digest = hashlib.sha256(text).digest()
    return scans + text + FOOTER.pack(len(scans), len(text), digest, MAGIC)


def checkpoints(valid: bytes) -> Bytes:
    """Checkpoints that are damaged, whose pickle is, or whose values are others."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    state = torch.load(io.BytesIO(valid), weights_only=True)
    tensors = [torch.zeros(0), torch.full((3,), float("nan")), torch.zeros(2, 2, dtype=torch.int64)]
    swapped = st.builds(
        lambda key, tensor: _saved({**state, "method": {**state["method"], key: tensor}}),
        st.sampled_from(sorted(state["method"])),
        st.sampled_from(tensors),
    )
    return st.one_of(
        damaged(valid),
        damaged(entries[name]).map(lambda pickle: _packed({**entries, name: pickle}, 0)),
        damaged(entries[name]).map(lambda pickle: _packed({**entries, name: pickle}, 8)),
        trees(state).map(_saved),
        swapped,
        st.builds(
            lambda name, field, change: _saved(_with_moment(state, name, field, change)),
            st.sampled_from(sorted(state["training"]["optimiser"])),
            st.sampled_from(["step", "exp_avg", "exp_avg_sq"]),
            st.sampled_from(_CHANGES),
        ),
    )


_CHANGES: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda t: torch.zeros(()).expand(t.shape),  # one number, seen everywhere
    lambda t: t.new_zeros(3),
    lambda t: t.flatten()[:-1],
    lambda t: t.transpose(0, -1) if t.dim() else t[None],
    lambda t: t[None],
    lambda t: t.double(),
    lambda t: t.bfloat16(),
    lambda t: t.long(),
    lambda t: t.to_sparse(),
    lambda t: t.to("meta"),
    lambda t: t * float("nan"),
    lambda t: t.double() * 1e300,
    lambda t: -t,
]
"""What may have become of a tensor that the optimiser writes to."""


def _with_moment(
    state: dict[str, Any], name: str, field: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, Any]:
    optimiser = state["training"]["optimiser"]
    moments = {**optimiser[name], field: change(optimiser[name][field])}
    training = {**state["training"], "optimiser": {**optimiser, name: moments}}
    return {**state, "training": training}


def _saved(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _packed(entries: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def _joined(rows: list[str]) -> bytes:
    return "\n".join(rows).encode("utf-8", "surrogatepass")


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


Fault = tuple[Callable[[bytes, int, bytes], bytes], int, bytes]


def _apply(content: bytes, faults: list[Fault]) -> bytes:
    for fault, place, piece in faults:
        content = fault(content, min(place, len(content)), piece)
    return content


def _cut(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place]


def _flip(content: bytes, place: int, piece: bytes) -> bytes:
    if place >= len(content):
        return content
    return content[:place] + bytes([content[place] ^ (1 << piece[0] % 8)]) + content[place + 1 :]


def _insert(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place:]


def _lose(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + content[place + len(piece) :]


def _repeat(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + content[max(0, place - 16 * len(piece)) :]


def _overwrite(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place + len(piece) :]
