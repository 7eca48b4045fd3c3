"""Kinds of judges: what programs and endpoints are asked, what they may answer, failures named."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from ambient.evaluation import judges
from ambient.evaluation.judges import FIRST, NONE, SECOND, UNCLEAR, Answer, endpoint
from ambient.specs import JudgeSpec
from ambient.specs.strict import SpecError, build

BRIGHT, DARK = np.full((1, 4, 4), 200, np.uint8), np.full((1, 4, 4), 20, np.uint8)


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("A", FIRST),
        ("The second one is better: B.", SECOND),
        ("Answer: none", NONE),
        ('"b"', SECOND),
        ("Answer: **A**", FIRST),
    ],
)
def test_an_answer_ends_in_its_choice(said, choice):
    assert judges.answered(said, "x") == Answer(choice, said)


@pytest.mark.parametrize("said", ["", "A or B?", "neither"])
def test_other_answers_are_refused(said):
    with pytest.raises(ValueError, match="x answered .*, allowed: a text that ends in A, B or none"):
        judges.answered(said, "x")


def program(folder, text):
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_is_told_caption_and_images(tmp_path):
    """It prefers the larger file; the caption is an argument of its own, whatever is in it."""
    text = 'echo "$1"; [ $(wc -c < "$2") -gt $(wc -c < "$3") ] && echo A || echo B'
    noisy = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    plain = np.zeros((3, 32, 32), np.uint8)
    ask = judges.KINDS["command"].judge(JudgeSpec("command"), program(tmp_path, text))
    found = ask(["a; $(x) 'star", "b"], np.stack([noisy, plain]), np.stack([plain, noisy]))
    assert found == [Answer(FIRST, "a; $(x) 'star\nA"), Answer(SECOND, "b\nB")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo broken >&2; exit 3", "program: failed with status 3 for the caption 'c': broken"),
        ("echo perhaps", "program answered 'perhaps'"),
        (
            "true",
            "program answered '', allowed: a text that ends in A, B or none, asked about the caption 'c'",
        ),
        (r"printf '\377'", "program answered '\ufffd'"),
        ("sleep 5; echo A", "program: gave no answer in 0.2 s for 'c'"),
        ("sleep 5 & echo A", "program: gave no answer in 0.2 s for 'c'"),
        ("yes", "program: printed more than 1,048,576 bytes, allowed: a text that ends in A, B or none"),
        ("yes | head -c 5000000 >&2; exit 3", "program: failed with status 3"),
    ],
)
def test_a_program_that_fails_is_named(tmp_path, text, said):
    ask = judges.KINDS["command"].judge(
        JudgeSpec("command", seconds=0.2 if "sleep" in text else 60), program(tmp_path, text)
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        ask(["c"], BRIGHT[None], DARK[None])
    with pytest.raises(ValueError, match="program: sha256 is .*, the judge's setting sha256 is 0{64}"):
        judges.KINDS["command"].judge(JudgeSpec("command", sha256="0" * 64), tmp_path / "program")
    (tmp_path / "program").chmod(0o644)
    with pytest.raises(ValueError, match=re.escape("is no program that may be run, allowed: an executable")):
        judges.KINDS["command"].judge(JudgeSpec("command"), tmp_path / "program")
    with pytest.raises(ValueError, match="is no program that may be run"):
        judges.KINDS["command"].judge(JudgeSpec("command"), tmp_path)


def test_a_program_that_cannot_be_started_is_named(tmp_path):
    for caption, said in (("c", "No such file or directory"), ("a\0b", "embedded null byte")):
        started = program(tmp_path, "echo A")
        if caption == "c":
            started.write_text("#!/no/such/shell\n")
        with pytest.raises(ValueError, match=f"program: can't be started for the caption .*{said}"):
            judges.KINDS["command"].judge(JudgeSpec("command"), started)([caption], BRIGHT[None], DARK[None])


@pytest.fixture
def server():
    """An endpoint on this machine: it answers with the next of `replies`, and keeps what it was asked."""
    state = SimpleNamespace(asked=[], keys=[], replies=[])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state.keys.append(self.headers["Authorization"])
            status, text = state.replies.pop(0)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", state.address)
            self.end_headers()
            choice = text if isinstance(text, dict) else {"message": {"content": text}}
            as_is = isinstance(text, bytes)
            self.wfile.write(text if as_is else json.dumps({"choices": [choice]}).encode())

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        state.address = f"http://127.0.0.1:{http.server_port}/v1/chat/completions"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield state
        http.shutdown()


def test_an_endpoint_is_asked_as_chat_completions_are(server, monkeypatch):
    """With both images as PNG, the caption in the question, the key as a bearer; again where it is busy."""
    monkeypatch.setattr(endpoint, "WAITS", (0.0, 0.0))
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server.replies = [(429, ""), (200, "I prefer A"), (200, "B")]
    spec = JudgeSpec("endpoint", address=server.address, model="m", key_variable="JUDGE_KEY")
    ask = judges.KINDS["endpoint"].judge(spec, None)
    found = ask(["a star", "b"], np.stack([BRIGHT] * 2), np.stack([DARK] * 2))
    assert found == [Answer(FIRST, "I prefer A"), Answer(SECOND, "B")]
    assert server.keys == ["Bearer secret"] * 3 and server.asked[0] == server.asked[1]
    question = server.asked[0]["messages"][0]["content"]
    assert "a star" in question[0]["text"] and server.asked[0]["model"] == "m"
    assert [one["image_url"]["url"][:22] for one in question[1:]] == ["data:image/png;base64,"] * 2


def test_an_endpoint_that_refuses_is_named_and_no_key_is_an_error(server, monkeypatch):
    monkeypatch.setattr(endpoint, "WAITS", (0.0,))
    monkeypatch.setenv("JUDGE_KEY", "secret")
    spec = JudgeSpec("endpoint", address=server.address, model="m", key_variable="JUDGE_KEY")
    for replies, said in (
        ([(401, b"no key secret")], "gave no answer (status 401)"),
        ([(404, b"no model m for secret")], "gave no answer (status 404: 'no model m for (key)')"),
        ([(503, b""), (503, b"")], "gave no answer (status 503)"),
        ([(302, b"")], "gave no answer (status 302)"),  # the key goes nowhere else
        ([(200, b"<html>")], "gave no answer (no chat completion: '<html>')"),
        ([(200, b" " * 2**20 + b"x")] * 2, "gave no answer (OSError a reply of more than 1,048,576 bytes)"),
        ([(200, {"message": {"content": None, "refusal": "I can't"}})], 'answered "I can\'t", allowed'),
        ([(200, {"message": {"content": None}})], "answered 'None', allowed"),  # no tie
        ([(200, {"message": {"content": "there is a"}, "finish_reason": "length"})], "not cut short"),
        ([(200, "")], "answered '', allowed: a text that ends in A, B or none, asked about the caption 'c'"),
        ([(200, {"message": []})], "gave no answer (no chat completion: '{\"choices\""),
    ):
        server.replies = list(replies)
        with pytest.raises(ValueError, match=re.escape(said)):
            judges.KINDS["endpoint"].judge(spec, None)(["c"], BRIGHT[None], DARK[None])
        assert server.replies == []
    server.replies = [(200, "neither is"), (200, "A")]
    some = JudgeSpec("endpoint", address=server.address, model="m", unclear=0.5)
    asked = judges.KINDS["endpoint"].judge(some, None)(
        ["c", "d"], *(np.stack([one] * 2) for one in (BRIGHT, DARK))
    )
    assert asked == [Answer(UNCLEAR, "neither is"), Answer(FIRST, "A")]
    keyed = JudgeSpec("endpoint", address=server.address, model="m", key_variable="NO_SUCH_KEY")
    with pytest.raises(SpecError, match="key_variable: the environment has no NO_SUCH_KEY"):
        judges.KINDS["endpoint"].judge(keyed, None)
    monkeypatch.setenv("JUDGE_KEY", "secret\n")  # http.client would show it in its error
    with pytest.raises(SpecError, match="key_variable: got 'JUDGE_KEY', allowed: a variable whose value"):
        judges.KINDS["endpoint"].judge(spec, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "alignment", "model": "m", "checks": 3}, "real: got None, allowed: a name in datasets"),
        ({"kind": "alignment", "model": "m", "tie": -1.0}, "tie: got -1.0"),
        ({"kind": "alignment", "model": "m", "path": "p"}, "path: got 'p', allowed: null: kind alignment"),
        ({"kind": "endpoint", "address": "x", "model": "m"}, "address: got 'x'"),
        ({"kind": "endpoint", "address": "http://a:b@c/", "model": "m"}, "address: got '(hidden)'"),
        ({"kind": "endpoint", "address": "http://c/", "model": "m", "question": "?"}, "question: got '?'"),
        ({"kind": "endpoint", "address": "http://c/?api-key=k", "model": "m"}, "address: got '(hidden)'"),
        ({"kind": "endpoint", "address": "http:///c", "model": "m"}, "allowed: http(s)://HOST[:PORT]/PATH"),
        ({"kind": "endpoint", "address": "http://c:99999/", "model": "m"}, "allowed: http(s)://HOST"),
        ({"kind": "command", "seconds": 0.0}, "seconds: got 0.0"),
        ({"kind": "command", "seconds": 1e9}, "seconds: got 1000000000.0, allowed: (0, 86400]"),
        ({"kind": "command", "pairs": 0}, "pairs: got 0"),
        ({"kind": "command", "unclear": 1.0}, "unclear: got 1.0, allowed: [0, 1)"),
    ],
)
def test_settings_are_held_to_their_ranges(values, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        build(JudgeSpec, values, "judges.j")
