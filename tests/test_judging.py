"""Verdicts on pairs from two answers by hand, bars as the paper's, and the stage that keeps them."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from ambient.data.datasets import Dataset, joined, write
from ambient.data.texts import Texts
from ambient.evaluation import judges
from ambient.evaluation.judges import FIRST, NONE, SECOND, UNCLEAR, Answer
from ambient.evaluation.judging import agreement, judged
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.report.judgements import ALL, bars
from ambient.specs import JudgeSpec
from ambient.stages import judge
from ambient.storage import arrays
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


def test_an_unclear_answer_is_no_tie():
    """Of two pairs the judge says nothing clear about one, in one order: it is neither, and is counted."""

    def wordless(captions, first, second):
        answers = brighter(captions, first, second)
        return [
            Answer(UNCLEAR, "hm") if caption == "b" and a.choice == FIRST else a
            for caption, a in zip(captions, answers, strict=True)
        ]

    found = judged(wordless, 0, KEYS[:2], ["a", "b"], *(one[:2] for one in sides(BRIGHT, DARK)))
    assert [one["verdict"] for one in found] == ["run", UNCLEAR] and agreement(found) == 0.5
    assert "hm" in {answer["said"] for answer in found[1]["answers"]}
    table = bars(found)
    assert table[["pairs", "wins", "ties", "unclear", "share"]].values.tolist() == [[1, 1, 0, 1, 1.0]]
    with pytest.raises(ValueError, match="no pairs were judged"):
        bars(found[1:])


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


def test_samples_too_many_for_memory_are_read_pair_by_pair(pairs, monkeypatch):
    monkeypatch.setattr(judges.KINDS["alignment"], "judge", lambda spec, given: brighter)
    spec = JudgeSpec("alignment", model="m", each=3, real="real", checks=2)
    held, _ = run_judge(pairs, spec)
    shutil.rmtree(pairs / "state")
    monkeypatch.setattr(arrays, "HELD", 0)
    stored, _ = run_judge(pairs, spec)
    assert stored == held


def test_more_unclear_answers_than_may_be_end_the_job(pairs, monkeypatch):
    """Two of twelve pairs: a sixth may be, a tenth may not. The first one is named with what was said."""

    def some(captions, first, second):
        unclear = np.arange(len(captions)) == 0
        return [Answer(UNCLEAR, "hm") if one else Answer(FIRST, "A") for one in unclear]

    monkeypatch.setattr(judges.KINDS["alignment"], "judge", lambda spec, given: some)
    monkeypatch.setattr(judges.KINDS["alignment"].Spec, "SHARD", 6)
    found, facts = run_judge(pairs, JudgeSpec("alignment", model="m", each=3, unclear=1 / 6))
    assert facts["unclear"] == 2
    assert [one["key"][1:] for one in found["pairs"] if one["verdict"] == UNCLEAR] == [[0, 0], [1, 0]]
    for _ in range(2):  # the second time from what is saved
        with pytest.raises(
            ValueError, match=re.escape("sample 0 of seed 0, 'a star': the judge said ['hm', 'hm']")
        ):
            run_judge(pairs, JudgeSpec("alignment", model="m", each=3, unclear=0.1))


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
