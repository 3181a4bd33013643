"""A training's curves and pictures for TensorBoard."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.engine.validation import Validated
from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)


class TensorBoard:
    """Writes curves while the disk allows it.

    A full disk gives one warning and stops the curves. It must neither end a training nor hide
    another error.

    Args:
        folder: folder of the curves; created if missing.
        step: finished steps; later ones in the folder are hidden.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "train.tensorboard needs TensorBoard: pip install 'rangeseg[tensorboard]'"
            ) from None
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._hook = threading.excepthook
        threading.excepthook = self._say_nothing
        with self._giving_up():
            self._writer = SummaryWriter(str(folder), purge_step=step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        with self._giving_up():
            for name, value in values.items():
                if self._writer is not None:
                    self._writer.add_scalar(name, value, step)

    def validation(self, step: int, validated: Validated) -> None:
        """Add the IoU of each class, and the picture, if any."""
        known = {f"val_iou/{n}": v for n, v in validated.iou.items() if v is not None}
        self.scalars(step, known)
        with self._giving_up():
            if validated.picture is not None and self._writer is not None:
                self._writer.add_image("validation", validated.picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write the rest."""
        with self._giving_up():
            if self._writer is not None:
                self._writer.close()
        threading.excepthook = self._hook

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            reason = error.strerror or error
            _log.warning("%s cannot be written (%s); the run goes on without", self._folder, reason)

    def _say_nothing(self, ended: threading.ExceptHookArgs) -> None:
        """Silence the traceback of TensorBoard's thread; the next call raises its error."""
        if not type(ended.thread).__module__.startswith("tensorboard"):
            self._hook(ended)
