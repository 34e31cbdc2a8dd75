"""One request by hand: the answer, a refusal in words, and a shell command that quotes its text."""

import http.server
import json
import shlex
import threading
from collections.abc import Iterator

import pytest

from pipelines.core.errors import ServeError
from pipelines.serve.client import ask, curl
from tests.ports import free_port


def test_the_shell_command_holds_the_very_text() -> None:
    text = 'it\'s "quoted" $HOME 中文'
    words = shlex.split(curl("http://127.0.0.1:8000", text))
    assert words[2] == "http://127.0.0.1:8000/v1/classify"
    assert json.loads(words[-1]) == {"input": text}


def test_nothing_at_the_address_is_a_clear_error() -> None:
    port = free_port()
    with pytest.raises(ServeError, match=f"127.0.0.1:{port} does not answer"):
        ask(f"http://127.0.0.1:{port}", "a text")


def test_an_answer_comes_back_and_a_refusal_is_told_in_words(served) -> None:
    assert ask(served, "a longer text")["data"][0]["label"] == "yes"
    with pytest.raises(ServeError, match="answered 422: "):
        ask(served, "")


class Plain(http.server.BaseHTTPRequestHandler):
    """Answers in plain text, as Ray's proxy does when it fails itself."""

    status, text = 200, b"hello"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def plain() -> Iterator[str]:
    """The URL of a server that is no endpoint of ours."""
    with http.server.HTTPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("body", [b"Request failed: no replica\n", b'{"detail": "no"}', b"[1]"])
def test_an_error_that_is_not_ours_is_told_with_its_status_and_text(
    plain: str, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(Plain, "status", 503)
    monkeypatch.setattr(Plain, "text", body)
    with pytest.raises(ServeError, match="answered 503: ") as refused:
        ask(plain, "a text")
    assert str(refused.value).endswith(body.decode().strip())


def test_an_answer_that_is_no_json_is_a_clear_error(plain: str) -> None:
    with pytest.raises(ServeError, match="no Rayline endpoint"):
        ask(plain, "a text")
