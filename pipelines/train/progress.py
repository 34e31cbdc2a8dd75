"""Points of a running step to the file that whoever follows the run reads."""

import json
import logging
import time

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import StorageError
from pipelines.core.group import PROGRESS

log = logging.getLogger(__name__)

POINTS = 100  # progress points a run
WRITE_S = 1.0  # seconds between rewrites of the progress file


class Progress:
    """Points of this try, kept in the workspace."""

    def __init__(self, out: Workspace, steps: int) -> None:
        self._out, self._steps = out, steps
        self._points: list[Json] = []
        self._written = 0.0

    def add(self, point: Json, measured: dict[str, float], *, kept: bool = False) -> None:
        """Note a step: one of about a hundred, or one that a checkpoint is kept of.

        By the latter whoever starts a lost group again sees that it got further.
        """
        last = point["step"] == self._steps
        if point["step"] % max(1, self._steps // POINTS) and not (last or kept):
            return
        rates = {name: figure for name, figure in measured.items() if name != "seconds"}
        self._points.append(point | rates | {"steps": self._steps})
        if last or time.monotonic() - self._written >= WRITE_S:
            self.close()

    def close(self) -> None:
        """Write what was noted; that it cannot be written now is no reason to stop."""
        try:
            self._out.write(PROGRESS, json.dumps(self._points).encode())
        except StorageError as error:
            log.warning("progress is not shown: %s", error)
        self._written = time.monotonic()
