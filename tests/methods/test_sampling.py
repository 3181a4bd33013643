"""Drawing classes and pixels: where, how often, and by the generator alone."""

import pytest
import torch

from rangeseg.methods.sampling import draw_classes, draw_pixel, stratified_pixels

from .conftest import generator


def test_classes_are_drawn_by_the_softmax_of_their_scores() -> None:
    scores = torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn = draw_classes(scores, 1, 20_000, generator())[:, 0]
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, scores.softmax(0), atol=0.015, rtol=0)


def test_a_scan_draws_a_class_once() -> None:
    drawn = draw_classes(torch.zeros(5), 3, 100, generator())
    assert drawn.shape == (100, 3)
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert len(drawn.unique()) == 5


def test_a_pixel_is_drawn_from_the_mask_and_none_from_an_empty_one() -> None:
    mask = torch.rand(50, 6, 8, generator=generator()) < 0.3
    mask[7] = False
    drawn = draw_pixel(mask, generator())
    assert not (drawn & ~mask).any()
    expected = torch.ones(50)
    expected[7] = 0
    assert torch.equal(drawn.sum(dim=(1, 2)).float(), expected)


def test_every_pixel_of_a_mask_is_drawn_alike() -> None:
    mask = torch.zeros(6000, 2, 3, dtype=torch.bool)
    mask[:, 0, 1] = mask[:, 1, 0] = mask[:, 1, 2] = True
    share = draw_pixel(mask, generator()).float().mean(0)
    torch.testing.assert_close(share, mask[0] / 3, atol=0.03, rtol=0)


@pytest.mark.parametrize(("height", "width", "grid"), [(8, 16, 4), (5, 10, 3), (4, 8, 32)])
def test_each_cell_gives_one_of_its_valid_pixels(height: int, width: int, grid: int) -> None:
    valid = torch.rand(3, height, width, generator=generator()) < 0.5
    index, found = stratified_pixels(valid, grid, generator())
    cell_height, cell_width = -(-height // grid), -(-width // grid)
    assert int(index.min()) >= 0
    assert int(index.max()) < height * width
    rows = range(0, height, cell_height)
    columns = range(0, width, cell_width)
    assert index.shape == (3, len(rows) * len(columns))
    for scan in range(3):
        cells = iter(range(index.shape[1]))
        for row in rows:
            for column in columns:
                cell = next(cells)
                inside = valid[scan, row : row + cell_height, column : column + cell_width]
                assert bool(found[scan, cell]) == bool(inside.any())
                if inside.any():
                    at_row, at_column = divmod(int(index[scan, cell]), width)
                    assert valid[scan, at_row, at_column]
                    assert row <= at_row < row + cell_height
                    assert column <= at_column < column + cell_width


def test_the_pixels_of_a_cell_are_drawn_alike() -> None:
    valid = torch.ones(4000, 2, 2, dtype=torch.bool)
    valid[:, 0, 0] = False
    index, _ = stratified_pixels(valid, 1, generator())
    shares = torch.bincount(index[:, 0], minlength=4) / len(index)
    torch.testing.assert_close(shares, torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3]), atol=0.03, rtol=0)


def test_a_cell_gives_a_preferred_pixel_if_it_has_one() -> None:
    """And one of the others where it has none; what is drawn else does not change."""
    valid = torch.rand(40, 8, 8, generator=generator()) < 0.7
    first = valid & (torch.rand(40, 8, 8, generator=generator(1)) < 0.1)
    first[:20] = valid[:20]
    index, found = stratified_pixels(valid, 2, generator(2), first)
    plain, found_plain = stratified_pixels(valid, 2, generator(2))
    assert torch.equal(found, found_plain)
    assert torch.equal(index[:20], plain[:20])
    cells = first.view(40, 2, 4, 2, 4).transpose(2, 3).reshape(40, 4, 16)
    taken = first.flatten(1).gather(1, index)
    assert torch.equal(taken[20:] & found[20:], cells.any(2)[20:])
    assert valid.flatten(1).gather(1, index)[found].all()
