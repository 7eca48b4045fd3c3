"""`python -m ambient export`: weights that load alike, a card that says what tables and manifests say."""

import os
import re
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
from ambient.commands import card, export
from ambient.provenance import manifest
from ambient.storage.files import read_arrays, read_json, sha256

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
    (tmp_path / "empty").mkdir()
    assert export.main(["away", "--out", str(tmp_path / "empty")]) == 0


def test_a_folder_appears_whole_or_not_at_all(away, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(export, "card", broken)
    with pytest.raises(OSError, match="no space"):
        export.main(["away", "--out", str(tmp_path / "out")])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_sent_unless_asked_for(away, tmp_path, monkeypatch, capsys):
    sent = []

    class HfApi:
        def create_repo(self, repo_id, **options):
            sent.append((repo_id, options))
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id, folder_path, **options):
            sent.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))

    line = ["away", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ambient\[hub\]'.*nothing was written or sent"):
        export.main([*line, "--push", "me/birds"])
    assert not (tmp_path / "out").exists()
    hub = ModuleType("huggingface_hub")
    hub.HfApi = HfApi
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    export.main(line)
    assert sent == []
    export.main([*line, "--push", "me/birds"])
    assert sent[0] == ("me/birds", {"private": True, "exist_ok": True})
    assert sent[1][0] == "me/birds" and {"model.safetensors", "README.md"} <= sent[1][1]
    assert "sent to https://hub/me/birds" in capsys.readouterr().out
