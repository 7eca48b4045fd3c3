"""A finished results tree in miniature, made by the real stages that need no training. No workflow, no torch.
With what its tests share: its audit, and manifests rewritten as one who knows how would.

Three runs (rows of a table) of one training seed: raw data -> mixture -> annotations -> weights -> samples ->
scores with their moments -> table and figures. Weights, samples and features are random numbers.
"""

import json
from types import SimpleNamespace

import numpy as np

from ambient.annotation.statistics import statistics
from ambient.audit.chain import Audit, artefacts_in
from ambient.audit.stages import summary
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, write
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.provenance import manifest, merkle
from ambient.report.tables import rebuild
from ambient.specs import DetectorSpec, SummarySpec, TableSpec
from ambient.specs.stages import STAGES
from ambient.specs.strict import build, plain
from ambient.stages import figures, tables
from ambient.storage.files import digest, read_json, sha256, write_arrays, write_json

RUNS = (("only-clean", "Only Clean"), ("all-data", "All data"), ("ambient", "Ambient-o"))
SEEDS, NIMG, COUNT = (0, 1), (128, 256), 40
DETECTOR = plain(DetectorSpec("classifier", channels=8, nimg=64, batch=64, lr=0.1))
EVALUATION = {"metric": "fd-net", "detector": DETECTOR, "seeds": list(SEEDS)}


def record(stage, outputs, inputs=None, spec=None, external=(), facts=None):
    """Write the manifests of one job, as `ambient.jobs.stage` does.

    `outputs` and `inputs` are paths by role. What a stage may read and is not given is recorded as none.
    """
    recorded = {role: [manifest.identify(p) for p in (paths if isinstance(paths, list) else [paths])]
                for role, paths in (dict.fromkeys(STAGES[stage].reads, []) | (inputs or {})).items()}
    made = {role: (path, sha256(path)) for role, path in outputs.items()}
    name, flat = f"ambient.{stage}", [p for entries in recorded.values() for p, *_ in entries]
    root = merkle.of_inputs(next(iter(outputs.values())), flat) if stage == "tables" else None
    for path in outputs.values():
        write_json(manifest.path_for(path), manifest.build(
            path, name, spec or {}, recorded, external, facts or {}, manifest.Clock(), outputs=made,
            root=root))


def make(folder):
    """Make the tree of one scale in `folder`; returns the table's path."""
    random = np.random.default_rng(0)
    raw = {"name": "raw", "file": "raw.zip", "origin": "test", "size": 3, "sha256": "f" * 64}
    data = folder / "data/digits.safetensors"
    images = random.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    data.parent.mkdir(parents=True)
    write(data, Dataset(images, np.arange(60) % 10, np.arange(60)))
    record("prepare", {"out": data}, spec={"source": "images", "sha256": "f" * 64}, external=[raw])
    mixture = folder / "mixtures/study/blur/clean-0.5.safetensors"
    corrupted = (np.arange(60) % 2).astype(np.uint8)
    write(mixture, Dataset(images // 2, np.arange(60) % 10, np.arange(60), corrupted))
    record("corrupt", {"out": mixture}, {"data": data},
           {"seed": 0, "op": "blur", "params": {"sigma_px": 0.6}})
    features = random.normal(size=(60, 5))
    weights, reference = folder / "detectors/digits/net.weights", folder / "detectors/digits/ref.safetensors"
    write_arrays(weights, {"w": random.normal(size=(3, 3))})
    record("detector", {"out": weights}, {"data": data}, DETECTOR)
    target = moments(features)
    write_arrays(reference, {"mean": target.mean, "covariance": target.covariance,
                             "count": np.array([target.count])})
    record("reference", {"out": reference}, {"data": data, "detector": weights}, DETECTOR)
    parts = [run(folder, name, data, mixture, weights, reference, target, random) for name, _ in RUNS]
    return finish(folder, mixture, *zip(*parts, strict=True))


def run(folder, name, data, mixture, weights, reference, target, random):
    """One run. Returns (metrics, summary, annotations, samples, log)."""
    table = folder / f"annotations/study/blur/{name}.safetensors"
    sigma_min = np.where(np.arange(60) % 2, random.uniform(0.5, 2, 60), 0.0)
    Annotations(np.arange(60), sigma_min, np.zeros(60)).write(table)
    summary = table.with_suffix(".json")
    write_json(summary, statistics(sigma_min, np.arange(60) % 2 == 1))
    record("annotate", {"out": table, "summary": summary}, {"data": mixture}, {"method": "fixed"})
    place = folder / f"runs/{name}/seed-0"
    denoiser, log = place / "denoiser.safetensors", place / "loss.jsonl"
    samples = place / "samples.safetensors"
    write_arrays(denoiser, {"256/w": random.normal(size=(4, 4)).astype(np.float32)})
    log.write_text('{"nimg": 256, "loss": 1.0}\n')
    record("train", {"out": denoiser, "log": log}, {"data": mixture, "annotations": table},
           {"seed": 0, "snapshots": list(NIMG)})
    write_arrays(samples, {str(nimg): random.integers(0, 256, (2, COUNT, 1, 8, 8), dtype=np.uint8)
                           for nimg in NIMG})
    record("sample", {"out": samples}, {"denoiser": denoiser}, {"seeds": list(SEEDS), "num_samples": COUNT})
    kept, scores = {}, []
    for nimg in NIMG:
        for seed in SEEDS:
            drawn = moments(random.normal(0.5, 1.2, size=(COUNT, 5)))
            kept |= {f"{nimg}/{seed}/mean": drawn.mean, f"{nimg}/{seed}/covariance": drawn.covariance}
            scores.append({"nimg": nimg, "seed": seed, "value": frechet_distance(drawn, target)})
    metrics, stored = place / "metrics.json", place / "moments.safetensors"
    write_arrays(stored, kept)
    write_json(metrics, {"metric": "fd-net", "scores": scores, "num_samples": COUNT,
                         "reference_images": 60, "resize": "none"})
    record("evaluate", {"out": metrics, "moments_out": stored},
           {"samples": samples, "detector": weights, "reference": reference}, EVALUATION)
    return metrics, summary, table, samples, log


def finish(folder, mixture, metrics, summaries, annotations, samples, losses):
    """The table, its figures, and the summary."""
    rows = [{"run": name, "run_id": f"runs/{name}", "method": method, "corruption": "blur",
             "parameters": {"sigma_px": 0.6}, "paper": {"fid": 5.0}, "annotated": None}
            for name, method in RUNS]
    spec = build(TableSpec, {"name": "t", "scale": folder.name, "rows": rows, "training_seeds": [0]}, "spec")
    table, nothing = folder / "t.csv", SimpleNamespace(facts={})
    tables.main(spec, nothing, metrics=list(metrics), annotations=list(summaries), out=table)
    record("tables", {"out": table}, {"metrics": list(metrics), "annotations": list(summaries)}, plain(spec))
    inputs = {"table": table, "metrics": list(metrics), "samples": list(samples), "losses": list(losses),
              "mixtures": [mixture] * len(RUNS), "reports": [], "annotations": list(annotations),
              "summaries": list(summaries)}
    outputs = {f"out{role}{'_pdf' if kind == 'pdf' else ''}": folder / f"t{role.replace('_', '-')}.{kind}"
               for role in ("", "_curves", "_classifiers", "_grid") for kind in ("png", "pdf")}
    figures.main(spec, nothing, **inputs, **outputs)
    record("figures", outputs, inputs, json.loads(json.dumps(plain(spec))))
    every = build(SummarySpec, {"tables": [plain(spec)]}, "spec")
    summary.main(every, nothing, tables=[table], out=folder / "summary.csv")
    record("summary", {"out": folder / "summary.csv"}, {"tables": [table]}, plain(every))
    return table


def audit(path):
    """The audit of a file, or of all in a folder."""
    found = Audit(path)
    for one in artefacts_in(path) if path.is_dir() else [path]:
        found.artefact(one)
    return found


def problems(path):
    """(file name, word) of each problem that it finds."""
    return {(p.path.name, p.word) for r in audit(path).results.values() for p in r.problems}


def refit(path, **changes):
    """Rewrite a manifest as one who knows how: every digest of its own made to fit."""
    found = read_json(manifest.path_for(path)) | changes
    found.pop("seal")
    found["sha256"], found["size"] = sha256(path), path.stat().st_size
    for entry in found["outputs"].values():
        if entry["path"] == path.name:
            entry["sha256"] = found["sha256"]
    found["spec_sha256"] = digest(found["spec"])
    if "content_sha256" in found:
        found["content_sha256"] = manifest.content_sha256(path)
    write_json(manifest.path_for(path), found | {"seal": digest(found)})
    for role, entry in found["outputs"].items():  # the other outputs' manifests name it too
        other = manifest.path_for(path.with_name(entry["path"]))
        if entry["path"] != path.name and other.exists():
            fellow = read_json(other)
            fellow["outputs"] = found["outputs"] | {role: fellow["outputs"][role]}
            fellow.pop("seal")
            write_json(other, fellow | {"seal": digest(fellow)})


def remake(folder, deeds):
    """Make every digest, seal and root of a tree fit what lies there, as one who knows how would.

    `deeds`: artefact -> function that changes its manifest (a dictionary) first.
    """
    waiting = {manifest.artefact_of(p): read_json(p) for p in sorted(folder.rglob(f"*{manifest.SUFFIX}"))}
    for path, deed in deeds.items():
        deed(waiting[path])
    done = {}
    while waiting:
        parents = {path: set(merkle.parents(path, found)) for path, found in waiting.items()}
        for path in [path for path in waiting if not parents[path] & waiting.keys()]:
            found = waiting.pop(path)
            found.pop("seal", None)
            for entry in (entry for entries in found["inputs"].values() for entry in entries):
                below = done[path.parent.joinpath(entry["path"]).resolve()]
                entry |= {"sha256": below["sha256"], "seal": below["seal"]}
            if found["stage"] == "ambient.tables":
                path.write_text(rebuild(found["spec"], {
                    role: [path.parent / entry["path"] for entry in entries]
                    for role, entries in found["inputs"].items()}))
                found["root"] = merkle.sidecar(path.parent, merkle.below(parents[path], done.get))
            found |= {"sha256": sha256(path), "size": path.stat().st_size}
            found["spec_sha256"] = digest(found["spec"])
            if "content_sha256" in found:
                found["content_sha256"] = manifest.content_sha256(path)
            for entry in found["outputs"].values():
                entry["sha256"] = sha256(path.parent / entry["path"])
            done[path] = found | {"seal": digest(found)}
            write_json(manifest.path_for(path), done[path])
