"""What the tests of packed data sets share."""

from pathlib import Path

import pytest

from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.semantic_kitti import SemanticKitti
from tests.data_tools.kitti_layout import write_root


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of SemanticKITTI's layout."""
    folder = tmp_path_factory.mktemp("packed")
    source = SemanticKitti(write_root(folder / "kitti"))
    pack_dataset(source, "semantic_kitti", folder / "kitti.pack")
    return folder / "kitti.pack"
