"""Every error a user can meet, as one small tree.

RaylineError                 exit 1
    ConfigError              exit 2   a setting, key, path or port the user can correct
    ArtifactError            exit 3   a stored artifact is missing, unfinished, torn or altered
        StorageError         exit 3   the storage cannot be reached; what lies there may be whole
    DataError                exit 4   input data that cannot be read or breaks an invariant
    ServeError               exit 5   an endpoint that cannot start or answer

The message says what was wrong, the value, what was expected and what to do. Each error takes that
one string, so it survives pickling between Ray processes.
"""


class RaylineError(Exception):
    """An error with a message meant for the user; the CLI prints it and exits with `exit_code`."""

    exit_code = 1


class ConfigError(RaylineError):
    """A setting, key, path or port that the user can correct."""

    exit_code = 2


class ArtifactError(RaylineError):
    """A stored artifact is missing, unfinished, torn or altered."""

    exit_code = 3


class StorageError(ArtifactError):
    """The storage cannot be reached, read or written now; what lies there may well be whole."""


class DataError(RaylineError):
    """Input data that cannot be read, or data that breaks a stage's invariant."""

    exit_code = 4


class ServeError(RaylineError):
    """An endpoint that cannot start or answer."""

    exit_code = 5
