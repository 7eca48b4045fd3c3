"""Judge `endpoint`: a vision model behind an address that speaks as OpenAI's chat completions do."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ambient.evaluation.judges import DAY, MOST, Answer, Unclear, answered, one_answer
from ambient.specs import JudgeSpec
from ambient.specs.strict import SpecError, require

QUESTION = ("Two images, A and B, were made for this prompt:\n{caption}\nWhich of the two follows the prompt "
            "better and looks better? End your answer with one word: A, B, or none if neither is better.")
WAITS = (1.0, 4.0, 16.0)  # seconds before it is asked again, where the other side is busy or out of reach
BUSY = (408, 409, 429, 500, 502, 503, 504)
SECRET = re.compile(r"(?i)(key|token|secret|passw|sig)\w*=")  # in a query
SHOWN = 200  # characters of a reply that is no answer


@dataclass(frozen=True, kw_only=True)
class Spec(JudgeSpec):
    """The key, where one is needed, is read from an environment variable and written nowhere."""

    RATE: ClassVar[float] = 0.5
    SHARD: ClassVar[int] = 10

    address: str  #: of chat completions, such as http://localhost:8000/v1/chat/completions
    model: str  #: as the endpoint calls it
    key_variable: str | None = None  #: name of the environment variable with the key; null: none is needed
    question: str = QUESTION  #: with {caption} in it
    seconds: float = 120.0  #: after which a call counts as failed

    def __post_init__(self) -> None:
        super().__post_init__()
        check_address(self.address)
        require("{caption}" in self.question, "question", self.question, "a text with {caption} in it")
        require(0 < self.seconds <= DAY, "seconds", self.seconds, f"(0, {DAY}]")


def check_address(address: str) -> None:
    """Raise `SpecError` for an address that nobody can be asked at, or with a secret: it is written down."""
    require(address.startswith(("http://", "https://")), "address", address, "http(s)://...")
    _, _, host = address.partition("://")
    secret = "@" in host.partition("/")[0] or SECRET.search(host.partition("?")[2])
    require(not secret, "address", "(hidden)",
            "one without a password or key in it, which is given by key_variable")
    try:
        parts = urllib.parse.urlsplit(address)
        possible = bool(parts.hostname) and parts.port != 0 and not re.search(r"[^!-~]", address)
    except ValueError:
        possible = False
    require(possible, "address", address, "http(s)://HOST[:PORT]/PATH in ASCII, without blanks")


def judge(spec: Spec, given: None) -> Callable[[Sequence[str], np.ndarray, np.ndarray], list[Answer]]:
    """The model's answers, one call a pair. Raises `ValueError` where there is none, or no key."""
    key = os.environ.get(spec.key_variable) if spec.key_variable else None
    if spec.key_variable and not key:
        raise SpecError(f"key_variable: the environment has no {spec.key_variable}, from which the "
                        "endpoint's key is read: set it where the job runs")
    require(key is None or key.isascii() and key.isprintable() and " " not in key, "key_variable",
            spec.key_variable, "a variable whose value has no blanks, line breaks or letters beyond ASCII")

    def ask(captions: Sequence[str], first: np.ndarray, second: np.ndarray) -> list[Answer]:
        return [one_answer(spec, one[0], partial(answer, spec, body(spec, *one), key))
                for one in zip(captions, first, second, strict=True)]

    return ask


def answer(spec: Spec, question: bytes, key: str | None) -> Answer:
    """One call. Raises `Unclear` for an answer that names none of the choices."""
    return answered(said(spec, question, key), spec.address)


def body(spec: Spec, caption: str, first: np.ndarray, second: np.ndarray) -> bytes:
    """The question as the endpoint takes it, with both images in it."""
    content = [{"type": "text", "text": spec.question.replace("{caption}", caption)}]
    for image in (first, second):
        file = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    return json.dumps({"model": spec.model, "temperature": 0,
                       "messages": [{"role": "user", "content": content}]}).encode()


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirection is an error: urllib would send the key to wherever it leads."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def text_of(spec: Spec, reply: Any) -> str:
    """The text of a chat completion. Raises `Unclear` where there is none, or only its beginning."""
    choice = reply["choices"][0]
    text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    if not isinstance(text, str):
        raise Unclear(spec.address, str(refusal or text))
    if choice.get("finish_reason") == "length":
        raise Unclear(spec.address, text, "an answer that is not cut short by a limit of its tokens")
    return text.strip()


def said(spec: Spec, question: bytes, key: str | None) -> str:
    """What the endpoint answers. It is asked again where it is busy."""
    opener = urllib.request.build_opener(Stay)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request, body = urllib.request.Request(spec.address, question, headers), b""
    for wait in (*WAITS, None):
        try:
            with opener.open(request, timeout=spec.seconds) as reply:
                body = whole(reply, spec.seconds)
            return text_of(spec, json.loads(body))
        except Unclear:
            raise
        except urllib.error.HTTPError as error:
            why, again = f"status {error.code}{complaint(error, key)}", error.code in BUSY
        except (OSError, http.client.HTTPException) as error:
            why, again = f"{type(error).__name__} {error}", True
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            why, again = f"no chat completion: {quoted(body, key)}", False
        if wait is None or not again:
            break
        time.sleep(wait)
    raise ValueError(f"{spec.address}: gave no answer ({why})")


def whole(reply: http.client.HTTPResponse, seconds: float) -> bytes:
    """The body of a reply. Raises `OSError` or `HTTPException` for one that is cut short, or has no end."""
    ends, body = time.monotonic() + seconds, b""
    while part := reply.read1(MOST):
        body += part
        if len(body) > MOST:
            raise OSError(f"a reply of more than {MOST:,} bytes")
        if time.monotonic() > ends:
            raise TimeoutError(f"the reply did not end in {seconds:g} s")
    if reply.length:
        raise http.client.IncompleteRead(body, reply.length)
    return body


def complaint(error: urllib.error.HTTPError, key: str | None) -> str:
    """What a reply says of its status; nothing where a key is refused, of which it may show a part."""
    if error.code in (401, 403):
        return ""
    with suppress(OSError, http.client.HTTPException):
        if body := error.read(MOST):
            return f": {quoted(body, key)}"
    return ""


def quoted(body: bytes, key: str | None) -> str:
    """The beginning of a reply, without the key."""
    text = body.decode(errors="replace")
    return repr((text.replace(key, "(key)") if key else text)[:SHOWN])
