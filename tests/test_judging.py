"""Judges of pairs: verdicts from two answers by hand, programs and endpoints, bars as the paper's."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from ambient.data.datasets import Dataset, joined, write
from ambient.data.texts import Texts
from ambient.evaluation import judges
from ambient.evaluation.judges import FIRST, NONE, SECOND, Answer, endpoint
from ambient.evaluation.judging import agreement, judged
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.report.judgements import ALL, bars
from ambient.specs import JudgeSpec
from ambient.specs.strict import SpecError, build
from ambient.stages import judge
from ambient.storage.files import write_arrays

BRIGHT, DARK = np.full((1, 4, 4), 200, np.uint8), np.full((1, 4, 4), 20, np.uint8)
KEYS = [("sample", 0, k) for k in range(40)]


def brighter(captions, first, second):
    """A judge that prefers the brighter image, and says both means."""
    means = [(int(a.mean()), int(b.mean())) for a, b in zip(first, second, strict=True)]
    return [Answer(FIRST if a > b else SECOND if b > a else NONE, f"{a} {b}") for a, b in means]


def always_first(captions, first, second):
    return [Answer(FIRST, "A")] * len(captions)


def sides(images, others):
    return np.stack([images] * 40), np.stack([others] * 40)


def test_a_verdict_is_what_both_orders_say():
    """A judge of images names the same side twice; one that always says A names both, which is a tie."""
    found = judged(brighter, 0, KEYS, [""] * 40, *sides(BRIGHT, DARK))
    assert {one["verdict"] for one in found} == {"run"} and agreement(found) == 1
    found = judged(brighter, 0, KEYS, [""] * 40, *sides(DARK, BRIGHT))
    assert {one["verdict"] for one in found} == {"than"} and agreement(found) == 0
    for ask, pair in ((always_first, (BRIGHT, DARK)), (brighter, (DARK, DARK))):
        found = judged(ask, 0, KEYS, [""] * 40, *sides(*pair))
        assert {one["verdict"] for one in found} == {NONE} and agreement(found) == 0.5


def test_the_order_is_drawn_by_the_pairs_key_and_then_exchanged():
    found = judged(brighter, 0, KEYS, [""] * 40, *sides(BRIGHT, DARK))
    first = [one["answers"][0]["shown"] for one in found]
    for one in found:
        assert one["answers"][1]["shown"] == one["answers"][0]["shown"][::-1]
        said = {"run": "200 20", "than": "20 200"}
        assert [answer["said"] for answer in one["answers"]] == [said[a["shown"][0]] for a in one["answers"]]
    turned = sum(shown == ["than", "run"] for shown in first)
    assert 8 < turned < 32
    some = judged(brighter, 0, KEYS[5:7], [""] * 2, *(one[:2] for one in sides(BRIGHT, DARK)))
    assert [one["answers"][0]["shown"] for one in some] == first[5:7]
    other = judged(brighter, 1, KEYS, [""] * 40, *sides(BRIGHT, DARK))
    assert [one["answers"][0]["shown"] for one in other] != first


@pytest.mark.parametrize(
    ("said", "choice"),
    [("A", FIRST), ("The second one is better: B.", SECOND), ("Answer: none", NONE), ('"b"', SECOND)],
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
        ("sleep 5; echo A", "program: gave no answer in 0.2 s for 'c'"),
    ],
)
def test_a_program_that_fails_is_named(tmp_path, text, said):
    ask = judges.KINDS["command"].judge(
        JudgeSpec("command", seconds=0.2 if "sleep" in text else 60), program(tmp_path, text)
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        ask(["c"], BRIGHT[None], DARK[None])
    (tmp_path / "program").chmod(0o644)
    with pytest.raises(ValueError, match=re.escape("is no program that may be run, allowed: an executable")):
        judges.KINDS["command"].judge(JudgeSpec("command"), tmp_path / "program")


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
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": text}}]}).encode())

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
    spec = JudgeSpec("endpoint", address=server.address, model="m")
    for replies, said in (
        ([(401, "")], "gave no answer (status 401)"),
        ([(503, ""), (503, "")], "gave no answer (status 503)"),
    ):
        server.replies = list(replies)
        with pytest.raises(ValueError, match=re.escape(said)):
            judges.KINDS["endpoint"].judge(spec, None)(["c"], BRIGHT[None], DARK[None])
        assert server.replies == []
    keyed = JudgeSpec("endpoint", address=server.address, model="m", key_variable="NO_SUCH_KEY")
    with pytest.raises(SpecError, match="key_variable: the environment has no NO_SUCH_KEY"):
        judges.KINDS["endpoint"].judge(keyed, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "alignment", "model": "m", "checks": 3}, "real: got None, allowed: a name in datasets"),
        ({"kind": "alignment", "model": "m", "tie": -1.0}, "tie: got -1.0"),
        ({"kind": "alignment", "model": "m", "path": "p"}, "path: got 'p', allowed: null: kind alignment"),
        ({"kind": "endpoint", "address": "x", "model": "m"}, "address: got 'x'"),
        ({"kind": "endpoint", "address": "http://a:b@c/", "model": "m"}, "address: got '(hidden)'"),
        ({"kind": "endpoint", "address": "http://c/", "model": "m", "question": "?"}, "question: got '?'"),
        ({"kind": "command", "seconds": 0.0}, "seconds: got 0.0"),
        ({"kind": "command", "pairs": 0}, "pairs: got 0"),
    ],
)
def test_settings_are_held_to_their_ranges(values, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        build(JudgeSpec, values, "judges.j")


def records(caption, wins, ties, losses):
    return [
        {"caption": caption, "verdict": verdict}
        for verdict, count in (("run", wins), (NONE, ties), ("than", losses))
        for _ in range(count)
    ]


def test_bars_split_ties_in_half_as_the_papers_do():
    """As in Figure 7: 3.5 and 6.5 of 10, rounded down to 35 and 65; each bar with Wilson's interval."""
    table = bars(records("a star", 6, 1, 3) + records("two stars", 1, 0, 3) + records("else", 0, 2, 0))
    table = table.set_index("prompts")
    assert table.index.tolist() == [ALL, "single_object", "counting"]
    assert table.loc["single_object", ["pairs", "wins", "ties", "losses"]].tolist() == [10, 6, 1, 3]
    assert int(100 * table["share"]["single_object"]) == 65
    assert table["share"][ALL] == pytest.approx((7 + 1.5) / 16) and table["pairs"][ALL] == 16
    z, n, p = 1.96, 10, 0.65
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert table["low"]["single_object"] == pytest.approx((middle - half) / (1 + z**2 / n))
    assert table["high"]["single_object"] == pytest.approx((middle + half) / (1 + z**2 / n))
    with pytest.raises(ValueError, match="no pairs were judged"):
        bars([])


@pytest.fixture
def pairs(tmp_path):
    """Samples of two seeds, three of a caption: the run's are brighter in seed 0, darker in seed 1."""
    captions = Texts.of(["a star", "two hearts"])
    write(
        tmp_path / "real",
        Dataset(np.stack([BRIGHT, DARK]), np.zeros(2, int), np.arange(2), captions=captions),
    )
    ours = np.stack([np.stack([BRIGHT] * 6), np.stack([DARK] * 6)])
    write_arrays(tmp_path / "run", {"8": ours})
    write_arrays(tmp_path / "than", {"8": ours[::-1].copy()})
    return tmp_path


def run_judge(pairs, spec, than="than"):
    record = SimpleNamespace(facts={}, external=lambda *arguments: None)
    judge.main(
        spec,
        record,
        samples=pairs / "run",
        than=pairs / than,
        captions=pairs / "real",
        real=pairs / "real" if spec.real else None,
        model=pairs / "model",
        state=State(pairs / "state", Identity("judge", {})),
        out=pairs / "out.json",
    )
    return json.loads((pairs / "out.json").read_text()), record.facts


def test_the_stage_keeps_every_answer_by_caption_and_latent(pairs, monkeypatch):
    """In shards of four pairs; a second attempt asks about none that is saved. Checks are of real images."""
    asked = []

    def counted(captions, first, second):
        asked.extend(captions)
        return brighter(captions, first, second)

    monkeypatch.setattr(judges.KINDS["alignment"], "judge", lambda spec, given: counted)
    monkeypatch.setattr(judges.KINDS["alignment"].Spec, "SHARD", 4)
    spec = JudgeSpec("alignment", model="m", each=3, real="real", checks=2)
    found, facts = run_judge(pairs, spec)
    assert [one["key"] for one in found["pairs"]] == [
        ["sample", seed, k] for seed in (0, 1) for k in range(6)
    ]
    assert [one["caption"] for one in found["pairs"]] == (["a star"] * 3 + ["two hearts"] * 3) * 2
    assert [one["verdict"] for one in found["pairs"]] == ["run"] * 6 + ["than"] * 6
    assert [one["verdict"] for one in found["checks"]] == [
        "run",
        "than",
    ]  # the star's image is the brighter one
    assert found["agreement"] == facts["agreement"] == 0.5 and len(asked) == 28
    again, _ = run_judge(pairs, spec)
    assert again == found and len(asked) == 28
    assert "group" not in found["pairs"][0]
    few, _ = run_judge(pairs, JudgeSpec("alignment", model="m", each=3, pairs=2))
    assert len(few["pairs"]) == 2 and few["agreement"] is None


def test_pairs_know_the_category_of_their_caption(pairs, monkeypatch):
    """As a list of prompts names it; bars are of categories then, in the order of the alphabet."""
    monkeypatch.setattr(judges.KINDS["alignment"], "judge", lambda spec, given: brighter)
    captions = Texts.of(["a star", "two hearts"])
    write(
        pairs / "real",
        Dataset(
            None, np.zeros(2, int), np.arange(2), captions=captions, names=joined(["Text/1", "Colors/2"])
        ),
    )
    found, _ = run_judge(pairs, JudgeSpec("alignment", model="m", each=3))
    assert [one["group"] for one in found["pairs"]] == (["Text"] * 3 + ["Colors"] * 3) * 2
    table = bars(found["pairs"])
    assert table["prompts"].tolist() == [ALL, "Colors", "Text"] and table["share"].tolist() == [0.5] * 3


def test_samples_that_are_no_pairs_are_refused(pairs, monkeypatch):
    monkeypatch.setattr(judges.KINDS["alignment"], "judge", lambda spec, given: brighter)
    write_arrays(pairs / "fewer", {"8": np.zeros((2, 4, 1, 4, 4), np.uint8)})
    with pytest.raises(
        ValueError, match=re.escape("samples of the shapes (2, 6, 1, 4, 4) and (2, 4, 1, 4, 4) are no")
    ):
        run_judge(pairs, JudgeSpec("alignment", model="m"), "fewer")
