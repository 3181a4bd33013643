"""Every point gets a label: against naive Python, and the bugs of the field."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rangeseg.errors import ConfigError
from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import Sensor

K = 5
IMAGE = Sensor("image", beams=12, height=12, width=24, fov_up_deg=25, fov_down_deg=-25)
WAYS: dict[str, Callable[[np.ndarray, Projection], np.ndarray]] = {
    "own_pixel": own_pixel,
    "nearest_label": nearest_label,
    "knn_vote": lambda image, projection: knn_vote(image, projection, K),
}


VIEWS = {
    "full turn": IMAGE,
    "front": replace(IMAGE, azimuth_left_deg=70, azimuth_right_deg=-70),
}


def scene(
    seed: int, size: int = 700, sensor: Sensor = IMAGE
) -> tuple[np.ndarray, Projection, np.ndarray]:
    """Labels of a coarse pattern with noise, over points at few distinct ranges (many ties)."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(size, 3)) * [1, 1, 0.3]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    reach = rng.choice([2.0, 2.5, 3.0, 3.25, 8.0], size) + rng.choice([0, 0, 0.05], size)
    points = np.concatenate([direction * reach[:, None], np.zeros((size, 1))], axis=1)
    points[::50] = np.nan
    rows, cols = np.indices((IMAGE.height, IMAGE.width))
    labels = (rows // 5 + cols // 8) % K
    noisy = rng.random(labels.shape) < 0.2
    labels[noisy] = rng.integers(0, K, noisy.sum())
    points = points.astype(np.float32)
    return labels.astype(np.uint8), project_points(points, sensor), points


def window_pixels(window: int) -> list[tuple[int, int]]:
    half = window // 2
    pixels = [(r, c) for r in range(-half, half + 1) for c in range(-half, half + 1)]
    return sorted(pixels, key=lambda pixel: pixel[0] ** 2 + pixel[1] ** 2)  # stable


def naive_default(labels: np.ndarray, projection: Projection) -> int:
    counts = [int((labels[projection.valid] == label).sum()) for label in range(256)]
    return counts.index(max(counts))


def naive_neighbours(
    labels: np.ndarray, projection: Projection, i: int, window: int
) -> list[tuple[int, int, int, int]]:
    """(row offset, column offset, point, label) of the filled pixels around, from the centre."""
    height, width = labels.shape
    found = []
    for dr, dc in window_pixels(window):
        row, col = projection.row[i] + dr, projection.col[i] + dc
        if not projection.full_turn and not 0 <= col < width:
            continue
        col %= width
        if 0 <= row < height and projection.point_index[row, col] >= 0:
            found.append((dr, dc, int(projection.point_index[row, col]), int(labels[row, col])))
    return found


def naive_knn(
    labels: np.ndarray,
    projection: Projection,
    num_classes: int,
    neighbours: int,
    window: int,
    sigma: float,
    cutoff: float,
) -> list[int]:
    pixels = window_pixels(window)
    gaussian = np.array([np.exp(-(r * r + c * c) / (2 * sigma**2)) for r, c in pixels])
    weight = dict(zip(pixels, (1 - gaussian / gaussian.sum()).astype(np.float32), strict=True))
    prediction = []
    for i in range(len(projection.row)):
        if projection.row[i] < 0:
            prediction.append(naive_default(labels, projection))
            continue
        around = naive_neighbours(labels, projection, i, window)
        votes = [
            (abs(projection.depth[n] - projection.depth[i]) * weight[r, c], label)
            for r, c, n, label in around
            if label < num_classes
        ]
        votes = sorted(votes, key=lambda vote: vote[0])[:neighbours]
        counted = [label for distance, label in votes if distance <= np.float32(cutoff)]
        if counted:
            prediction.append(max(sorted(set(counted)), key=counted.count))
        else:
            prediction.append(int(labels[projection.row[i], projection.col[i]]))
    return prediction


@pytest.mark.parametrize("by", ["range", "space"])
@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_pixel_agrees_with_naive_numpy(
    seed: int, view: str, window: int, by: str
) -> None:
    labels, projection, points = scene(seed, sensor=VIEWS[view])

    def distance(one: int, other: int) -> float:
        if by == "range":
            return abs(projection.depth[one] - projection.depth[other])
        difference = points[one, :3] - points[other, :3]
        return float((difference * difference).sum())

    expected = []
    for i in range(len(points)):
        if projection.row[i] < 0:
            expected.append(naive_default(labels, projection))
            continue
        around = naive_neighbours(labels, projection, i, window)
        nearest = min(around, key=lambda pixel: distance(pixel[2], i))  # the first of equal ones
        expected.append(nearest[3])
    if by == "range":
        found = nearest_label(labels, projection, window)
    else:
        found = nearest_point(labels, projection, points, window)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    if window == 1:
        np.testing.assert_array_equal(own_pixel(labels, projection), expected)


@pytest.mark.parametrize(
    ("neighbours", "window", "sigma", "cutoff"),
    [(5, 5, 1.0, 1.0), (7, 7, 1.0, 2.0), (1, 3, 0.5, 0.2), (30, 5, 2.0, np.inf), (3, 1, 1.0, 1.0),
     (5, 5, 1.0, 1e-6)],
)  # fmt: skip
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", range(3))
def test_knn_vote_agrees_with_naive_python(
    seed: int, view: str, neighbours: int, window: int, sigma: float, cutoff: float
) -> None:
    labels, projection, _ = scene(seed, sensor=VIEWS[view])
    labels[3:5, 4:9] = 255
    settings = (K, neighbours, window, sigma, cutoff)
    found = knn_vote(labels, projection, *settings)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, naive_knn(labels, projection, *settings))


def by_hand(places: list[tuple[int, int, float]], shape: tuple[int, int]) -> Projection:
    """A projection of points at (row, column, range)."""
    row, col, depth = (np.array(column) for column in zip(*places, strict=True))
    index = np.full(shape, -1, dtype=np.int32)
    for i, (r, c, d) in enumerate(places):
        if r >= 0 and (index[r, c] < 0 or d < depth[index[r, c]]):
            index[r, c] = i
    return Projection(row.astype(np.int32), col.astype(np.int32), depth.astype(np.float32), index)


def test_a_hidden_point_is_not_its_occluders() -> None:
    # A pole (label 3) at 5 m before a wall (label 1) at 20 m; the last point is the wall behind.
    places = [(1, c, 20.0) for c in (0, 1, 3, 4)] + [(1, 2, 5.0), (1, 2, 20.0)]
    projection = by_hand(places, (3, 30))
    labels = np.ones((3, 30), dtype=np.uint8)
    labels[1, 2] = 3
    assert own_pixel(labels, projection).tolist() == [1, 1, 1, 1, 3, 3]
    assert nearest_label(labels, projection).tolist() == [1, 1, 1, 1, 3, 1]
    assert knn_vote(labels, projection, K).tolist() == [1, 1, 1, 1, 3, 1]


def test_empty_pixels_and_the_border_have_no_vote() -> None:
    # One near point in the corner: zero padding would put neighbours of range 0, label 0 around it.
    projection = by_hand([(0, 0, 0.5), (0, 1, 0.6)], (4, 30))
    labels = np.zeros((4, 30), dtype=np.uint8)
    labels[0, :2] = 4
    for way in WAYS.values():
        assert way(labels, projection).tolist() == [4, 4]


def test_votes_beyond_the_cutoff_leave_the_own_pixel() -> None:
    # Everything is more than a metre from the hidden point. RangeNet++'s code says class 1 here.
    projection = by_hand([(1, 2, 5.0), (1, 2, 50.0), (1, 3, 5.1)], (3, 30))
    labels = np.full((3, 30), 4, dtype=np.uint8)
    labels[1, 3] = 2
    assert knn_vote(labels, projection, K).tolist()[1] == 4


@pytest.mark.parametrize("name", WAYS)
def test_points_without_a_pixel_get_the_most_common_prediction(name: str) -> None:
    projection = by_hand([(-1, -1, 0), (0, 1, 4), (0, 9, 4), (2, 15, 4), (2, 25, 4)], (3, 30))
    labels = np.zeros((3, 30), dtype=np.uint8)  # most pixels say 0, but they are empty
    labels[0, 1] = labels[0, 9] = 4
    labels[2, 15] = labels[2, 25] = 3
    assert WAYS[name](labels, projection).tolist() == [3, 4, 4, 3, 3]  # the lower of two


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("num_points", [0, 6])
def test_without_any_filled_pixel_it_is_class_zero(name: str, num_points: int) -> None:
    projection = project_points(np.zeros((num_points, 4), dtype=np.float32), IMAGE)
    labels = np.full((12, 24), 3, dtype=np.uint8)
    assert WAYS[name](labels, projection).tolist() == [0] * num_points


@pytest.mark.parametrize("name", WAYS)
def test_the_dtype_and_layout_of_the_labels_are_kept(name: str) -> None:
    labels, projection, _ = scene(0)
    wanted = WAYS[name](labels, projection)
    for dtype in (np.uint8, np.int64):
        found = WAYS[name](np.asfortranarray(labels.astype(dtype)), projection)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", WAYS)
def test_labels_of_another_size_are_refused(name: str) -> None:
    _, projection, _ = scene(0)
    with pytest.raises(ValueError, match=r"labels of \(12, 20\) pixels.*\(12, 24\)"):
        WAYS[name](np.zeros((12, 20), dtype=np.uint8), projection)


@pytest.mark.parametrize("window", [0, 4, -1])
def test_a_window_must_have_a_centre(window: int) -> None:
    labels, projection, _ = scene(0)
    with pytest.raises(ConfigError, match=f"odd number of pixels, found {window}"):
        nearest_label(labels, projection, window)
    with pytest.raises(ConfigError, match=f"odd number of pixels, found {window}"):
        knn_vote(labels, projection, K, window=window)


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"sigma": 0.0}, {"cutoff": float("nan")}])
def test_settings_of_the_vote_must_be_positive(wrong: dict[str, float]) -> None:
    labels, projection, _ = scene(0)
    with pytest.raises(ConfigError, match="neighbours, sigma and cutoff must be positive"):
        knn_vote(labels, projection, K, **wrong)  # type: ignore[arg-type]


def test_a_window_wider_than_the_image() -> None:
    projection = by_hand([(0, 0, 4.0), (0, 1, 5.0), (0, 0, 5.0)], (1, 2))
    labels = np.array([[1, 2]], dtype=np.uint8)
    assert nearest_label(labels, projection, 7).tolist() == [1, 2, 2]
    assert knn_vote(labels, projection, K, neighbours=1, window=7).tolist() == [1, 2, 2]


def test_nearest_point_takes_the_pixel_beside_the_point_not_one_at_its_range() -> None:
    """A wall point hidden by a pole: something else in the window is at its range."""
    labels = np.zeros((12, 24), np.uint8)
    hidden = np.array([5.0, 0.01, 0.1, 0])
    owner = hidden * [0.5, 0.5, 0.5, 1]  # same pixel, nearer
    angle = np.radians(16.0)
    beside = np.array([5.05 * np.cos(angle), 5.05 * np.sin(angle), 0.1, 0])
    far = np.array([5.0 * np.cos(-1.5 * angle), 5.0 * np.sin(-1.5 * angle), 0.1, 0])
    points = np.array([owner, hidden, beside, far], np.float32)
    projection = project_points(points, IMAGE)
    assert len(set(zip(projection.row, projection.col, strict=True))) == 3
    for i, label in ((0, 1), (2, 2), (3, 3)):
        labels[projection.row[i], projection.col[i]] = label
    assert nearest_label(labels, projection)[1] == 3
    assert nearest_point(labels, projection, points)[1] == 2


def test_nearest_point_refuses_other_points() -> None:
    labels, projection, points = scene(0)
    with pytest.raises(ValueError, match="699 points, but a projection of 700"):
        nearest_point(labels, projection, points[1:])
