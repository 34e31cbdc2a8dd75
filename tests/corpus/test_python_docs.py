"""Docstrings: which statements have them, in which order, of which files."""

import pytest

from pipelines.core.errors import DataError
from pipelines.corpus.python_docs import docstrings, modules

SOURCE = b'''"""The module's own docstring, of more than forty characters."""
if True:
    def first():
        """A function inside a branch, of more than forty characters."""
        return "\\d is an invalid escape, which must not warn"
class Second:
    """A class, of more than forty characters, with a method."""
    async def third(self):
        """Short."""
        def fourth():
            """A function in a method, of more than forty characters."""
'''


def test_modules_classes_and_functions_are_read_in_order_and_short_ones_dropped():
    assert [text.split(",")[0] for text in docstrings(SOURCE)] == [
        "The module's own docstring",
        "A function inside a branch",
        "A class",
        "A function in a method",
    ]


def test_what_is_not_python_raises():
    with pytest.raises(SyntaxError):
        docstrings(b"def broken(:")


def test_the_first_files_in_sorted_order_are_chosen_without_tests():
    names = [module.name for module in modules("numpy", 40)]
    assert len(names) == 40
    assert names == [module.name for module in modules("numpy", 400)][:40]
    assert not any("tests/" in name for name in names)


def test_a_missing_package_is_named():
    with pytest.raises(DataError, match="nosuchpackage is not an installed package"):
        modules("nosuchpackage", 1)
