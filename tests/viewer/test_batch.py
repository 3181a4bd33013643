"""What a student gets: told for every method, and told truly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages
from rangeseg.datasets.splits import parse_labels
from rangeseg.drawing.colours import UNSURE, label_colours, range_colours
from rangeseg.drawing.sheets import enlarge
from rangeseg.methods import METHODS
from rangeseg.methods import exchange_mix as exchange_mix_module
from rangeseg.runs.config import RunConfig, load_config, load_run_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.plan import plan_run
from rangeseg.viewer.batch import student_batch
from rangeseg.viewer.batch_sheet import batch_sheet

CPU = torch.device("cpu")
STILL = [
    "train.perturbation.scale=0", "train.perturbation.jitter=0", "train.perturbation.drop_pixels=0",
    "train.perturbation.drop_patches=0",
]  # fmt: skip


def config_of(small_config: list[str], method: str, *more: str) -> RunConfig:
    path, *words = small_config
    return plan_run(load_config(Path(path), [*words[1::2], *more]), method, parse_labels("20%"), 0)


def sample_depth(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Keeps the range channel of each sample that is made."""
    kept: list[np.ndarray] = []
    make = RangeImages.training_sample
    place = config.range_image.channels.index("range")

    def keep(self: RangeImages, *words: Any) -> Any:
        sample = make(self, *words)
        mean, std = self.channel_statistics[place]
        kept.append(sample["image"][place] * std + mean)
        return sample

    monkeypatch.setattr(RangeImages, "training_sample", keep)
    return kept


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_pixel_is_from_the_scan_that_is_named(
    method: str, small_config: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without perturbation each pixel has the very range that its scan has there."""
    config = config_of(small_config, method, *STILL)
    scans = sample_depth(config, monkeypatch)
    batch = student_batch(Experiment(config), None, 3, CPU)
    assert len(batch.scans) == len(scans) == (4 if METHODS[method].uses_unlabelled else 2)
    assert len(batch.depth) == len(batch.origin) >= 2
    assert set(np.unique(batch.origin)) - {0} <= set(range(1, len(scans) + 1))
    for number, depth in enumerate(scans, 1):
        here = batch.origin == number
        assert here.any(), f"scan {number} is nowhere"
        expected = np.broadcast_to(depth, here.shape)
        np.testing.assert_allclose(batch.depth[here], expected[here], rtol=1e-5, atol=1e-4)
    # Some image holds more than one scan, unless the method does not mix: all are strong here.
    assert any(len(np.unique(image[image > 0])) > 1 for image in batch.origin)
    taught = batch.taught != IGNORE
    unlabelled = batch.origin > config.train.batch_size
    assert taught[unlabelled].all(), "every unlabelled scan has a prediction"
    assert (batch.confidence[unlabelled] > 0).all()
    labelled = (batch.origin > 0) & ~unlabelled
    assert (batch.confidence[labelled] == 1).all()


def test_a_step_of_several_batches_is_shown_by_its_first(small_config: list[str]) -> None:
    """Two batches a step: step 3 begins with what would be step 6 of one."""
    config = config_of(small_config, "cutmix_seg")
    train = config.train.model_copy(update={"accumulate": 2})
    two = student_batch(Experiment(config.model_copy(update={"train": train})), None, 3, CPU)
    one = student_batch(Experiment(config), None, 6, CPU)
    assert two.scans == one.scans
    np.testing.assert_array_equal(two.origin, one.origin)


def test_what_is_taught_is_what_the_loss_gets(
    small_config: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExchangeMix hands the labels of the mixed scans to a loss, then those of the whole ones."""
    told: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = exchange_mix_module.masked_cross_entropy

    def listen(logits: Any, labels: Any, valid: Any, weights: Any, sure: Any) -> Any:
        told.append((labels.clone(), valid.clone()))
        return loss(logits, labels, valid, weights, sure)

    monkeypatch.setattr(exchange_mix_module, "masked_cross_entropy", listen)
    batch = student_batch(Experiment(config_of(small_config, "exchange_mix")), None, 3, CPU)
    labels, valid = (torch.cat(parts) for parts in zip(*told, strict=True))
    others = slice(2, None)  # after the labelled scans
    np.testing.assert_array_equal(batch.origin[others] > 0, valid.numpy())
    np.testing.assert_array_equal(batch.taught[others][valid.numpy()], labels[valid].numpy())


def test_a_run_shows_its_trained_networks(run: Path) -> None:
    config = load_run_config(run / "config.yaml")
    fresh = student_batch(Experiment(config), None, 3, CPU)
    # The list that it was trained on may be gone: its folder has a copy.
    gone = config.run.model_copy(update={"labels": parse_labels("lists/gone.txt")})
    trained = student_batch(
        Experiment(config.model_copy(update={"run": gone})), run / "last.pt", 3, CPU
    )
    assert fresh.scans == trained.scans
    np.testing.assert_array_equal(fresh.origin, trained.origin)  # the same draws
    assert not np.array_equal(fresh.confidence, trained.confidence)


def column_of(picture: np.ndarray, part: np.ndarray) -> int:
    """In which of the four columns of a sheet a part stands, pixel for pixel."""
    height, width = part.shape[:2]
    margin = (picture.shape[1] - 4 * width) // 5
    (found,) = {
        column
        for column in range(4)
        for row in range(len(picture) - height)
        if np.array_equal(
            picture[row : row + height, margin + column * (width + margin) :][:, :width], part
        )
    }
    return found


def test_the_picture_has_a_row_for_each_image(small_config: list[str]) -> None:
    batch = student_batch(Experiment(config_of(small_config, "cutmix_seg")), None, 3, CPU)
    info = Experiment(config_of(small_config, "cutmix_seg")).source.info
    picture = batch_sheet(batch, "t", info.label_map)
    rows, (height, width) = len(batch.origin), batch.origin.shape[1:]
    assert picture.shape[0] > rows * 10 * height  # 64 columns are shown six times as wide
    assert picture.shape[1] > 4 * 6 * width
    unsure = (batch.origin > 2) & (batch.confidence < batch.threshold)
    shown = (picture == UNSURE).all(axis=2).sum()
    assert 0 <= shown - unsure.sum() * 6 * 10 < 1000  # and once in the legend

    # Four columns: what it sees, whence, what it is taught, how sure that is.
    valid = batch.origin[0] > 0
    taught = label_colours(batch.taught[0], valid, info.label_map.colours)
    taught[(batch.origin[0] > 2) & (batch.confidence[0] < batch.threshold)] = UNSURE
    sees = range_colours(batch.depth[0], valid)
    assert [column_of(picture, enlarge(image, 400)) for image in (sees, taught)] == [0, 2]


def test_without_a_threshold_nothing_is_said_to_be_below_it(small_config: list[str]) -> None:
    config = config_of(small_config, "cutmix_seg", "methods.cutmix_seg.confidence=0")
    batch = student_batch(Experiment(config), None, 3, CPU)
    picture = batch_sheet(batch, "t", Experiment(config).source.info.label_map)
    assert not (picture == UNSURE).all(axis=2).any()
