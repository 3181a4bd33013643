"""Published range-view figures: the mIoU of the pixel metric on the validation split, in per cent.

A table shows a published figure only for a comparable run: same number of labelled scans, whole
validation split, plain labelled branch, settings of ``configs/published/``. The choice of labelled
scans may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RATIOS = ("1%", "10%", "20%", "50%")
LABELLED_SCANS: Mapping[str, tuple[int, ...]] = {
    "nuscenes": (281, 2813, 5626, 14065),
    "semantic_kitti": (191, 1913, 3826, 9565),
    "scribble_kitti": (191, 1913, 3826, 9565),
}
"""Data set -> number of labelled scans at each of RATIOS."""

EVALUATED_SCANS: Mapping[str, int] = {
    "nuscenes": 6019,
    "semantic_kitti": 4071,
    "scribble_kitti": 4071,
}
"""Data set -> size of the validation split; v1.0-mini, with 81 scans, is another task."""


@dataclass(frozen=True)
class Published:
    """One line of the published table.

    Attributes:
        name: name of the method in papers, with its network.
        method: its counterpart here; None without one, such as FRNet's lines, which are per point
            and of unknown training.
        miou: data set -> the figure at each of RATIOS.
        checked: False for figures not compared with their source.
    """

    name: str
    method: str | None
    miou: Mapping[str, tuple[float, float, float, float]]
    checked: bool = True

    def shown(self, dataset: str, ratio: int) -> str:
        """The figure at ``RATIOS[ratio]`` for a table: ``42.1 (unchecked)``."""
        return f"{self.miou[dataset][ratio]:.1f}" + ("" if self.checked else " (unchecked)")


PUBLISHED = (
    Published(
        "supervised, FIDNet",
        "supervised",
        {
            "nuscenes": (38.3, 57.5, 62.7, 67.6),
            "semantic_kitti": (36.2, 52.2, 55.9, 57.2),
            "scribble_kitti": (33.1, 47.7, 49.9, 52.5),
        },
    ),
    Published(
        "Mean Teacher, FIDNet",
        "mean_teacher",
        {
            "nuscenes": (42.1, 60.4, 65.4, 69.4),
            "semantic_kitti": (37.5, 53.1, 56.1, 57.4),
            "scribble_kitti": (34.2, 49.8, 51.6, 53.3),
        },
        checked=False,
    ),
    Published(
        "CutMix-Seg, FIDNet",
        "cutmix_seg",
        {
            "nuscenes": (43.8, 63.9, 64.8, 69.8),
            "semantic_kitti": (37.4, 54.3, 56.6, 57.6),
            "scribble_kitti": (36.7, 50.7, 52.9, 54.3),
        },
    ),
    Published(
        "CPS, FIDNet",
        "cps",
        {
            "nuscenes": (40.7, 60.8, 64.9, 68.0),
            "semantic_kitti": (36.5, 52.3, 56.3, 57.4),
            "scribble_kitti": (33.7, 50.0, 52.8, 54.6),
        },
    ),
    Published(
        "LaserMix, FIDNet",
        "lasermix",
        {
            "nuscenes": (49.5, 68.2, 70.6, 73.0),
            "semantic_kitti": (43.4, 58.8, 59.4, 61.4),
            "scribble_kitti": (38.3, 54.4, 55.6, 58.7),
        },
    ),
    Published(
        "supervised, FRNet (per point)",
        None,
        {
            "nuscenes": (51.9, 68.1, 70.9, 74.6),
            "semantic_kitti": (44.9, 60.4, 61.8, 63.1),
            "scribble_kitti": (42.4, 53.5, 55.1, 57.0),
        },
    ),
    Published(
        "LaserMix, FRNet (per point)",
        None,
        {
            "nuscenes": (58.7, 71.5, 72.3, 75.0),
            "semantic_kitti": (52.9, 62.9, 63.2, 65.0),
            "scribble_kitti": (45.8, 56.8, 57.7, 59.0),
        },
    ),
    Published(
        "FrustumMix, FRNet (per point)",
        None,
        {
            "nuscenes": (61.2, 72.2, 74.6, 75.4),
            "semantic_kitti": (55.8, 64.8, 65.2, 65.4),
            "scribble_kitti": (46.6, 57.0, 59.5, 61.2),
        },
    ),
)


def published_figure(
    dataset: str,
    split: str,
    scans: int,
    labelled_scans: int,
    row: tuple[str, str],
    differs: Sequence[str] | None,
) -> str | None:
    """Format the published counterpart of a row for a table.

    Args:
        dataset: name of the data set.
        split: the evaluated split; all published figures are of ``val``.
        scans: number of evaluated scans.
        labelled_scans: number of labelled scans.
        row: method and labelled branch.
        differs: settings unlike the published ones; None if unknown.

    Returns:
        ``37.4``, ``37.5 (unchecked)``, or None if no comparable figure was published.
    """
    method, labelled = row
    published = _counterpart(dataset, split, scans, labelled_scans, method)
    if published is None or labelled != "plain" or differs is None or differs:
        return None
    return published.shown(dataset, LABELLED_SCANS[dataset].index(labelled_scans))


def distance_note(
    dataset: str,
    split: str,
    scans: int,
    labelled_scans: int,
    rows: Mapping[tuple[str, str], Sequence[str] | None],
) -> str | None:
    """Describe how rows differ from their published counterparts.

    Args:
        dataset: name of the data set.
        split: the evaluated split.
        scans: number of evaluated scans.
        labelled_scans: number of labelled scans.
        rows: name of a row and its method -> settings unlike the published ones.

    Returns:
        Differences common to all rows, then each row's own; None if no row with a counterpart
        differs.
    """
    far = {
        name: list(differs)
        for (name, method), differs in rows.items()
        if differs and _counterpart(dataset, split, scans, labelled_scans, method)
    }
    if not far:
        return None
    shared = [d for d in next(iter(far.values())) if all(d in own for own in far.values())]
    parts = [("in all of these: " if len(far) > 1 else "") + ", ".join(shared)] if shared else []
    for name, own in far.items():
        rest = [d for d in own if d not in shared]
        parts += [f"in {name}: {', '.join(rest)}"] if rest else []
    return (
        f"No published figure for {'; '.join(far)}. Settings that are not those of "
        f"configs/published/{dataset}.yaml: {'; '.join(parts)}."
    )


def published_table(dataset: str, split: str, scans: int) -> list[list[str]]:
    """All published figures of a data set.

    Args:
        dataset: name of the data set.
        split: the evaluated split.
        scans: number of evaluated scans.

    Returns:
        Rows of a name and one cell for each of RATIOS; empty if nothing comparable was published.
    """
    if not _comparable(dataset, split, scans):
        return []
    return [[p.name, *[p.shown(dataset, ratio) for ratio in range(len(RATIOS))]] for p in PUBLISHED]


def _counterpart(
    dataset: str, split: str, scans: int, labelled_scans: int, method: str
) -> Published | None:
    """The published line of a method with the same number of scans, if any."""
    known = labelled_scans in LABELLED_SCANS.get(dataset, ())
    if not known or not _comparable(dataset, split, scans):
        return None
    return next((p for p in PUBLISHED if p.method == method), None)


def _comparable(dataset: str, split: str, scans: int) -> bool:
    return split == "val" and scans == EVALUATED_SCANS.get(dataset)
