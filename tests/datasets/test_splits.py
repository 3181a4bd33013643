"""Labelled lists: exact counts, nested draws that never change, and what a bad list leads to."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.split_files import fingerprint, published_name
from rangeseg.datasets.splits import (
    check_split,
    count_with_unlabelled_neighbour,
    draw_sequences,
    draw_uniform,
    format_ratio,
    labelled_and_unlabelled,
    labelled_by_sequence,
    parse_ratio,
    read_split,
    write_split,
)
from rangeseg.errors import ConfigError, DataError

# Scans of the official sequences 00 to 10.
LENGTHS = (4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201)
TRAIN = [f"{s:02d}/{i:06d}" for s, n in enumerate(LENGTHS) if s != 8 for i in range(n)]
VAL = [f"08/{i:06d}" for i in range(LENGTHS[8])]
# Computed apart from this code: `sha256sum` of files that hold "0:SEQ/FRAME", then `sort`, then
# the first 3 and the first 1,913 names.
PINNED_THREE = ["05/000147", "05/000816", "07/000008"]
PINNED_TEN_PERCENT = "5b16bf76be5ab4afd6fe85b07226a23666552f64651d36ce9dc7d2ecd3ee22e6"
RATIOS = [Fraction(p, 100) for p in (1, 10, 20, 50)]
# Without the time, which would name the tests otherwise in each process that runs them.
PACKED = gzip.compress(b"x" * 99, mtime=0)


class Listed(SemanticKitti):
    """A data set that only knows its ids; a split is one sequence."""

    info = replace(SemanticKitti.info, name="listed")

    def __init__(self, ids: Mapping[str, Sequence[str]]) -> None:
        super().__init__(Path("data/listed"))
        self.ids = {name: list(listed) for name, listed in ids.items()}
        self.SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",)}  # type: ignore[misc]
        self.without_labels: set[str] = set()

    def sequence_ids(self, sequence: str) -> list[str]:
        if sequence not in self.ids:
            raise DataError(f"{sequence} is missing")
        return list(self.ids[sequence])

    def needs_labels(self, scan_id: str) -> bool:
        return scan_id not in self.without_labels


class Drives(Listed):
    """The same with the sequences of SemanticKITTI's train split."""

    def __init__(self, ids: Iterable[str]) -> None:
        super().__init__({})
        for scan_id in ids:
            self.ids.setdefault(scan_id[:2], []).append(scan_id)
        self.SPLITS = {"train": tuple(self.ids), "val": ()}  # type: ignore[misc]


def digest(scan_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(scan_ids)).encode()).hexdigest()


class TestRatio:
    @pytest.mark.parametrize(
        ("text", "ratio"),
        [
            ("1%", Fraction(1, 100)),
            ("10 %", Fraction(1, 10)),
            (" 0.5 ", Fraction(1, 2)),
            ("0.01", Fraction(1, 100)),
            (".2", Fraction(1, 5)),
            ("0.1%", Fraction(1, 1000)),
            ("12.5%", Fraction(1, 8)),
            ("100%", Fraction(1)),
            ("1.0", Fraction(1)),
        ],
    )
    def test_is_exact(self, text: str, ratio: Fraction) -> None:
        assert parse_ratio(text) == ratio

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("ten", "'ten' is not a ratio of labelled scans: write a ratio such as 1%, 10% or 0.5"),
            ("", "'' is not a ratio"),
            ("1e-2", "'1e-2' is not a ratio"),
            ("1/3", "'1/3' is not a ratio"),
            ("nan", "'nan' is not a ratio"),
            ("0", r"ratio '0' is not above 0 and at most 1 \(100%\): write"),
            ("0%", "ratio '0%' is not above 0"),
            ("-1%", "ratio '-1%' is not above 0"),
            ("101%", r"ratio '101%' is not above 0 and at most 1 \(100%\): write"),
            ("10", r"ratio '10' .* \(did you mean 10%\?\)"),
            ("1", "ratio '1' may mean 1 % or all scans: write 1% or 100%"),
        ],
    )
    def test_refused(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse_ratio(text)

    @pytest.mark.parametrize(
        "text", ["1%", "10%", "12.5%", "100%", "0.1%", "0.00005%", "99.99999%", "33.3333333333%"]
    )
    def test_is_shown_as_it_was_written(self, text: str) -> None:
        assert format_ratio(parse_ratio(text)) == text


class TestDraw:
    def test_counts_of_the_protocol(self) -> None:
        assert len(TRAIN) == 19_130
        assert [len(draw_uniform(TRAIN, r, 0)) for r in RATIOS] == [191, 1_913, 3_826, 9_565]
        nuscenes = [str(i) for i in range(28_130)]
        assert [len(draw_uniform(nuscenes, r, 0)) for r in RATIOS] == [281, 2_813, 5_626, 14_065]

    def test_floor_is_exact_where_floats_are_not(self) -> None:
        assert int(100 * 0.29) == 28  # what a float would make of 29 %
        assert len(draw_uniform(TRAIN[:100], parse_ratio("29%"), 0)) == 29

    def test_at_least_one_and_at_most_all(self) -> None:
        assert len(draw_uniform(TRAIN[:30], Fraction(1, 100), 0)) == 1
        assert draw_uniform(TRAIN[:30], Fraction(1), 0) == TRAIN[:30]

    def test_nested(self) -> None:
        draws = [set(draw_uniform(TRAIN, r, 3)) for r in RATIOS]
        assert draws[0] < draws[1] < draws[2] < draws[3] < set(TRAIN)

    def test_sorted_and_independent_of_the_order(self) -> None:
        drawn = draw_uniform(TRAIN, RATIOS[0], 0)
        assert drawn == sorted(drawn) == draw_uniform(TRAIN[::-1], RATIOS[0], 0)

    def test_stays_the_same_for_ever(self) -> None:
        # Runs are compared by seed: if this fails, every list that was ever drawn has changed.
        assert draw_uniform(TRAIN, Fraction(3, 19_130), 0) == PINNED_THREE
        assert digest(draw_uniform(TRAIN, RATIOS[1], 0)) == PINNED_TEN_PERCENT

    def test_seeds_differ_and_overlap_by_chance_only(self) -> None:
        first, second = (set(draw_uniform(TRAIN, RATIOS[3], seed)) for seed in (0, 1))
        assert abs(len(first & second) - 19_130 / 4) < 300  # standard deviation about 35

    def test_every_sequence_gets_its_share(self) -> None:
        drawn = draw_uniform(TRAIN, RATIOS[3], 0)
        for sequence, length in enumerate(LENGTHS):
            if sequence != 8:
                share = sum(i.startswith(f"{sequence:02d}/") for i in drawn) / length
                assert abs(share - 0.5) < 0.12

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(DataError, match="no scan to draw"):
            draw_uniform([], RATIOS[0], 0)


class TestDrawSequences:
    source = Drives(TRAIN)
    sequences = labelled_by_sequence(source)

    @pytest.mark.parametrize("block", [None, 1, 50, 10_000])
    def test_counts_and_nesting(self, block: int | None) -> None:
        draws = [draw_sequences(self.sequences, ratio, 3, block) for ratio in RATIOS]
        assert [len(draw) for draw in draws] == [191, 1_913, 3_826, 9_565]
        assert all(draw == sorted(draw) for draw in draws)
        first, second, third, fourth = map(set, draws)
        assert first < second < third < fourth < set(TRAIN)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("ratio", RATIOS)
    def test_whole_sequences_and_one_beginning(self, ratio: Fraction, seed: int) -> None:
        drawn = set(draw_sequences(self.sequences, ratio, seed))
        partly = []
        for name, ids in self.sequences.items():
            taken = [scan_id in drawn for scan_id in ids]
            assert taken == sorted(taken, reverse=True)  # from the first on, without a gap
            if any(taken) and not all(taken):
                partly.append(name)
        assert len(partly) <= 1
        assert count_with_unlabelled_neighbour(self.source, drawn) <= 1

    def test_stays_the_same_for_ever(self) -> None:
        # Computed apart from this code: `sha256sum` of "0:00" to "0:10" puts 04 first, then 07.
        count = len(self.sequences["04"]) + 1
        drawn = draw_sequences(self.sequences, Fraction(count, len(TRAIN)), 0)
        assert drawn == [*self.sequences["04"], "07/000000"]

    def test_seeds_differ(self) -> None:
        firsts = {draw_sequences(self.sequences, RATIOS[0], seed)[0] for seed in range(20)}
        assert len(firsts) > 4

    def test_does_not_depend_on_the_order_of_sequences(self) -> None:
        turned = dict(reversed(self.sequences.items()))
        assert draw_sequences(turned, RATIOS[1], 0) == draw_sequences(self.sequences, RATIOS[1], 0)

    def test_blocks_are_stretches_of_time_from_many_sequences(self) -> None:
        drawn = draw_sequences(self.sequences, RATIOS[1], 0, block=50)
        assert len({scan_id[:2] for scan_id in drawn}) > 5
        blocks: dict[tuple[str, int], int] = {}
        for scan_id in drawn:
            place = self.sequences[scan_id[:2]].index(scan_id)
            blocks[scan_id[:2], place // 50] = blocks.get((scan_id[:2], place // 50), 0) + 1
        short = [key for key, n in blocks.items() if n < min(50, self.rest(key))]
        assert len(short) <= 1  # where the draw ended
        assert count_with_unlabelled_neighbour(self.source, drawn) < 2 * len(blocks)

    def rest(self, key: tuple[str, int]) -> int:
        return len(self.sequences[key[0]]) - 50 * key[1]

    def test_blocks_of_one_are_the_uniform_draw(self) -> None:
        assert draw_sequences(self.sequences, RATIOS[1], 7, block=1) == draw_uniform(
            TRAIN, RATIOS[1], 7
        )

    def test_at_least_one_and_at_most_all(self) -> None:
        few = {"a": ["a/1", "a/2"], "b": []}
        assert draw_sequences(few, Fraction(1, 100), 0) == ["a/1"]
        assert draw_sequences(few, Fraction(1), 0, block=5) == ["a/1", "a/2"]

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(DataError, match="no scan to draw labelled ones from"):
            draw_sequences({"a": []}, RATIOS[0], 0)

    def test_only_scans_with_labels_can_be_drawn(self) -> None:
        source = Drives(TRAIN[:9])
        source.without_labels = {*TRAIN[2:4]}
        assert labelled_by_sequence(source) == {"00": [*TRAIN[:2], *TRAIN[4:9]]}


class TestNeighbours:
    source = Drives([f"00/{i}" for i in range(6)] + [f"01/{i}" for i in range(3)])

    @pytest.mark.parametrize(
        ("labelled", "count"),
        [
            ([], 0),
            (["00/0", "00/1", "00/2"], 1),  # the last one
            (["00/3", "00/4", "00/5"], 1),  # the first one; sequence 01 is another time
            (["00/1", "00/2", "00/3"], 2),
            (["00/0", "00/2", "00/4"], 3),
            (["01/0", "01/1", "01/2"], 0),
            (["00/2", "01/1"], 2),
        ],
    )
    def test_count(self, labelled: list[str], count: int) -> None:
        assert count_with_unlabelled_neighbour(self.source, labelled) == count

    def test_uniform_draws_have_almost_only_such(self) -> None:
        source = Drives(TRAIN)
        drawn = draw_uniform(TRAIN, RATIOS[0], 0)
        assert count_with_unlabelled_neighbour(source, drawn) > 0.97 * len(drawn)


class TestFiles:
    @pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
    def test_written_and_read_back(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "new" / name
        write_split(path, TRAIN[:3], "three scans\nby hand")
        assert read_split(path) == TRAIN[:3]
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "rt") as file:
            assert file.read().startswith("# three scans\n# by hand\n00/000000\n")

    def test_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text("mine")
        with pytest.raises(ConfigError, match=r"list\.txt exists and is not overwritten"):
            write_split(path, TRAIN[:3], "")
        assert path.read_text() == "mine"

    def test_unwritable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=r"list\.txt cannot be written"):
            write_split(tmp_path / "file" / "list.txt", TRAIN[:3], "")

    def test_comments_blank_lines_and_windows(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_bytes(b"\xef\xbb\xbf00/000001\r\n\r\n# no\r\n  01/000002  # yes\r\n")
        assert read_split(path) == ["00/000001", "01/000002"]

    def test_every_form_in_one_list(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text(
            "00/000001\n/data/kitti/sequences/01/velodyne/000002.bin\n"
            "D:\\kitti\\sequences\\02\\labels\\000003.label\n"
        )
        assert read_split(path) == ["00/000001", "01/000002", "02/000003"]

    @pytest.mark.parametrize(
        "line",
        ["000123", "00/000001 00/000002", "/data/00/velodyne/0.bin", "../../x", "../../etc/passwd"],
    )
    def test_bad_line(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "list.txt"
        path.write_text(f"# mine\n00/000001\n{line}\n")
        with pytest.raises(
            DataError, match=rf"list\.txt:3: '{re.escape(line)}' is not a scan id: write one"
        ):
            read_split(path)

    @pytest.mark.parametrize("lines", [["00/000001", "a" * 32], ["a" * 32, "00/000001"]])
    def test_mixed(self, tmp_path: Path, lines: list[str]) -> None:
        path = tmp_path / "list.txt"
        path.write_text("\n".join(lines))
        with pytest.raises(
            DataError,
            match=rf"list\.txt:2: '{lines[1]}' after lines of .* mixes data sets: make one",
        ):
            read_split(path)

    @pytest.mark.parametrize("name", ["list.txt", "list.gz", "list"])
    def test_packed_or_not_whatever_the_name(self, tmp_path: Path, name: str) -> None:
        for content in (b"00/000001\n", gzip.compress(b"00/000001\n")):
            (tmp_path / name).write_bytes(content)
            assert read_split(tmp_path / name) == ["00/000001"]

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"list\.txt does not exist"):
            read_split(tmp_path / "list.txt")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.txt", b"\xff\xfe\x00"),
            ("a.gz", PACKED[:-9]),
            ("a.gz", PACKED[:12] + b"yyyy" + PACKED[16:]),
            ("a.gz", b"\x1f\x8b"),
        ],
    )
    def test_unreadable(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as a list of scans .*copy this one"):
            read_split(tmp_path / name)

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read as a list of scans"):
            read_split(tmp_path)


class TestCheck:
    source = Listed({"train": TRAIN, "val": VAL})
    path = Path("mine.txt")

    def test_sound(self) -> None:
        check_split(TRAIN[:3], self.source, self.path)

    def test_empty(self) -> None:
        with pytest.raises(DataError, match=r"mine\.txt lists no scan"):
            check_split([], self.source, self.path)

    def test_twice(self) -> None:
        with pytest.raises(DataError, match=r"mine\.txt lists 00/000000 more than once"):
            check_split([*TRAIN[:3], TRAIN[0]], self.source, self.path)

    def test_validation_scan(self) -> None:
        with pytest.raises(
            DataError,
            match=r"mine\.txt: 1 of 4 scans are not in the train split \(19130 scans\) of "
            r"data/listed: 08/000000 \(a scan of val\): use a list made for this data set",
        ):
            check_split([*TRAIN[:3], VAL[0]], self.source, self.path)

    def test_two_forms_of_one_scan(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text("00/000000\nsequences/00/velodyne/000000.bin\n")
        with pytest.raises(DataError, match=r"list\.txt lists 00/000000 more than once"):
            check_split(read_split(path), self.source, path)

    def test_tokens_for_a_data_set_of_sequences(self) -> None:
        with pytest.raises(
            DataError,
            match=r"mine\.txt lists nuScenes sample tokens \(first: a{32}\), but scans of listed "
            r"are named like 00/000000: the list seems to be for nuScenes: use one made for",
        ):
            check_split(["a" * 32, "b" * 32], self.source, self.path)

    def test_sequences_for_a_data_set_of_tokens(self) -> None:
        with pytest.raises(
            DataError,
            match=r"mine\.txt lists SEQ/FRAME \(first: 00/000000\), but scans of listed are named "
            r"like a{32}: the list seems to be for SemanticKITTI or a data set in its layout: use",
        ):
            check_split(TRAIN[:3], Listed({"train": ["a" * 32], "val": ["b" * 32]}), self.path)

    def test_a_train_split_without_scans(self) -> None:
        with pytest.raises(DataError, match=r"3 of 3 scans are not in the train split \(0 scans"):
            check_split(TRAIN[:3], Listed({"train": [], "val": VAL}), self.path)

    def test_names_three_of_many(self) -> None:
        strangers = [f"77/{i:06d}" for i in range(9)]
        with pytest.raises(DataError, match="77/000000, 77/000001, 77/000002 and 6 more: use"):
            check_split(strangers, self.source, self.path)

    def test_the_train_split_itself_is_missing(self) -> None:
        with pytest.raises(DataError, match="train is missing"):
            check_split(TRAIN[:3], Listed({}), self.path)


class TestBoth:
    source = Listed({"train": TRAIN[:200], "val": VAL})

    def test_ratio(self) -> None:
        labelled, unlabelled = labelled_and_unlabelled(self.source, "10%", seed=1)
        assert labelled == draw_uniform(TRAIN[:200], Fraction(1, 10), 1)
        assert sorted(labelled + unlabelled) == TRAIN[:200]
        assert len(labelled) == 20

    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text(f"{TRAIN[5]}\n{TRAIN[2]}\n")
        labelled, unlabelled = labelled_and_unlabelled(self.source, str(path), seed=1)
        assert labelled == [TRAIN[2], TRAIN[5]]
        assert unlabelled == [i for i in TRAIN[:200] if i not in labelled]

    def test_file_is_checked(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text("08/000000\n")
        with pytest.raises(DataError, match="a scan of val"):
            labelled_and_unlabelled(self.source, str(path), seed=1)

    def test_all_labelled(self) -> None:
        assert labelled_and_unlabelled(self.source, "100%", seed=1) == (TRAIN[:200], [])

    def test_a_ratio_out_of_range_says_so(self) -> None:
        with pytest.raises(ConfigError, match="ratio '150%' is not above 0 and at most 1"):
            labelled_and_unlabelled(self.source, "150%", seed=1)

    @pytest.mark.parametrize("labels", ["lists/mine.txt", "few", "."])
    def test_neither(self, labels: str) -> None:
        with pytest.raises(
            ConfigError, match=r"is neither a ratio \(1%, 10%, 0\.5\) nor a file that exists"
        ):
            labelled_and_unlabelled(self.source, labels, seed=1)


# The published lists, from the protocol: file, number of scans, start of their sha256, name.
PUBLISHED = [
    ("semantickitti_1pct.txt", 191, "d30a4fe07ab15ac8896a9ec80c4c2845", "SemanticKITTI 1 %"),
    ("semantickitti_10pct.txt", 1_913, "77aa6086b008e24968c13fae0d889945", "SemanticKITTI 10 %"),
    ("semantickitti_20pct.txt", 3_826, "0b90944f9d5be42c1269438feca17f44", "SemanticKITTI 20 %"),
    ("semantickitti_50pct.txt", 9_565, "f23ad431339051f2b379a49bc6feb43a", "SemanticKITTI 50 %"),
    ("nuscenes_1pct.txt.gz", 281, "33ccc457e08f157d4464ad0fbd43a900", "nuScenes 1 %"),
    ("nuscenes_10pct.txt.gz", 2_813, "c86bcde189530528a9e25e876869812f", "nuScenes 10 %"),
    ("nuscenes_20pct.txt.gz", 5_626, "cdb9e5ad5554fa7ca30326c2aff44461", "nuScenes 20 %"),
    ("nuscenes_50pct.txt.gz", 14_065, "5c701d1fd57d63527641e322f296639d", "nuScenes 50 %"),
]


@pytest.mark.real_data
class TestPublishedLists:
    @pytest.mark.parametrize(("name", "count", "sha256", "published"), PUBLISHED)
    def test_recognised(
        self, real_data: Path, name: str, count: int, sha256: str, published: str
    ) -> None:
        path = real_data / "splits" / "lasermix_uniform" / name
        labelled = read_split(path)
        assert (len(labelled), digest(labelled)[:32]) == (count, sha256)
        assert published_name(labelled) == f"LaserMix (Kong et al. 2023) uniform, {published}"
        assert published_name(labelled[1:]) is None
        source = Listed({"train": TRAIN, "val": VAL})
        if name.startswith("semantickitti"):
            check_split(labelled, source, path)
            with pytest.raises(DataError, match=rf"{published}\): .* are not in the train split"):
                check_split(labelled, Listed({"train": TRAIN[:9], "val": VAL}), path)
        else:
            with pytest.raises(DataError, match=rf"the list is LaserMix .*, {published}: use one"):
                check_split(labelled, source, path)

    @pytest.mark.parametrize("ratio", [1, 2, 5, 10, 20, 40, 50])
    def test_of_another_protocol(self, real_data: Path, ratio: int) -> None:
        path = real_data / "splits" / "lim3d_strfd" / f"semantickitti_{ratio}pct.txt"
        labelled = read_split(path)
        check_split(labelled, Listed({"train": TRAIN, "val": VAL}), path)
        assert len(labelled) == pytest.approx(len(TRAIN) * ratio / 100, abs=1)
        assert published_name(labelled) is None


def test_fingerprint_is_that_of_sorted_unique_lines() -> None:
    # printf '00/000000\n00/000001' | sha256sum
    expected = "e1370d9ac4fc5dd1af8c7e8c2d48ab4379caf6bb4f54b16448abd6106a7d41b8"
    assert fingerprint(["00/000001", "00/000000", "00/000001"]) == expected
