"""A text and an endpoint's URL -> its answer, and the shell command that asks the same."""

import json
import shlex
import urllib.error
import urllib.request
from typing import Any

from pipelines.core.errors import ServeError

TIMEOUT_S = 60.0


def ask(url: str, text: str) -> dict[str, Any]:
    """The JSON answer of `/v1/classify` to one text.

    Raises:
        ServeError: the endpoint refused the text, or nothing listens at `url`.
    """
    body = json.dumps({"input": text}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/classify", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        message = json.load(error)["error"]["message"]
        raise ServeError(f"{url} answered {error.code}: {message}") from None
    except OSError as error:
        raise ServeError(
            f"{url} does not answer: {error}; start it with `rayline serve`"
        ) from error


def curl(url: str, text: str) -> str:
    """The command that asks the same in a shell."""
    body = shlex.quote(json.dumps({"input": text}, ensure_ascii=False))
    return f"curl -s {url}/v1/classify -H 'content-type: application/json' -d {body}"
