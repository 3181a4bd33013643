"""Masks: their area, their place; mixing: all fields of a pixel from one scan."""

import pytest
import torch

from rangeseg.methods.mixing import (
    band_mask,
    box_mask,
    cutmix_mask,
    frustum_mask,
    half_view_mask,
    interleave,
    mix,
    partner,
    three_box_mask,
)

from .conftest import generator

SHAPES = [(64, 64, 2048), (64, 32, 1024), (64, 32, 128)]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("draw", "area"),
    [(cutmix_mask, 0.5), (three_box_mask, 0.25), (band_mask, 0.5), (frustum_mask, 0.5)],
)
def test_mean_area_is_the_published_one(draw, area: float, shape: tuple[int, int, int]) -> None:
    g = generator()
    masks = torch.cat([draw(shape, g) for _ in range(8)])
    assert masks.shape[1:] == shape[1:]
    assert float(masks.float().mean()) == pytest.approx(area, abs=0.025)


def test_every_cutmix_box_covers_half() -> None:
    areas = cutmix_mask((200, 64, 2048), generator()).float().mean(dim=(1, 2))
    assert float(areas.min()) > 0.49
    assert float(areas.max()) < 0.51


@pytest.mark.parametrize("draw", [cutmix_mask, three_box_mask])
def test_every_column_is_covered_alike(draw) -> None:
    """An unwrapped box would cover the seam a hundred times less often than the middle."""
    g = generator()
    covered = torch.cat([draw((500, 32, 64), g) for _ in range(4)]).float().mean(dim=(0, 1))
    assert float(covered.max() - covered.min()) < 0.06


@pytest.mark.parametrize("draw", [cutmix_mask, three_box_mask, band_mask, frustum_mask])
def test_the_generator_decides(draw) -> None:
    assert torch.equal(draw((4, 16, 64), generator(5)), draw((4, 16, 64), generator(5)))
    assert not torch.equal(draw((4, 16, 64), generator(5)), draw((4, 16, 64), generator(6)))


def test_boxes_are_boxes_that_wrap() -> None:
    mask = box_mask(torch.full((50,), 0.5), torch.full((50,), 0.25), (50, 8, 16), generator())
    assert (mask.sum(dim=(1, 2)) == 4 * 4).all()
    wrapped = mask[:, :, 0].any(1) & mask[:, :, -1].any(1) & ~mask[:, :, 8].any(1)
    assert wrapped.any()


def fields(scans: int) -> dict[str, torch.Tensor]:
    mark = torch.arange(1, scans + 1)[:, None, None].expand(scans, 4, 8).clone()
    return {
        "image": mark[:, None].expand(scans, 3, 4, 8).float(),
        "valid": mark > 1,
        "labels": mark.to(torch.uint8),
    }


def test_mask_0_keeps_a_and_mask_1_takes_b() -> None:
    a, b = fields(3), partner(fields(3))
    for value, expected in ((False, a), (True, b)):
        mixed = mix(a, b, torch.full((3, 4, 8), value))
        assert all(torch.equal(mixed[name], expected[name]) for name in a)


def test_every_field_of_a_pixel_comes_from_one_scan() -> None:
    a = fields(3)
    mixed = mix(a, partner(a), cutmix_mask((3, 4, 8), generator()))
    assert torch.equal(mixed["labels"], mixed["image"][:, 0].to(torch.uint8))
    assert torch.equal(mixed["valid"], mixed["labels"] > 1)
    assert len(mixed["labels"].unique()) == 3


def test_the_partner_is_another_scan() -> None:
    a = fields(4)
    assert not (partner(a)["labels"] == a["labels"]).any()


@pytest.mark.parametrize("height", [32, 64, 13])
def test_bands_are_3_to_6_equal_groups_of_rows(height: int) -> None:
    mask = band_mask((300, height, 8), generator())
    assert torch.equal(mask, mask[:, :, :1].expand_as(mask))
    counts, firsts = set(), set()
    for rows in mask[:, :, 0].int():
        sizes = rows.unique_consecutive(return_counts=True)[1]
        assert int(sizes.sum()) == height
        assert int(sizes.max() - sizes.min()) <= 1
        counts.add(len(sizes))
        firsts.add(int(rows[0]))
    assert counts == {3, 4, 5, 6}
    assert firsts == {0, 1}


def test_half_of_the_view_begins_anywhere_in_the_first_half() -> None:
    mask = half_view_mask((300, 4, 16), generator())
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    firsts = set()
    for columns in mask[:, 0]:
        inside = columns.nonzero()[:, 0].tolist()
        assert inside == list(range(inside[0], inside[0] + 8))
        firsts.add(inside[0])
    assert firsts == set(range(8))


def test_a_frustum_mask_is_bands_or_half_of_the_view() -> None:
    mask = frustum_mask((400, 2, 32, 64), generator())  # of two layers
    bands = (mask == mask[:, :, :1]).all(dim=(1, 2))
    halves = (mask == mask[:, :1]).all(dim=(1, 2)) & (mask[:, 0].sum(dim=1) == 32)
    assert torch.equal(bands, ~halves)
    assert 0.4 < float(bands.float().mean()) < 0.6


def test_interleaving_uses_every_pixel_of_both_exactly_once() -> None:
    number = torch.arange(2 * 3 * 32 * 8).view(2, 3, 32, 8)
    a, b = ({"labels": n, "image": n[:, None].expand(3, 2, 32, 8)} for n in number)
    both = interleave(a, b, band_mask((3, 32, 8), generator()))
    assert torch.equal(both["labels"].flatten().sort().values, number.flatten())
    assert torch.equal(both["image"], both["labels"][:, None].expand(6, 2, 32, 8))
    place = number[0, 0]  # and it stays where it was
    assert (both["labels"] % (32 * 8) == place).all()
