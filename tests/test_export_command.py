"""`python -m ambient export`: weights that load alike, a card that says what tables and manifests say."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import ambient
from ambient.commands import card, export, hub
from ambient.provenance import manifest
from ambient.specs import SamplerSpec
from ambient.storage.files import read_arrays, read_json, sha256, write_json

ROOT = Path(__file__).parents[1]
RUN = "results/away/runs/ambient-blur-0.6/seed-0"


@pytest.fixture
def out(away, tmp_path):
    """An export of the scale's ambient run."""
    assert export.main(["away", "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def test_the_weights_are_the_last_snapshots_and_the_snippet_runs(out):
    names = {"model.safetensors", "README.md", "example.py", "contact-sheet.png", "provenance.json",
             "training.manifest.json"}
    assert {path.name for path in out.iterdir()} == names
    mine = ambient.load_denoiser(out / "model.safetensors")
    theirs = ambient.load_denoiser(f"{RUN}/denoiser.safetensors")
    x, sigma = torch.linspace(-2, 2, 192).reshape(3, 1, 8, 8), torch.tensor([0.1, 1.0, 9.0])
    torch.testing.assert_close(mine(x, sigma), theirs(x, sigma), rtol=0, atol=0)
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert code == (out / "example.py").read_text()
    saved = code + "import numpy\nnumpy.save('drawn.npy', images)\n"
    subprocess.run([sys.executable, "-c", saved], cwd=out, check=True,
                   env=os.environ | {"PYTHONPATH": str(ROOT)})
    samples = read_arrays(f"{RUN}/samples.safetensors")["256"][0]
    np.testing.assert_array_equal(np.load(out / "drawn.npy"), samples[:16])
    assert np.asarray(Image.open(out / "contact-sheet.png")).shape == (6 * 64, 7 * 64)


def test_the_snippet_says_all_that_the_sampler_does_not_leave_at_its_default():
    sampler = SamplerSpec(18, 0.002, 80.0, 7.0, S_churn=40.0, S_min=0.05, S_max=50.0, S_noise=1.003)
    (call,) = (node for node in ast.walk(ast.parse(export.snippet(sampler, (3, 32, 32), True)))
               if isinstance(node, ast.Call) and node.func.attr == "sample")
    assert {one.arg: one.value.value for one in call.keywords} == {
        "count": 16, "seed": 0, "steps": 18, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0,
        "S_churn": 40.0, "S_min": 0.05, "S_max": 50.0, "S_noise": 1.003, "encoder": "encoder.safetensors"}


def test_the_card_says_what_tables_and_manifests_say(out):
    text = (out / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    table = pd.read_csv("results/away/table2a.csv").set_index("run_id")
    row = table.loc["runs/ambient-blur-0.6"]
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(row["value"], abs=1e-4)
    assert result["metrics"][0]["type"] == row["metric"] == "fd-digitnet"
    assert (head["license"], head["license_name"]) == ("other", card.FILL_IN)
    assert f"| **Ambient-o** | {row['value']:.2f} |  | {row['value_std']:.2f} |" in text
    assert f"| Only Clean | {table.loc['runs/only-clean']['value']:.2f} |" in text
    assert "40 samples a seed; one training seed" in text and "150 images of digits" in text
    facts = manifest.read(Path("results/away/data/digits.safetensors.manifest.json"))
    assert f"SHA-256 `{facts['external'][0]['sha256']}`" in text
    assert "150 images of 1 x 8 x 8 pixels, 10 classes (0 14, 1 12," in text
    assert "blur, 0.6 px" in text and "Learnt from: 29 clean images, and 121 others" in text
    root = manifest.read(Path("results/away/table2a.csv.manifest.json"))["root"]
    assert f"the {root['manifests']} manifests of table2a.csv | `{root['sha256']}`" in text
    found = read_json(out / "provenance.json")
    assert found["weights_sha256"] == sha256(f"{RUN}/denoiser.safetensors")
    assert found["provenance_root"]["sha256"] in text and found["sampling"]["num_samples"] == 40
    assert (out / "training.manifest.json").read_bytes() == Path(
        f"{RUN}/denoiser.safetensors.manifest.json").read_bytes()


def test_a_scale_without_its_table_says_so(copy):
    for path in copy.glob("results/away/table2a*"):
        path.unlink()
    export.main(["away", "--out", "out"])
    text = Path("out/README.md").read_text()
    assert "No table that holds this run has been made." in text
    assert "model-index" not in yaml.safe_load(text.split("---\n")[1])


def test_a_folder_of_others_is_refused_and_an_edited_card_is_kept(out, tmp_path):
    line = ["away", "--out", str(out)]
    (out / "README.md").write_text("licence: mine")
    assert export.main(line) == 0 and (out / "README.md").read_text() == "licence: mine"
    with pytest.raises(ValueError, match="no export of these weights"):
        export.main([*line, "--run", "only-clean"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("mine")
    for place, words in (("full", "no export of these weights"), ("full/letter.txt", "a file is there")):
        with pytest.raises(ValueError, match=words):
            export.main(["away", "--out", str(tmp_path / place)])
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"letter.txt"}
    with pytest.raises(ValueError, match="letter.txt/in: can't be written .File exists.: give another"):
        export.main(["away", "--out", str(tmp_path / "full/letter.txt/in")])
    (tmp_path / "empty").mkdir()
    assert export.main(["away", "--out", str(tmp_path / "empty")]) == 0


def test_a_folder_appears_whole_or_not_at_all(away, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(export, "card", broken)
    with pytest.raises(OSError, match="no space"):
        export.main(["away", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


class Hub(ModuleType):
    """In the place of huggingface_hub: what it was asked for, and what it answers."""

    def __init__(self, token="a token", says=None):
        super().__init__("huggingface_hub")
        self.asked, asked = [], lambda *call: self.asked.append(call)

        class HfApi:
            def create_repo(self, repo_id, **options):
                asked("create", repo_id, options)
                if says:
                    raise says
                return f"https://hub/{repo_id}"

            def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
                asked("upload", repo_id, folder_path, allow_patterns, commit_message)

        self.HfApi, self.get_token = HfApi, lambda: token


@pytest.fixture
def installed(monkeypatch):
    """A stand-in for the hub's library, given to Python."""
    def give(**options):
        module = Hub(**options)
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setattr(hub, "find_spec", lambda name: name)
        return module

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the audit, which is a process of its own
    return give


FILES = ["README.md", "contact-sheet.png", "example.py", "model.safetensors", "provenance.json",
         "training.manifest.json"]


def licensed(out):
    """Fill in the licence, as the owner does."""
    text = (out / "README.md").read_text()
    (out / "README.md").write_text(text.replace(card.FILL_IN, "CC0"))


def test_exactly_the_files_of_the_export_are_sent(out, installed, capsys):
    sent = installed()
    licensed(out)
    assert export.main(["away", "--out", str(out)]) == 0
    assert sent.asked == []
    assert export.main(["away", "--out", str(out), "--push", "me/birds"]) == 0
    assert sent.asked == [("create", "me/birds", {"private": True, "exist_ok": True}),
                          ("upload", "me/birds", str(out), FILES, "Exported by ambient")]
    assert "sent to https://hub/me/birds" in capsys.readouterr().out


def spoilt(out, name):
    """What is done to an export before it is sent, by name."""
    if name != "no licence":
        licensed(out)
    if name == "more":
        (out / ".env").write_text("secret")
    elif name == "changed":
        (out / "example.py").write_text("import ambient")
    elif name == "less":
        (out / "contact-sheet.png").unlink()
    elif name == "elsewhere":
        (out.parent / "secret").write_text("mine")
        found = read_json(out / "provenance.json")
        write_json(out / "provenance.json", found | {"files": found["files"] | {"../secret": "0" * 64}})
    elif name == "link":
        (out / "example.py").rename(out.parent / "example.py")
        (out / "example.py").symlink_to(out.parent / "example.py")
    elif name == "head":
        (out / "README.md").write_text("---\nlicense: [\n---\n")
    elif name == "keyless":
        (out / "README.md").write_text("---\ntags: []\n---\n")


@pytest.mark.parametrize("name, words", [
    ("no licence", "README.md, line .*: still has FILL-IN"), ("more", r"\.env is no file of the export"),
    ("changed", "example.py: not what was exported"), ("less", "contact-sheet.png: missing"),
    ("elsewhere", "secret: missing"), ("link", "example.py: missing, or no plain file"),
    ("head", "its head is no YAML"), ("keyless", "no key `license`")])
def test_what_may_not_be_seen_is_not_sent(out, installed, name, words):
    sent = installed()
    spoilt(out, name)
    with pytest.raises(ValueError, match=f"nothing was sent: .*{words}"):
        export.main(["away", "--out", str(out), "--push", "me/birds"])
    assert sent.asked == []


def test_a_broken_chain_is_not_sent(copy, installed):
    """The table that the card states has another number than its manifest's."""
    sent = installed()
    export.main(["away", "--out", "out"])
    licensed(Path("out"))
    mixture = next(Path("results/away/mixtures").rglob("*.safetensors"))
    mixture.write_bytes(mixture.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="the audit finds a broken link .* ambient audit results/away/runs"):
        export.main(["away", "--out", "out", "--push", "me/birds"])
    assert sent.asked == []


@pytest.mark.parametrize("other, words", [(False, "not what its manifest says"),
                                          (True, "made from another .*denoiser.safetensors than the one")])
def test_samples_that_are_not_of_these_weights_are_not_shown(copy, other, words):
    """Changed ones, and those of another training with their manifest."""
    path = Path(f"{RUN}/samples.safetensors")
    if other:
        for one in (path, manifest.path_for(path)):
            shutil.copy(str(one).replace("ambient-blur-0.6", "only-clean"), one)
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=words):
        export.main(["away", "--out", "out"])
    assert not Path("out").exists()


def test_without_library_or_token_nothing_is_written(away, tmp_path, installed, monkeypatch):
    line = ["away", "--out", str(tmp_path / "out"), "--push", "me/birds"]
    installed(token=None)
    with pytest.raises(ValueError, match="needs a token of the hub: log in with: hf auth login"):
        export.main(line)
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --editable '.\[hub\]'.*nothing was written or sent"):
        export.main(line)
    assert not (tmp_path / "out").exists()


def test_what_the_hub_says_against_it_is_one_line(out, installed):
    sent = installed(says=OSError("403 Forbidden\n\nYou don't have the rights"))
    licensed(out)
    with pytest.raises(ValueError) as refused:
        export.main(["away", "--out", str(out), "--push", "you/birds"])
    assert str(refused.value) == ("--push you/birds: the hub did not take it: 403 Forbidden You don't have "
                                  "the rights")
    assert [call[0] for call in sent.asked] == ["create"]


def test_the_library_has_what_is_asked_of_it():
    """The stand-in's calls, bound to the signatures of the real one."""
    api = pytest.importorskip("huggingface_hub")
    signature = inspect.signature
    signature(api.HfApi.create_repo).bind(None, "me/birds", private=True, exist_ok=True)
    signature(api.HfApi.upload_folder).bind(None, repo_id="me/birds", folder_path="out", allow_patterns=FILES,
                                            commit_message="Exported by ambient")
    signature(api.get_token).bind()
