"""Fields by their names."""

from __future__ import annotations

import pytest

from rangeseg.datasets.formats import column_names, find_roles, roles_of
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("x y z intensity ring time", "x y z intensity ring time -"),
        ("x y z i line t label", "x y z i line t label"),
        ("X Y Z Reflectivity laser_id timeStamp", "X Y Z Reflectivity laser_id timeStamp -"),
        ("x y z intensity return_type channel azimuth time_stamp", "x y z intensity channel "
         "time_stamp -"),
        ("x y z intensity t reflectivity ring ambient range", "x y z intensity ring t -"),
        ("scalar_Label x y z scalar_Intensity", "x y z scalar_Intensity - - scalar_Label"),
        ("x y z intensity classification gps_time scanner_channel",
         "x y z intensity - gps_time classification"),
        ("x y z", "x y z - - - -"),
        ("a b", "- - - - - - -"),
    ],
)  # fmt: skip
def test_usual_names(names: str, expected: str) -> None:
    roles = ("x", "y", "z", "intensity", "ring", "time", "label")
    found = {r: n for r, n in zip(roles, expected.split(), strict=True) if n != "-"}
    assert find_roles(names.split(), {}) == found
    assert find_roles(names.split()[::-1], {}) == found  # the order does not matter


def test_stated_names() -> None:
    names = ["x", "y", "z", "lambertian", "intensity", "row"]
    found = find_roles(names, {"intensity": "lambertian", "ring": "row"})
    assert found["intensity"] == "lambertian"
    assert found["ring"] == "row"
    with pytest.raises(DataError, match=r"no field 'rwo', which layout\.fields\.ring names; it h"):
        find_roles(names, {"ring": "rwo"})
    # A field that is said to be one thing is not another.
    assert "label" not in find_roles(["x", "y", "z", "class"], {"ring": "class"})


def test_columns() -> None:
    names = column_names(6)
    assert names == ("x", "y", "z", "intensity", "column_4", "column_5")
    assert column_names(3) == ("x", "y", "z")
    layout = Layout(columns=6, ring_column=5, time_column=4)
    assert roles_of(names, layout)["ring"] == "column_5"
    assert roles_of(names, layout)["time"] == "column_4"
    with pytest.raises(DataError, match=r"has 4 values a point, but layout\.ring_column is 5"):
        roles_of(names[:4], layout)
    swapped = Layout(fields={"intensity": "column_4", "ring": "intensity"}, columns=5)
    assert roles_of(column_names(5), swapped)["intensity"] == "column_4"


def test_a_label_may_be_missing() -> None:
    layout = Layout(fields={"label": "truth"})
    assert "label" not in roles_of(["x", "y", "z"], layout)
    assert roles_of(["x", "y", "z", "truth"], layout)["label"] == "truth"
