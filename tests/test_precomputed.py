"""Latents and states of captions that were made elsewhere: what is read and refused, and a training on
them, which is that of what the workflow makes itself."""

import hashlib
import json
import re
import shutil
import struct
from pathlib import Path

import finished
import numpy as np
import pytest
from raw_images import prepared
from results_tree import audit as audited
from results_tree import remake
from t2i_vectors import REFERENCE, needs_reference
from t2i_vectors import read as vectors
from test_captioned import captioned
from test_told_captions import OVERLAY, clip, shards
from tiny import kept

from ambient.audit.cli import main as audit
from ambient.cluster import sizes
from ambient.cluster.cost import Costs
from ambient.data import latents, mds
from ambient.data.datasets import read
from ambient.data.precomputed import Precomputed, opened
from ambient.data.raw import Raw
from ambient.data.text_states import told
from ambient.jobs.stage import Record
from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.specs import DatasetSpec, MixtureSpec
from ambient.specs.strict import SpecError
from ambient.stages.corrupt import mix
from ambient.storage.files import read_arrays, sha256, sha256_of_raw
from ambient.training.points import Points

COLUMNS = {"caption": "str", "caption_latents": "bytes", "latents_512": "bytes", "spread": "bytes"}
SHAPES = {"caption_latents": (2, 3), "latents_512": (4, 2, 2), "spread": (4, 2, 2)}


def rows(count=5, dtype="<f2", seed=0):
    """Samples whose captions are their numbers; the second and the last have the same one."""
    draw = np.random.default_rng(seed)
    found = [{name: np.abs(draw.normal(size=shape)).astype(dtype).tobytes() for name, shape in SHAPES.items()}
             for _ in range(count)]
    return [{"caption": f"sample  {1 if k == count - 1 else k}\n".encode()} | row
            for k, row in enumerate(found)]


def write_mds(folder, samples, columns=None, each=2):
    """Shards of so many samples, by the format's description."""
    folder.mkdir(parents=True)
    columns, entries = columns or COLUMNS, []
    for k, first in enumerate(range(0, len(samples), each)):
        some = samples[first:first + each]
        bodies = [struct.pack(f"<{len(columns)}I", *(len(row[name]) for name in columns))
                  + b"".join(row[name] for name in columns) for row in some]
        ends = np.cumsum([4 * (len(some) + 2) + 2, *map(len, bodies)]).astype("<u4")
        content = struct.pack("<I", len(some)) + ends.tobytes() + b"{}" + b"".join(bodies)
        (folder / f"shard.{k:05}.mds").write_bytes(content)
        entries.append({"column_names": list(columns), "column_encodings": list(columns.values()),
                        "column_sizes": [None] * len(columns), "compression": None, "format": "mds",
                        "raw_data": {"basename": f"shard.{k:05}.mds"}, "samples": len(some)})
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": entries}))
    return folder


def spec(**changes):
    return DatasetSpec("latents", 16, 3, **{"encoder": "e", "text_encoder": "t", "std": "spread"} | changes)


def of(samples, name, places, dtype="<f2"):
    return np.stack([np.frombuffer(samples[k][name], dtype).reshape(SHAPES[name]) for k in places])


@needs_reference
def test_a_folder_as_the_library_of_the_format_writes_it():
    known, folder = vectors("mds"), REFERENCE / "mds"
    released = spec(std=None, multiplied=0.13025)
    found, record = Precomputed(released, Raw(folder)), Record()
    places, wanted = [10, 0, 7], known["samples"]
    said = [wanted[k]["caption"] for k in places]
    for name, shape in (("latents_512", (4, 8, 8)), ("latents_256", (4, 4, 4))):
        own = Precomputed(spec(std=None, multiplied=0.13025, latents=name), Raw(folder))
        mean, std = own.latents(places, said, shape)
        stored = np.array([wanted[k][name] for k in places], np.float32).reshape(mean.shape)
        np.testing.assert_allclose(mean * 0.13025, stored, rtol=1e-6)
        assert not std.any()
        # What a denoiser sees, by SDXL's scale of the configuration: what was stored.
        np.testing.assert_allclose(mean * (latents.STD / 3.83877), stored, rtol=1e-6)
    states = found.states(places, said, (5, 8))
    np.testing.assert_array_equal(states.ravel(), np.ravel([wanted[k]["caption_latents"] for k in places]))
    found.close(record)
    assert record.facts["files"] == {one.name: sha256(one) for one in folder.iterdir()}
    assert (record.outside[0]["sha256"], record.outside[0]["size"]) == sha256_of_raw(folder)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_latents_and_states_of_samples_by_their_places(tmp_path, dtype):
    samples = rows(dtype=np.dtype(dtype))
    folder = write_mds(tmp_path / "in", samples)
    data, record = prepared(spec(dtype=dtype), folder, tmp_path)
    assert data.images is None and data.ids.tolist() == [0, 1, 2, 3, 4]
    assert data.captions.of_images() == [f"sample {k}" for k in (0, 1, 2, 3, 1)]
    assert data.file_names[2] == "shard.00001.mds, sample 0" and record.facts["captions"] == 4
    assert record.facts["files"] == {one.name: sha256(one) for one in folder.iterdir()}
    assert data.captions.first_images().tolist() == [0, 1, 2, 3]
    found, places = Precomputed(spec(dtype=dtype, multiplied=0.5), Raw(folder)), [4, 0, 3]
    said = ["sample 1", "sample 0", "sample 3"]
    mean, std = found.latents(places, said, SHAPES["latents_512"])
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_array_equal(mean, 2 * of(samples, "latents_512", places, dtype).astype(np.float32))
    np.testing.assert_array_equal(std, 2 * of(samples, "spread", places, dtype).astype(np.float32))
    states = found.states(places, said, SHAPES["caption_latents"])
    np.testing.assert_array_equal(states, of(samples, "caption_latents", places, dtype).astype(np.float16))


def changed(number, **changes):
    samples = rows()
    samples[number] |= changes
    return samples


@pytest.mark.parametrize(("samples", "changes", "message"), [
    (rows(), {"latents": "latents_256"}, "shard.00000.mds has no column 'latents_256' of encoding bytes"),
    (rows(), {"states": "caption"}, "has no column 'caption' of encoding bytes; its columns are"),
    (changed(3, latents_512=bytes(30)), {}, "shard.00001.mds, sample 1: latents_512 has 30 bytes, the first "
     "sample's 32"),
    (changed(0, spread=b""), {}, "shard.00000.mds, sample 0: spread has 0 bytes"),
    (changed(2, caption=b"\xff"), {}, "shard.00001.mds, sample 0: its caption is no text in UTF-8"),
    ([row | {"caption": b" \n"} for row in rows()], {}, "none of 5 samples has a caption")])
def test_a_folder_is_refused_before_anything_is_read_of_it(tmp_path, samples, changes, message):
    folder = write_mds(tmp_path / "in", samples)
    with pytest.raises(ValueError, match=re.escape(message)):
        prepared(spec(**changes), folder, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def test_samples_without_a_caption_are_left_out_and_counted(tmp_path):
    data, record = prepared(spec(), write_mds(tmp_path / "in", changed(1, caption=b"")), tmp_path)
    assert data.ids.tolist() == [0, 2, 3, 4]
    assert record.facts["left_out"] == {"images without a caption": 1}


NAN, LARGE = np.full(16, np.nan, "<f2").tobytes(), np.full(6, 70000.0, "<f4").tobytes()


@pytest.mark.parametrize(("samples", "changes", "places", "said", "message"), [
    (rows(), {}, [0], "sample 2", "sample 0: its caption is 'sample 0', that of the prepared dataset "
     "'sample 2': the dataset was prepared from another folder"),
    (rows(), {}, [5], "sample 1", "has no sample 5, of 5"),
    (rows(), {"dtype": "float32"}, [0], "sample 0", "latents_512 has 32 bytes, 4 x 2 x 2 numbers of float32 "
     "have 64: it is of another encoder, resolution or dtype"),
    (changed(0, latents_512=NAN), {}, [0], "sample 0", "sample 0: latents_512 has numbers that are none"),
    (changed(0, spread=np.full(16, -1, "<f2").tobytes()), {}, [0], "sample 0", "spread has numbers below 0")])
def test_numbers_that_are_not_those_of_the_dataset_are_refused(tmp_path, samples, changes, places, said,
                                                               message):
    found = Precomputed(spec(**changes), Raw(write_mds(tmp_path / "in", samples)))
    with pytest.raises(ValueError, match=re.escape(message)):
        found.latents(places, [said], SHAPES["latents_512"])


def test_states_that_float16_can_not_hold_are_refused(tmp_path):
    samples = [row | {"caption_latents": LARGE} for row in rows(1, "<f4")]
    found = Precomputed(spec(dtype="float32"), Raw(write_mds(tmp_path / "in", samples)))
    with pytest.raises(ValueError, match="caption_latents has a number beyond 65504"):
        found.states([0], ["sample 1"], SHAPES["caption_latents"])


def test_a_job_is_given_the_folder_that_was_pinned_and_no_other(tmp_path):
    folder, state = write_mds(tmp_path / "in", rows()), kept(tmp_path / "state")
    for one, path in ((spec(), None), (None, folder)):
        with pytest.raises(ValueError, match="--precomputed: got"):
            opened(one, path, state)
    with pytest.raises(ValueError, match="the configuration's sha256 is " + 64 * "0"):
        opened(spec(sha256=64 * "0"), folder, state).close(Record())
    found = opened(spec(), folder, state)
    mark = found.mark
    with open(folder / "shard.00001.mds", "ab") as file:
        file.write(b"!")
    with pytest.raises(ValueError, match=r"shard.00001.mds changed while it was read"):
        found.close(Record())
    assert opened(spec(), folder, state).mark != mark  # what was saved of the one is not taken for the other
    with pytest.raises(ValueError, match="no folder of MDS shards"):
        Precomputed(spec(), Raw(folder / "index.json"))


def test_a_mixture_with_latents_has_no_images():
    made = {"op": "add", "params": {"dataset": "poor"}, "clean_fraction": 1.0, "seed": 0}
    poor = captioned(["a cat", "a dog"])
    poor = type(poor)(None, poor.labels, poor.ids, captions=poor.captions)
    with pytest.raises(ValueError, match="there as latents alone, and the mixture is to have images"):
        mix(MixtureSpec(**made), captioned(), poor)
    found = mix(MixtureSpec(**made, images=False), captioned(), poor)
    assert found.images is None and found.corrupted.tolist() == [0] * 6 + [1] * 2
    assert found.captions.of_images()[6:] == ["a cat", "a dog"]


# --- a training ---------------------------------------------------------------------------------------------

MADE = "source: webdataset, resolution: 8, channels: 1, path: {here}/made, sha256: {pins[1]},"
GIVEN = """source: latents, resolution: 8, channels: 1, path: {here}/given, sha256: {pins[4]},
         encoder: blocks, text_encoder: tower, latents: latents_512, std: spread, dtype: float32,
         multiplied: 0.25,"""
ENCODED = OVERLAY.partition("tables:")[0].replace("    text_encoder: tower\n", """    text_encoder: tower
    encoder: blocks
    classifier: {{augment: {{transforms: []}}}}
""") + """encoders:
  blocks: {{kind: block_pca, block: 2, numbers: 4}}
tables:
  table2a:
    title: Captions
    defaults: {{study: told, corruption: plus-made, annotation: by-source}}
    rows: [first: {{label: Ambient-o}}]
"""
OURS = ENCODED.replace("sigma_min: 0.5, captions_of: real", "sigma_min: 0.5")
THEIRS = OURS.replace(MADE, GIVEN)
DENOISER, TABLE = "results/away/runs/first/seed-0/denoiser.safetensors", "results/away/table2a.csv"
MIXTURE = "results/away/mixtures/told/plus-made/clean-1.0.safetensors"
LATENTS = [f"results/away/latents/told/{name}/clean-1.0.safetensors" for name in ("none", "plus-made")]
STATES = [f"results/away/texts/{name}/tower.safetensors" for name in ("real", "made")]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The same training twice: on images that the workflow encodes, and on the latents that it made of them,
    given to it as such."""
    ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
    patch = pytest.MonkeyPatch()
    shards(ours / "real", 60, 0)
    shards(ours / "made", 30, 1)
    clip(ours / "clip")
    (ours / "asked.txt").write_text("a red cat\na blue dog\na red cat\n")
    pins = [sha256_of_raw(ours / name)[0] for name in ("real", "made", "asked.txt", "clip")]
    finished.configure(ours, OURS.format(here=ours, pins=pins))
    patch.chdir(ours)
    finished.make(ours, DENOISER)
    mixture, found = read(MIXTURE), latents.read(LATENTS[1])
    states = told(mixture.captions, STATES)
    samples = [{"caption": mixture.captions.of_images()[row].encode(),
                "caption_latents": states[np.array([row])].astype("<f4").tobytes(),
                "latents_512": (found.mean[row] / 4).tobytes(), "spread": (found.std[row] / 4).tobytes()}
               for row in np.flatnonzero(mixture.corrupted)]
    pins.append(sha256_of_raw(write_mds(ours / "given", samples, each=7))[0])
    finished.configure(theirs, THEIRS.format(here=ours, pins=pins))
    patch.chdir(theirs)
    finished.make(theirs, TABLE, TABLE.replace(".csv", "-grid.png"))
    patch.undo()
    return ours, theirs


def test_a_training_on_what_was_made_elsewhere_is_that_of_what_is_made_here(trees, monkeypatch):
    ours, theirs = trees
    digests = [hashlib.sha256((tree / DENOISER).read_bytes()).hexdigest() for tree in trees]
    assert digests[0] == digests[1]
    monkeypatch.chdir(theirs)
    inputs = manifest.read(manifest.path_for(Path(DENOISER)))["inputs"]
    assert [entry["path"] for entry in inputs["latents"]] == [f"../../../{path[13:]}" for path in LATENTS]
    assert len(inputs["texts"]) == 2
    own = read_arrays(LATENTS[1])
    assert own["mean"].shape == own["std"].shape == (30, 4, 4, 4) and set(read_arrays(MIXTURE)) == {
        "captions", "caption_ends", "caption_rows", "corrupted", "ids", "labels", "names"}
    for path in (LATENTS[1], STATES[1]):
        made = manifest.read(manifest.path_for(Path(path)))
        assert made["external"][0]["sha256"] == sha256_of_raw(ours / "given")[0]
        assert made["facts"]["files"].keys() == {"index.json", *(f"shard.{k:05}.mds" for k in range(5))}
        given = made["spec"]["precomputed"]
        assert given["source"] == "latents" and given["path"] is None


def test_a_tree_of_latents_from_outside_is_whole(trees, monkeypatch, capsys):
    monkeypatch.chdir(trees[1])
    assert audit(["results/away"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", [LATENTS[1], STATES[1]])
def test_latents_and_states_from_another_folder_are_found(trees, tmp_path, path):
    results = shutil.copytree(trees[1] / "results/away", tmp_path / "results/away")

    def elsewhere(manifest):
        manifest["external"][0]["sha256"] = manifest["spec"]["precomputed"]["sha256"] = 64 * "a"

    remake(results, {tmp_path / path: elsewhere})
    problems = audited(results / "table2a.csv").results[results / "table2a.csv"].problems
    assert "was read from another folder than" in " ".join(one.detail for one in problems)


def test_a_single_sample_of_each_posterior_has_no_noise(trees, monkeypatch, tmp_path):
    """As released: the file has no standard deviations, and an image is the same point at every visit."""
    monkeypatch.chdir(trees[1])
    found, mixture = latents.read(LATENTS[1]), read(MIXTURE)
    shape = found.mean.shape[1:]
    latents.write(tmp_path / "points", found.ids, shape, found.shift, found.scale, [found], points=True)
    assert "std" not in read_arrays(tmp_path / "points")
    points = Points(mixture, [LATENTS[0], tmp_path / "points"])
    added, own = np.flatnonzero(mixture.corrupted == 1), np.flatnonzero(mixture.corrupted == 0)
    one, other = (points.visited(added, slice(0, 30), 0, visit) for visit in (0, 1))
    assert (one == other).all()
    gain = (0.5 / found.scale)[:, None, None]
    np.testing.assert_allclose(one, (found.mean - found.shift[:, None, None]) * gain, rtol=1e-5, atol=1e-6)
    assert points.std[own].shape == (60, 4, 4, 4)


@pytest.mark.parametrize(("key", "change", "message"), [
    ("encoder: blocks, text", "encoder: sdxl-vae, text", "datasets.made.encoder: got 'sdxl-vae', allowed: "
     "blocks, which studies.told has: latents of another encoder mean other images"),
    ("text_encoder: tower, latents", "text_encoder: dfn5b, latents",
     "datasets.made.text_encoder: got 'dfn5b', allowed: tower, whose states are asked for"),
    ("multiplied: 0.25", "multiplied: 0.0", "multiplied: got 0.0, allowed: > 0"),
    ("multiplied: 0.25", "clean_captions: true", "clean_captions: got True, allowed"),
    ("dtype: float32", "dtype: bfloat16", "dtype: got 'bfloat16', allowed"),
    ("    encoder: blocks\n", "", "studies.told.encoder: got None, allowed: a name in encoders"),
    ("    dataset: real\n", "    dataset: made\n", "datasets.made.source: got 'latents', allowed: one "
     "that has images here")])
def test_what_does_not_fit_is_refused_when_settings_are_read(tmp_path, key, change, message):
    assert key in THEIRS
    finished.configure(tmp_path, THEIRS.replace(key, change).format(here=tmp_path, pins=[64 * "a"] * 5))
    with pytest.raises(SpecError, match=re.escape(message)):
        Experiments(tmp_path / "config", finished.SCALE)


def test_what_is_read_takes_no_gpu_and_half_the_bytes(trees):
    ours, theirs = (Experiments(tree / "config", finished.SCALE) for tree in trees)
    for job, names in (("encode", ("told", "plus-made")), ("texts", ("made", "tower"))):
        assert getattr(Costs(ours), job)(*names).flops > getattr(Costs(theirs), job)(*names).flops == 0
    theirs.tree["datasets"]["made"] |= {"num_images": 30, "std": None}
    theirs.made.clear()
    names = {"study": "told", "corruption": "plus-made"}
    assert sizes.bytes_of_images("encode", names, Costs(theirs)) == 30 * 4 * 4 * 4 * 4


def test_only_the_columns_that_are_wanted_are_read(tmp_path, monkeypatch):
    one, *_ = mds.shards(folder := write_mds(tmp_path / "in", rows(5)), lambda name: folder / name)
    asked, part = [], mds.part
    monkeypatch.setattr(mds, "part", lambda *given: asked.append(given[2]) or part(*given))
    assert one.columns_of(1, "latents_512") == {"latents_512": rows(5)[1]["latents_512"]}
    assert asked == [16, 32]  # of 16 + 10 + 12 + 32 + 32 bytes
