"""What a job would be asked now, and how that differs from what the manifests beside its files record.

A file's place in the tree says which job makes it (the grammar of paths, `Snakefile`); the configuration says
what that job is told. No Snakemake, no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ambient import settings
from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.settings.layers import lines
from ambient.specs import CORRUPTION_FIGURES
from ambient.specs.strict import SpecError, build, plain

Names = Mapping[str, str]  # wildcards of a path

# Stage -> its specification, from the experiments of a scale and the wildcards of its job.
SPECIFICATIONS: dict[str, Callable[[Experiments, Names], Any]] = {
    "prepare": lambda found, w: found.portable_dataset(w["dataset"]),
    "corrupt": lambda found, w: found.mixture(w["study"], w["corruption"], float(w["fraction"])),
    "combine": lambda found, w: found.combined(w["run"]),
    "classifier": lambda found, w: found.classifier(w["study"], w["classifier"]),
    "annotate": lambda found, w: found.annotation(w["study"], w["annotation"]),
    "locality": lambda found, w: found.locality(w["study"]),
    "train": lambda found, w: found.training(w["run"], int(w["seed"])),
    "sample": lambda found, w: found.sampling(w["run"]),
    "detector": lambda found, w: found.portable_detector(w["detector"]),
    "reference": lambda found, w: found.portable_detector(w["detector"]),
    "evaluate": lambda found, w: found.evaluation(w["run"], w.get("detector")),
    "tables": lambda found, w: found.table(w["table"]),
    "figures": lambda found, w: found.table(w["table"]),
    "galleries": lambda found, w: found.figure(w["gallery"]),
    "crops_figures": lambda found, w: found.figure(w["figure"]),
    "summary": lambda found, w: found.summary(),
    "report": lambda found, w: found.report(w["page"] == "report-all"),
    "theory": lambda found, w: found.theory("theory"),
    "theory_figure": lambda found, w: found.theory("theory"),
}
# Where in a scale's folder each stage's files lie, but for what is read: tables and figures.
PLACES = (
    ("prepare", "data/{dataset}.safetensors"),
    ("corrupt", "mixtures/{study}/{corruption}/clean-{fraction}.safetensors"),
    ("combine", "combined/{run}-annotations.safetensors"),
    ("combine", "combined/{run}-annotations.json"),
    ("combine", "combined/{run}.safetensors"),
    ("classifier", "classifiers/{study}/{corruption}/{classifier}.calibration.json"),
    ("classifier", "classifiers/{study}/{corruption}/{classifier}.safetensors"),
    ("annotate", "annotations/{study}/{corruption}/{annotation}.safetensors"),
    ("annotate", "annotations/{study}/{corruption}/{annotation}.json"),
    ("locality", "locality/{study}.csv"),
    ("locality", "locality/{study}.json"),
    ("train", "runs/{run}/seed-{seed}/denoiser.safetensors"),
    ("train", "runs/{run}/seed-{seed}/loss.jsonl"),
    ("sample", "runs/{run}/seed-{seed}/samples.safetensors"),
    ("detector", "detectors/{dataset}/{detector}.weights"),
    ("reference", "detectors/{dataset}/{detector}-reference.safetensors"),
    ("evaluate", "runs/{run}/seed-{seed}/metrics.json"),
    ("evaluate", "runs/{run}/seed-{seed}/moments.safetensors"),
    ("evaluate", "runs/{run}/seed-{seed}/metrics-{detector}.json"),
    ("evaluate", "runs/{run}/seed-{seed}/moments-{detector}.safetensors"),
)


@dataclass(frozen=True)
class Difference:
    """One thing that a manifest records otherwise than the job would be asked now."""

    key: str  # `spec.params.sigma_px`, or the name of code
    recorded: Any
    wanted: Any

    def __str__(self) -> str:
        if self.key.startswith("code"):
            return f"{self.key} has changed since it was made"
        return f"{self.key}: made with {self.recorded!r}, the configuration asks for {self.wanted!r}"


@cache
def pattern(place: str) -> re.Pattern:
    """A place as a regular expression with its wildcards as groups."""
    text = re.escape(place).replace(r"\{", "{").replace(r"\}", "}")
    allowed = {"fraction": r"[0-9.e-]+", "seed": r"\d+"}
    return re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{allowed.get(m[1], settings.NAME)})", text))


def located(path: Path) -> tuple[str, PurePosixPath] | None:
    """(scale, path in its folder) of a file of a results tree; the paper's tables lie at `results` itself."""
    parts = Path(path).parts
    if "results" not in parts:
        return None
    inside = parts[len(parts) - parts[::-1].index("results"):]
    if len(inside) == 1:
        return "paper", PurePosixPath(*inside)
    return inside[0], PurePosixPath(*inside[1:])


def job_of(found: Experiments, inside: PurePosixPath) -> tuple[str, dict[str, str]] | None:
    """(stage, wildcards) of the job that makes a file of a scale; None for what no stage makes."""
    for stage, place in PLACES:
        if match := pattern(place).fullmatch(str(inside)):
            return stage, match.groupdict()
    if len(inside.parts) > 1:
        return None
    name = inside.name.partition(".")[0] if inside.suffix != ".csv" else inside.stem
    if inside.name == "summary.csv":
        return "summary", {}
    if inside.name in ("report.html", "report-all.html"):
        return "report", {"page": inside.stem}
    if inside.suffix == ".csv" and name in found.tables:
        return "tables", {"table": name}
    if name in found.figures:
        return ("galleries", {"gallery": name}) if found.figures[name].kind in CORRUPTION_FIGURES else (
            "crops_figures", {"figure": name})
    for table in found.tables:
        if re.fullmatch(re.escape(table) + r"(-[a-z]+)?\.(png|pdf)", inside.name):
            return "figures", {"table": table}
    if name.startswith("theory"):
        return "theory" if inside.suffix == ".csv" else "theory_figure", {}
    return None


def differences(found: Mapping, stage: str, spec: Any, code: Mapping[str, str] | None) -> list[Difference]:
    """How a manifest's specification and code differ from those wanted; `code` None: any code will do.

    A setting that is younger than the manifest had its default when that was written.
    """
    if found["stage"] != f"ambient.{stage}":
        return [Difference("stage", found["stage"], f"ambient.{stage}")]
    try:
        recorded = plain(build(type(spec), found["spec"], "spec"))
    except SpecError:
        recorded = found["spec"]
    old, new = dict(lines(recorded, "spec")), dict(lines(plain(spec), "spec"))
    keys = [key for key in dict.fromkeys([*new, *old]) if old.get(key, "nothing") != new.get(key, "nothing")]
    made = [Difference(key, old.get(key, "nothing"), new.get(key, "nothing")) for key in keys]
    if code is None:
        return made
    files = found["code"]["files"]
    return made + [Difference(f"code {name}", files.get(name), code.get(name))
                   for name in sorted(files.keys() | code.keys()) if files.get(name) != code.get(name)]


@cache
def experiments(folder: Path, scale: str) -> Experiments | None:
    """A scale's experiments, or None where there is no such scale."""
    return Experiments(folder, scale) if scale in settings.scales(folder) else None


def of_file(path: Path, folder: Path | None = None) -> list[Difference] | None:
    """How the manifest beside a file of a results tree differs from what its job would be asked now.

    None where the configuration in `folder` (by default `config.home()`) says nothing of such a file: it is
    of a scale, run or table that is not there. Code is not compared, the audit does that. Raises `ValueError`
    for a manifest that can't be read or a configuration that is refused.
    """
    place = located(Path(path))
    found = place and experiments(Path(folder or settings.home()), place[0])
    job = found and job_of(found, place[1])
    if not job:
        return None
    try:
        spec = SPECIFICATIONS[job[0]](found, job[1])
    except SpecError:  # a name that the configuration does not have
        return None
    return differences(manifest.read(manifest.path_for(Path(path))), job[0], spec, None)
