"""`python -m benchmarks.auditing`: time and memory of `python -m ambient audit` as a results tree grows.

Writes benchmarks/auditing.md. The trees are synthetic: manifests as the product writes them, with settings
of the scale `small`, beside files of a few bytes. A run has ten training seeds, a table twenty runs, and each
file reaches the level that it would in a real tree. Time and memory are those of a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ambient.annotation.statistics import statistics
from ambient.audit import cli
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.provenance import manifest, merkle, source_code
from ambient.provenance.manifest import peak_memory
from ambient.report.tables import rebuild
from ambient.settings import Experiments
from ambient.specs import TableSpec
from ambient.specs.strict import plain
from ambient.storage.files import digest
from benchmarks.finished import code_of

SIZES = (1_000, 10_000, 100_000)  # manifests
SEEDS, ROWS = 10, 20  # trainings of a run, runs of a table
IMAGES, SAMPLES, FEATURES = 40, 20, 4
RUN, STUDY, CORRUPTION = "ambient-blur-0.8", "controlled", "blur-0.8"


class Tree:
    """A results tree that is being written: what is known of each file, by its path."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.random = folder, np.random.default_rng(seed)
        self.settings = Experiments("config", "small")
        self.known: dict[Path, tuple[str, str]] = {}  # artefact -> its digest and its manifest's seal
        self.environment = manifest.environment()
        self.count = 0

    def job(self, stage: str, outputs: Mapping[str, tuple[str, bytes]],
            inputs: Mapping[str, Sequence[Path]], spec: Mapping,
            external: Sequence[Mapping] = (), facts: Mapping | None = None,
            root: Mapping | None = None) -> list[Path]:
        """Write the files of one job and their manifests; returns where they lie."""
        paths = {role: self.folder / place for role, (place, _) in outputs.items()}
        digests = {role: digest_of(content) for role, (_, content) in outputs.items()}
        code = code_of(f"ambient.{stage}", source_code.words(spec))
        for role, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            content = outputs[role][1]
            path.write_bytes(content)
            seconds = round(self.random.uniform(10, 1000), 3)
            found = {
                "format": manifest.FORMAT, "stage": f"ambient.{stage}", "artefact": path.name,
                "sha256": digests[role], "size": len(content),
                "inputs": {name: [manifest.entry(path, one, *self.known[one]) for one in files]
                           for name, files in inputs.items()},
                "outputs": {name: manifest.entry(path, paths[name], value, None)
                            for name, value in digests.items()},
                "external": list(external), "spec": dict(spec), "spec_sha256": digest(spec),
                "code": code, "environment": self.environment, "facts": dict(facts or {}),
                "execution": {"started": "2026-11-26T21:24:06+00:00", "ended": "2026-11-26T21:35:28+00:00",
                              "wall_sec": seconds, "cpu_sec": seconds,
                              "peak_memory_bytes": int(self.random.integers(2**29, 2**30))}}
            if path.suffix == ".safetensors":
                found["content_sha256"] = manifest.content_sha256(path)
            if root:
                found["root"] = dict(root)
            found["seal"] = digest(found)
            self.known[path] = found["sha256"], found["seal"]
            manifest.path_for(path).write_text(manifest.json_text(found))
            self.count += 1
        return list(paths.values())

    def numbers(self, *shape: int) -> np.ndarray:
        """Random numbers, since equal weights of two trainings would be a problem."""
        return self.random.standard_normal(shape).astype(np.float32)

    def start(self) -> None:
        """What all runs share: data, mixture, detector, reference."""
        made, ids = self.settings, np.arange(IMAGES)
        raw = {"file": "raw.tar.gz", "sha256": "f" * 64, "size": 3}
        self.data, = self.job("prepare", {"out": ("data/cifar10.safetensors", save({"ids": ids}))},
                              {}, plain(made.portable_dataset("cifar10")), [raw],
                              {"raw_checksum_verified": True})
        images = {"images": np.zeros((IMAGES, 1, 1, 1), np.uint8), "labels": ids, "ids": ids,
                  "corrupted": (ids % 2).astype(np.uint8)}
        self.mixture, = self.job("corrupt", {"out": (f"mixtures/{STUDY}/{CORRUPTION}/clean-0.1.safetensors",
                                                     save(images))},
                                 {"data": [self.data]}, plain(made.mixture(STUDY, CORRUPTION, 0.1)))
        self.evaluation = replace(made.evaluation(RUN), seeds=(0,), earlier_seeds=0)
        detector = plain(self.evaluation.detector)
        self.detector, = self.job("detector", {"out": ("detectors/cifar10/net.weights",
                                                       save({"w": self.numbers(2)}))},
                                  {"data": [self.data]}, detector)
        self.target = moments(self.numbers(IMAGES, FEATURES))
        target = {"mean": self.target.mean, "covariance": self.target.covariance, "count": np.array([IMAGES])}
        self.reference, = self.job("reference", {"out": ("detectors/cifar10/net-reference.safetensors",
                                                         save(target))},
                                   {"data": [self.data], "detector": [self.detector]}, detector)

    def annotations(self, name: str) -> tuple[Path, Path]:
        """An annotation of the mixture and its summary."""
        ids = np.arange(IMAGES)
        sigma_min = np.where(ids % 2, self.random.uniform(0.5, 2, IMAGES), 0.0)
        place = f"annotations/{STUDY}/{CORRUPTION}/{name}"
        summary = json.dumps(statistics(sigma_min, ids % 2 == 1)).encode()
        table = save({"ids": ids, "sigma_min": sigma_min, "sigma_max": np.zeros(IMAGES)})
        return tuple(self.job("annotate", {"out": (f"{place}.safetensors", table),
                                           "summary": (f"{place}.json", summary)},
                              {"data": [self.mixture]}, plain(self.settings.annotation(STUDY, "all"))))

    def run(self, name: str, annotations: Path, lr: float) -> list[Path]:
        """A run's trainings, samples and scores; returns the files of scores."""
        return [self.scored(f"runs/{name}/seed-{seed}", seed, annotations, lr) for seed in range(SEEDS)]

    def scored(self, place: str, seed: int, annotations: Path, lr: float) -> Path:
        """One training with its samples and scores."""
        spec = self.settings.training(RUN, seed)
        optimiser, last = replace(spec.optimiser, lr=lr), spec.snapshots[-1]
        spec = replace(spec, optimiser=optimiser, snapshots=(last,))
        denoiser, _ = self.job(
            "train", {"out": (f"{place}/denoiser.safetensors", save({f"{last}/w": self.numbers(2)})),
                      "log": (f"{place}/loss.jsonl", b'{"nimg": 256, "loss": 1.0}\n')},
            {"data": [self.mixture], "annotations": [annotations]}, plain(spec),
            facts={"images_seen": last, "parameters": 1226145, "resumptions": 0, "classes": list(range(10)),
                   "attempts": [{"from_nimg": 0, "repeated_nimg": 0}]})
        drawn = replace(self.settings.sampling(RUN), seeds=(0,), earlier_seeds=0, num_samples=SAMPLES)
        images = np.asarray(self.random.integers(0, 256, (1, SAMPLES, 1, 1, 1)), np.uint8)
        samples, = self.job("sample", {"out": (f"{place}/samples.safetensors", save({str(last): images}))},
                            {"denoiser": [denoiser]}, plain(drawn), facts={"samples": SAMPLES})
        found = moments(self.numbers(SAMPLES, FEATURES))
        score = {"nimg": last, "seed": 0, "value": frechet_distance(found, self.target)}
        recorded = self.evaluation.detector.recorded()
        metrics = {"metric": self.evaluation.metric, "scores": [score], "num_samples": SAMPLES,
                   "reference_images": IMAGES, **recorded}
        kept = {f"{last}/0/mean": found.mean, f"{last}/0/covariance": found.covariance}
        return self.job("evaluate", {"out": (f"{place}/metrics.json", json.dumps(metrics).encode()),
                                     "moments_out": (f"{place}/moments.safetensors", save(kept))},
                        {"samples": [samples], "detector": [self.detector], "reference": [self.reference]},
                        plain(self.evaluation))[0]

    def table(self, number: int, runs: Mapping[str, list[Path]], summaries: Sequence[Path]) -> None:
        """A table of some runs."""
        row = next(row for row in self.settings.table("table2a").rows if row.run == RUN)
        rows = tuple(replace(row, run=name, run_id=f"runs/{name}", protocol=None) for name in runs)
        spec = TableSpec(f"table-{number}", self.folder.name, rows, tuple(range(SEEDS)))
        inputs = {"metrics": [path for files in runs.values() for path in files],
                  "annotations": list(summaries)}
        text = rebuild(plain(spec), inputs)
        every = [path for files in inputs.values() for path in files]
        root = merkle.of_inputs(self.folder / f"{spec.name}.csv", every)
        self.job("tables", {"out": (f"{spec.name}.csv", text.encode())}, inputs, plain(spec), root=root)


def digest_of(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def build(folder: Path, count: int) -> int:
    """Write a tree of about `count` manifests; returns how many they are."""
    tree = Tree(folder)
    tree.start()
    number = 0
    while tree.count < count:
        runs, summaries = {}, []
        for i in range(number * ROWS, (number + 1) * ROWS):
            table, summary = tree.annotations(f"run-{i}")
            runs[f"run-{i}"] = tree.run(f"run-{i}", table, 0.001 * (1 + i / 1e6))
            summaries.append(summary)
        tree.table(number, runs, summaries)
        number += 1
    return tree.count


def audited(folder: str, report) -> None:
    """Audits a tree as the command does; sends seconds, those of the processor, MB, status and last line."""
    said, begun, busy = io.StringIO(), time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(said):
        status = cli.main([folder])
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    report.put((seconds, busy, peak_memory() / 1e6, status, said.getvalue().splitlines()[-1]))


def measure(count: int) -> tuple[int, float, float, float]:
    """(manifests, seconds, seconds of the processor, MB) of the audit of a tree of about so many."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "results", "synthetic")
        made = build(folder, count)
        report = context.SimpleQueue()
        process = context.Process(target=audited, args=(str(folder), report))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the audit of {made:,} manifests ended with status {process.exitcode}")
    seconds, busy, peak, status, said = report.get()
    if status:
        raise RuntimeError(f"the audit of a sound tree found problems: {said}")
    print(said)
    return made, seconds, busy, peak


def main() -> None:
    """Each size once: a second reading differs by the machine's noise alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auditing", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="manifests of a tree")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/auditing.md"))
    given = parser.parse_args()
    lines, found = [], []
    for size in given.sizes:
        made, seconds, busy, peak = measure(size)
        found.append((made, busy, peak))
        lines.append(f"| {made:,} | {seconds:.1f} s | {busy:.1f} s | {peak:.0f} MB |")
        print(lines[-1], flush=True)
    (few, first, low), (many, last, high) = found[0], found[-1]
    slope = (f"Each manifest more costs {(last - first) * 1e3 / (many - few):.2f} ms of a processor and "
             f"{(high - low) * 1e3 / (many - few):.1f} kB of memory.\n") if many > few else ""
    given.out.write_text("\n".join([
        "# The audit as a results tree grows\n",
        f"Written by `python -m benchmarks.auditing --sizes {' '.join(map(str, given.sizes))}`.\n",
        "| manifests | audit | time on a processor | peak memory |\n|---|---|---|---|", *lines, "", slope]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
