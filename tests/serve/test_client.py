"""One request by hand: the answer, a refusal in words, and a shell command that quotes its text."""

import json
import shlex
import socket

import pytest

from pipelines.core.errors import ServeError
from pipelines.serve.client import ask, curl


def test_the_shell_command_holds_the_very_text() -> None:
    text = 'it\'s "quoted" $HOME 中文'
    words = shlex.split(curl("http://127.0.0.1:8000", text))
    assert words[2] == "http://127.0.0.1:8000/v1/classify"
    assert json.loads(words[-1]) == {"input": text}


def test_nothing_at_the_address_is_a_clear_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServeError, match=f"127.0.0.1:{port} does not answer"):
        ask(f"http://127.0.0.1:{port}", "a text")


def test_an_answer_comes_back_and_a_refusal_is_told_in_words(served) -> None:
    assert ask(served, "a longer text")["data"][0]["label"] == "yes"
    with pytest.raises(ServeError, match="answered 422: "):
        ask(served, "")
