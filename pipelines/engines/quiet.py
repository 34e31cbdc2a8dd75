"""Silence for native converters, which write to file descriptors 1 and 2, past `sys.stdout`."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what the block prints, at any level of the process, to the debug log.

    One conversion prints about 90 lines. Other threads' output is taken with it, so the stages
    convert in a worker process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in enumerate(terminal, start=1):
                os.dup2(saved, number)
                os.close(saved)
            sink.seek(0)
            log.debug("%s", sink.read().decode(errors="replace"))
