"""A text and an endpoint's URL -> its answer, and the shell command that asks the same."""

import json
import shlex
import urllib.error
import urllib.request

from pipelines.core.config import Json
from pipelines.core.errors import ServeError

TIMEOUT_S = 60.0
SHOWN = 200  # characters of an answer that is not ours


def ask(url: str, text: str) -> Json:
    """The JSON answer of `/v1/classify` to one text.

    Raises:
        ServeError: the endpoint refused the text, what listens at `url` is none, or nothing does.
    """
    body = json.dumps({"input": text}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/classify", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer: Json = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise ServeError(f"{url} answered {error.code}: {_message(error.read())}") from None
    except ValueError as error:
        raise ServeError(f"{url} answered no JSON, so it is no Rayline endpoint") from error
    except OSError as error:
        raise ServeError(
            f"{url} does not answer: {error}; start it with `rayline serve`"
        ) from error


def curl(url: str, text: str) -> str:
    """The command that asks the same in a shell."""
    body = shlex.quote(json.dumps({"input": text}, ensure_ascii=False))
    return f"curl -s {url}/v1/classify -H 'content-type: application/json' -d {body}"


def _message(body: bytes) -> str:
    """What an error's body says: our JSON, or the plain text of Ray's proxy or another one."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:SHOWN]
