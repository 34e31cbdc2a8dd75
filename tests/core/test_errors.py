import pickle

import pytest

from pipelines.core import errors

TREE = [
    (errors.RaylineError, 1),
    (errors.ConfigError, 2),
    (errors.ArtifactError, 3),
    (errors.DataError, 4),
    (errors.ServeError, 5),
]


@pytest.mark.parametrize(("kind", "code"), TREE)
def test_an_error_survives_pickling_with_its_message_and_exit_code(kind, code):
    again = pickle.loads(pickle.dumps(kind("split=tset: no such split; use train or test")))
    assert type(again) is kind
    assert str(again) == "split=tset: no such split; use train or test"
    assert again.exit_code == code
    assert isinstance(again, errors.RaylineError)


def test_exit_codes_tell_the_errors_apart():
    assert len({kind.exit_code for kind, _ in TREE}) == len(TREE)
