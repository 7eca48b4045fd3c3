"""Level 3: build an artefact again from what it was made from, and compare. numpy, pandas; no torch.

Tables from raw scores, cell by cell; scores from the stored moments of the samples' features; annotation
summaries from the annotations; sweeps, comparisons, summaries and preferences from the tables and answers
that they put together; figures from the files they draw, byte by byte.
"""

from __future__ import annotations

import csv
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ambient.audit import traces
from ambient.audit.seeds import wrong_seeds
from ambient.audit.words import Result
from ambient.provenance import manifest
from ambient.provenance.merkle import located
from ambient.specs.strict import build
from ambient.storage.files import read_json, sha256
from ambient.storage.text import first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ambient.audit.chain import Audit
    from ambient.evaluation.frechet import Moments
    from ambient.specs import EvaluationSpec

# A distance is a difference of traces; the square roots of eigenvalues near 0 turn rounding errors of
# 1e-16, which differ between libraries and numbers of threads, into 1e-8 each. Relative to the traces.
TOLERANCE = 1e-6
# Of a summary, what its job alone knows.
CLASSIFIERS_WORD = ("crop_map", "crop_tolerance", "p_target_mean", "sigma_min_lag", "never_crossed",
                    "last_level", "unsure")
# Of the outputs of some stages one is derived again, by what its name ends in.
ONE_OF_SEVERAL = {"evaluate": ".json", "annotate": ".json", "outside": ".json", "comparison": ".csv"}
DRAWING = ("matplotlib", "numpy", "pandas", "pillow")


ONLY_RERUN = "nothing to derive it from without running its job: --rerun"


class Differs(Exception):
    """Built again, it is another: the message says where."""


class Unavailable(Exception):
    """It can't be built again here: the message says why. No accusation."""


class Rederive:
    """Raises results from level 2 to 3. Figures are drawn once a job."""

    def __init__(self, audit: Audit, draws: bool) -> None:
        self.audit = audit
        self.drawn: dict[str, dict[str, str]] = {}
        self.stages: dict[str, Callable[[Result], None]] = {
            "ambient.tables": self.table, "ambient.sweep": self.table, "ambient.evaluate": self.metrics,
            "ambient.annotate": self.annotation, "ambient.figures": self.figures,
            "ambient.summary": self.summary, "ambient.outside": self.outside,
            "ambient.comparison": self.comparison, "ambient.crops_figures": self.preferences}
        if not draws:
            del self.stages["ambient.figures"], self.stages["ambient.crops_figures"]

    def __call__(self, result: Result) -> None:
        """Build it again if its stage is one of the above; raise the level, or say what stands against."""
        check = self.stages.get(result.manifest["stage"])
        if check is None or result.key.suffix != ONE_OF_SEVERAL.get(result.stage, result.key.suffix):
            result.reason = ONLY_RERUN
            return
        lower = [self.audit.results[p] for p in result.parents
                 if self.audit.results[p].manifest["stage"] in self.stages
                 and self.audit.results[p].key.suffix in (".json", ".csv")
                 and self.audit.results[p].level < 3]
        try:
            check(result)
        except Unavailable as error:
            result.reason = str(error)
        except ImportError as error:
            result.reason = f"deriving it again needs {error.name}, which is not installed here"
        except Differs as error:
            result.problem("differs", str(error))
        except Exception as error:  # the kinds that a file can raise are not known beforehand
            result.problem("differs", f"can't be built again: {first_line(error)}")
        else:
            if lower:
                result.reason = f"{lower[0].path.name} is at level {lower[0].level}"
            else:
                result.level = 3

    def inputs(self, result: Result, *roles: str) -> dict[str, list[Path]]:
        """Paths of the inputs by role. Raises `Unavailable` where one of them was pruned."""
        found = {role: [located(result.key, entry["path"]) for entry in entries]
                 for role, entries in result.manifest["inputs"].items() if role in roles}
        for path in (path for files in found.values() for path in files):
            if self.audit.results[path].pruned:
                raise Unavailable(f"{path.name} was pruned")
        return found

    def table(self, result: Result) -> None:
        """Every cell of a table from raw scores and annotation summaries."""
        from ambient.report import tables

        roles = ("metrics", "annotations", "usable", "beside", "scored", "sweeps")
        text = tables.rebuild(result.manifest["spec"], self.inputs(result, *roles))
        compare_cells(result.key.read_text(encoding="utf-8"), text)

    def summary(self, result: Result) -> None:
        """Every cell of the summary from the tables, but for the levels: those an audit gave then."""
        from ambient.report import published

        found = self.inputs(result, "tables", "logs", "reports")
        present = result.key.read_text(encoding="utf-8")
        said = {(row["table"], row["id"] if row["table"] == published.TEXT else None):
                int(row["provenance_level"]) for row in csv.DictReader(io.StringIO(present))}
        levels = [said.get((path.stem, None), 0) for path in found["tables"]]
        texts = [said.get((published.TEXT, one["id"]), 0) for one in result.manifest["spec"].get("texts", ())]
        compare_cells(present, published.rebuild(result.manifest["spec"], found["tables"], levels,
                                               found.get("logs", ()), found.get("reports", ()), texts))

    def metrics(self, result: Result) -> None:
        """Every distance from the moments that the job kept, and the protocol from the inputs."""
        from ambient.evaluation.detectors.inception import misnamed
        from ambient.evaluation.frechet import stored
        from ambient.specs import EvaluationSpec
        from ambient.storage.files import read_arrays

        (detector,) = result.manifest["inputs"]["detector"]
        if why := misnamed(result.manifest["spec"], detector["sha256"]):
            raise Differs(why)
        spec = build(EvaluationSpec, result.manifest["spec"], "spec")
        found = read_json(result.key)
        (reference,) = self.inputs(result, "reference")["reference"]
        kept = self.fellow(result, "moments_out")
        target = stored(read_arrays(reference), reference.name)
        compare({k: v for k, v in found.items() if k not in ("scores", "num_samples")},
                {"metric": spec.metric, "reference_images": target.count} | spec.detector.recorded())
        seeds: dict[int, list[int]] = {}
        for score in found["scores"]:
            seeds.setdefault(score["nimg"], []).append(score["seed"])
            at = f"{score['nimg']}/{score['seed']}"
            arrays = read_arrays(kept, (f"{at}/mean", f"{at}/covariance"))
            drawn = stored(arrays, kept.name, f"{at}/", found["num_samples"])
            compare_distance(score["value"], drawn, target,
                             f"snapshot {score['nimg']}, seed {score['seed']}")
        samples = traces.parent(self.audit.results, result, "samples", "sample")
        self.protocol(samples, found["num_samples"], seeds, spec)
        self.samples(result, found["num_samples"], seeds)
        if why := wrong_seeds(found["scores"], spec, samples.manifest["spec"].get("best_by")):
            raise Differs(why)

    def outside(self, result: Result) -> None:
        """A distance from outside from the moments that the job kept, and what stands beside it."""
        from ambient.evaluation.detectors.inception import misnamed
        from ambient.evaluation.frechet import stored
        from ambient.specs import OutsideSpec
        from ambient.storage.files import read_arrays

        (detector,) = result.manifest["inputs"]["detector"]
        if why := misnamed(result.manifest["spec"], detector["sha256"]):
            raise Differs(why)
        spec, found = build(OutsideSpec, result.manifest["spec"], "spec"), read_json(result.key)
        (reference,) = self.inputs(result, "reference")["reference"]
        target, kept = stored(read_arrays(reference), reference.name), self.fellow(result, "moments_out")
        compare({k: v for k, v in found.items() if k != "value"}, {
            "name": result.key.stem, "label": spec.label, "metric": spec.metric,
            "num_samples": spec.num_samples, "reference_images": target.count,
            "reference_dataset": spec.reference} | spec.detector.recorded())
        compare_distance(found["value"], stored(read_arrays(kept), kept.name), target, spec.name)

    def comparison(self, result: Result) -> None:
        """Every cell of a table with rows from outside."""
        from ambient.report import comparison

        compare_cells(result.key.read_text(encoding="utf-8"), comparison.rebuild(
            result.manifest["spec"], self.inputs(result, "table", "outside")))

    def protocol(self, samples: Result, count: int, seeds: dict[int, list[int]],
                 spec: EvaluationSpec) -> None:
        """The number of samples and the snapshots against what sampling and training were told."""
        denoiser = traces.trained(self.audit.results, samples)
        if count != traces.setting(samples, "num_samples"):
            raise Differs(f"{count} samples, {samples.path} was told to hold "
                          f"{traces.setting(samples, 'num_samples')}")
        *earlier, last = traces.setting(denoiser, "snapshots")
        if sorted(seeds) != [*(earlier if spec.first_seeds else ()), last]:
            raise Differs(f"scores of the snapshots {sorted(seeds)}, {denoiser.path} was told to keep "
                          f"{[*earlier, last]}, of which those before the last have the sampling seeds "
                          f"{list(spec.first_seeds)}")

    def samples(self, result: Result, count: int, seeds: dict[int, list[int]]) -> None:
        """The number of samples, of seeds and of snapshots against the samples' shapes, if they are here."""
        from safetensors import safe_open

        try:
            (path,) = self.inputs(result, "samples")["samples"]
        except Unavailable:
            return
        with safe_open(path, framework="numpy") as file:
            shapes = {int(name): file.get_slice(name).get_shape()[:2] for name in file.keys()}
        wrong = [f"{nimg}" for nimg in shapes.keys() | seeds.keys()
                 if shapes.get(nimg) != [len(seeds.get(nimg, ())), count]]
        if wrong:
            raise Differs(f"snapshot {min(wrong)}: not {count} samples of each seed, as the samples are")

    def fellow(self, result: Result, role: str) -> Path:
        """Another output of the job, by the stage's name for it: present and as the job wrote it."""
        entry = result.manifest.get("outputs", {}).get(role)
        if entry is None:
            raise Unavailable("made before jobs recorded all their outputs: run its job again")
        path = result.key.parent / entry["path"]
        other = self.audit.results.get(path)
        if other is None or other.level < 1:
            raise Unavailable(f"{path.name} was pruned" if other and other.pruned else
                              f"{path.name} is not as its job wrote it")
        if other.manifest["sha256"] != entry["sha256"]:
            raise Differs(f"{path.name} is of another run of the job")
        return path

    def annotation(self, result: Result) -> None:
        """An annotation summary from the annotations and the mixture's corrupted members."""
        from ambient.annotation.statistics import statistics
        from ambient.data.datasets import read
        from ambient.storage.files import read_arrays

        (data,) = self.inputs(result, "data")["data"]
        table = read_arrays(self.fellow(result, "out"), ("sigma_min", "sigma_max"))
        present = read_json(result.key)
        for answer in CLASSIFIERS_WORD:
            present.pop(answer, None)
        compare(present, statistics(table["sigma_min"], read(data).corrupted == 1, table["sigma_max"]))

    def figures(self, result: Result) -> None:
        """A figure drawn again from its inputs: equal bytes for equal libraries and machines."""
        recorded = result.manifest["environment"]
        for name in DRAWING:
            if metadata.version(name) != recorded["packages"].get(name):
                raise Unavailable(f"drawn with {name} {recorded['packages'].get(name, '?')}, here is "
                                  f"{metadata.version(name)}")
        roles = [role for role, entry in result.manifest.get("outputs", {}).items()
                 if entry["path"] == result.key.name]
        if not roles:
            raise Unavailable("made before jobs recorded their outputs: run its job again")
        job = manifest.digest([result.manifest["spec"], result.manifest["inputs"]])
        if job not in self.drawn:
            self.drawn[job] = self.draw(result)
        if self.drawn[job].get(roles[0]) == result.manifest["sha256"]:
            return
        here = manifest.processor() | {"machine": manifest.platform.machine()}
        if any(recorded.get(key) != value for key, value in here.items()):
            raise Unavailable("drawn on another kind of machine, whose rounding may differ")
        raise Differs("drawn again from its inputs it has other bytes")

    def preferences(self, result: Result) -> None:
        """A judge's bars from its kept answers, of which nobody is asked again."""
        if result.manifest["spec"].get("kind") != "preferences":
            raise Unavailable(ONLY_RERUN)
        self.figures(result)

    def draw(self, result: Result) -> dict[str, str]:
        """Role -> digest of all figures of a job."""
        from ambient.report.drawing import STYLE, plt, save

        outputs = result.manifest["outputs"]
        inputs = self.inputs(result, *result.manifest["inputs"])
        with tempfile.TemporaryDirectory() as folder:
            targets = {role: Path(folder, f"{role}{Path(entry['path']).suffix}")
                       for role, entry in outputs.items()}
            with warnings.catch_warnings(action="ignore"), plt.rc_context(STYLE):  # the job has shown them
                for role, figure in drawings(result, inputs):
                    save(figure, targets[role], targets[f"{role}_pdf"])
            return {role: sha256(path) for role, path in targets.items()}


def drawings(result: Result, inputs: Mapping[str, list[Path]]) -> Iterator[tuple[str, Figure]]:
    """(role of its PNG, figure) of all that a job draws; its manifest has roles without files, too."""
    from ambient.report import figures, table_figures
    from ambient.specs import FigureSpec, TableSpec

    plain = result.manifest["spec"]
    if result.stage == "figures":
        (table,) = inputs["table"]
        yield from table_figures.drawn(build(TableSpec, plain, "spec"), **inputs | {"table": table})
        return
    spec = build(FigureSpec, plain, "spec")
    given = {role: files for role, files in inputs.items() if files}
    yield "out", figures.KINDS[spec.kind].draw(spec, **given)


def compare_distance(said: float, drawn: Moments, target: Moments, what: str) -> None:
    """Raise `Differs` where a distance is not that of its moments; `what` they are of."""
    import numpy as np

    from ambient.evaluation.frechet import frechet_distance

    value, gap = frechet_distance(drawn, target), drawn.mean - target.mean
    scale = float(np.trace(drawn.covariance) + np.trace(target.covariance) + gap @ gap)
    if not np.isfinite([value, scale]).all():  # of moments that overflow, anything could be said
        raise Differs(f"{what}: its moments give {value}")
    if not abs(said - value) <= TOLERANCE * scale:
        raise Differs(f"{what}: {said} for {value}")


def compare_cells(present: str, expected: str) -> None:
    """Raise `Differs` naming the first cell of a CSV that is not equal."""
    found, other = (list(csv.reader(io.StringIO(text))) for text in (present, expected))
    if found == other:
        return
    for i, (row, right) in enumerate(zip(found, other, strict=False)):
        for column, (a, b) in enumerate(zip(row, right, strict=False)):
            if a != b:
                raise Differs(f"row {i}, {other[0][column]}: {a} for {b}")
    raise Differs(f"{len(found)} rows of {len(found[0]) if found else 0} for {len(other)}")


def compare(present: Any, expected: Any) -> None:
    """Raise `Differs` naming the first key that is not equal; numbers to twelve digits."""
    for key in sorted(expected.keys() | present.keys()):
        a, b = present.get(key), expected.get(key)
        if a != b and not close(a, b):
            raise Differs(f"{key}: {a} for {b}")


def close(a: Any, b: Any) -> bool:
    """Whether two numbers, or two lists of numbers, are equal to twelve digits.

    The last digits of a sum depend on the library that adds up.
    """
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b))
    return numbers and abs(a - b) <= 1e-12 * max(abs(a), abs(b))
