"""A notice that this node or process will be taken away in; the step after which to leave out.

The driver sees that a node of the group is being drained (a spot machine's notice, or Kubernetes
deleting its pod) and leaves a file in the step's workspace; a SIGTERM reaches one process alone.
Process 0 looks for the file in a thread, so that a slow store costs no step any time, and what any
process knows travels with the sums of the next step. So all leave after the same step, with its
checkpoint, and none is repeated.
"""

import threading
from types import TracebackType

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError
from pipelines.core.group import LEAVE, TERMINATED

POLL_S = 0.5  # seconds between looks for the driver's file


class Notice:
    """Whether this process knows that its group shall end; looks while its `with` block runs."""

    def __init__(self, out: Workspace, rank: int) -> None:
        self._out, self._rank = out, rank
        self._seen, self._closed = threading.Event(), threading.Event()

    def __enter__(self) -> "Notice":
        if not self._rank:
            threading.Thread(target=self._look, name="notice", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()

    def given(self) -> bool:
        """Whether to leave after this step; costs no time."""
        return self._seen.is_set() or TERMINATED.is_set()

    def _look(self) -> None:
        while not self._closed.wait(POLL_S):
            try:
                if self._out.exists(LEAVE):
                    self._seen.set()
                    return
            except ArtifactError:  # a store that does not answer now may answer the next time
                continue
