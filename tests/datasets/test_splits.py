"""Ratios and draws: exact counts, nested lists that never change."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import pytest

from rangeseg.datasets.split_files import fingerprint
from rangeseg.datasets.splits import (
    ListFile,
    Ratio,
    count_with_unlabelled_neighbour,
    draw_sequences,
    draw_uniform,
    evenly_spaced,
    labelled_and_unlabelled,
    labelled_by_sequence,
    parse_labels,
    parse_ratio,
)
from rangeseg.errors import ConfigError, DataError
from tests.datasets.listed import TRAIN, VAL, Listed

# Computed apart from this code: `sha256sum` of files that hold "0:SEQ/FRAME", then `sort`, then
# the first 3 and the first 1,913 names.
PINNED_THREE = ["05/000147", "05/000816", "07/000008"]
PINNED_TEN_PERCENT = "5b16bf76be5ab4afd6fe85b07226a23666552f64651d36ce9dc7d2ecd3ee22e6"
RATIOS = [Fraction(p, 100) for p in (1, 10, 20, 50)]


class Drives(Listed):
    """Ids in the sequences of SemanticKITTI's train split."""

    def __init__(self, ids: Iterable[str]) -> None:
        super().__init__({})
        for scan_id in ids:
            self.ids.setdefault(scan_id[:2], []).append(scan_id)
        self.SPLITS = {"train": tuple(self.ids), "val": ()}  # type: ignore[misc]


class TestLabels:
    @pytest.mark.parametrize(
        ("text", "share", "shown"),
        [
            ("1%", Fraction(1, 100), "1%"),
            ("10 %", Fraction(1, 10), "10%"),
            (" 0.5 ", Fraction(1, 2), "50%"),
            (".2", Fraction(1, 5), "20%"),
            ("0.1%", Fraction(1, 1000), "0.1%"),
            ("12.5%", Fraction(1, 8), "12.5%"),
            ("1.0", Fraction(1), "100%"),
            ("0.00005%", Fraction(1, 2_000_000), "0.00005%"),
            ("33.3333333333%", Fraction(333333333333, 10**12), "33.3333333333%"),
        ],
    )
    def test_a_ratio_is_exact(self, text: str, share: Fraction, shown: str) -> None:
        labels = parse_labels(text)
        assert labels == parse_ratio(text) == parse_labels(shown) == Ratio(share)
        assert str(labels) == shown
        assert labels.folder == shown.replace("%", "pct")

    @pytest.mark.parametrize("text", ["lists/mine.txt", "ten", "1e-2", "1/3", "nan", "."])
    def test_anything_else_is_a_list(self, text: str) -> None:
        labels = parse_labels(text)
        assert labels == ListFile(Path(text))
        assert str(labels) == text
        assert labels.folder == Path(text).stem
        with pytest.raises(ConfigError, match=f"'{text}' is not a ratio of labelled .* 1%, 10% or"):
            parse_ratio(text)
        with pytest.raises(ConfigError, match=r"neither a ratio \(1%, 10%, 0\.5\) nor a file that"):
            labelled_and_unlabelled(Listed({"train": TRAIN[:9]}), labels, seed=1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0", r"ratio '0' is not above 0 and at most 1 \(100%\): write"),
            ("-1%", "ratio '-1%' is not above 0"),
            ("101%", r"ratio '101%' is not above 0 and at most 1 \(100%\): write"),
            ("10", r"ratio '10' .* \(did you mean 10%\?\)"),
            ("1", "ratio '1' may mean 1 % or all scans: write 1% or 100%"),
        ],
    )
    def test_a_wrong_ratio(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            parse_labels(text)


class TestDraw:
    def test_counts_of_the_protocol(self) -> None:
        assert len(TRAIN) == 19_130
        assert [len(draw_uniform(TRAIN, r, 0)) for r in RATIOS] == [191, 1_913, 3_826, 9_565]
        nuscenes = [str(i) for i in range(28_130)]
        assert [len(draw_uniform(nuscenes, r, 0)) for r in RATIOS] == [281, 2_813, 5_626, 14_065]

    def test_floor_is_exact_where_floats_are_not(self) -> None:
        assert int(100 * 0.29) == 28  # what a float would make of 29 %
        assert len(draw_uniform(TRAIN[:100], Fraction(29, 100), 0)) == 29

    def test_nested(self) -> None:
        draws = [set(draw_uniform(TRAIN, r, 3)) for r in RATIOS]
        assert draws[0] < draws[1] < draws[2] < draws[3] < set(TRAIN)

    def test_sorted_and_independent_of_the_order(self) -> None:
        drawn = draw_uniform(TRAIN, RATIOS[0], 0)
        assert drawn == sorted(drawn) == draw_uniform(TRAIN[::-1], RATIOS[0], 0)

    def test_stays_the_same_for_ever(self) -> None:
        # Runs are compared by seed: if this fails, every list that was ever drawn has changed.
        assert draw_uniform(TRAIN, Fraction(3, 19_130), 0) == PINNED_THREE
        assert fingerprint(draw_uniform(TRAIN, RATIOS[1], 0)) == PINNED_TEN_PERCENT


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

    def test_at_least_one_at_most_all_and_none_of_none(self) -> None:
        few = {"a": ["a/1", "a/2"], "b": []}
        assert draw_sequences(few, Fraction(1, 100), 0) == ["a/1"]
        assert draw_sequences(few, Fraction(1), 0, block=5) == ["a/1", "a/2"]
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


class TestLabelledAndUnlabelled:
    source = Listed({"train": TRAIN[:200], "val": VAL})

    @pytest.mark.parametrize(("text", "count"), [("10%", 20), ("29%", 58), ("100%", 200)])
    def test_a_ratio(self, text: str, count: int) -> None:
        labels = parse_ratio(text)
        labelled, unlabelled = labelled_and_unlabelled(self.source, labels, seed=1)
        assert labelled == draw_uniform(TRAIN[:200], labels.share, 1)
        assert sorted(labelled + unlabelled) == TRAIN[:200]
        assert len(labelled) == count

    def test_a_list(self, tmp_path: Path) -> None:
        labels = ListFile(tmp_path / "list.txt")
        labels.path.write_text(f"{TRAIN[5]}\n{TRAIN[2]}\n")
        labelled, unlabelled = labelled_and_unlabelled(self.source, labels, seed=1)
        assert labelled == [TRAIN[2], TRAIN[5]]
        assert unlabelled == [i for i in TRAIN[:200] if i not in labelled]
        labels.path.write_text("08/000000\n")
        with pytest.raises(DataError, match="a scan of val"):
            labelled_and_unlabelled(self.source, labels, seed=1)


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [1, 4, 7]), (3, 1, [1]), (0, 3, []), (20, 4, [2, 7, 12, 17])],
)
def test_evenly_spaced(count: int, wanted: int, places: list[int]) -> None:
    scan_ids = [str(i) for i in range(count)]
    assert evenly_spaced(scan_ids, wanted) == [scan_ids[place] for place in places]
