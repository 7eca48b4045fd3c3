"""Export a results tree as a Workflow Run RO-Crate: Provenance Run Crate 0.5 on RO-Crate 1.1.

The manifests stay the store; this is a view of them for other tools, through the rocrate library. Facts
that no manifest holds are left out. A crate says how results were made; it proves nothing by itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ambient.audit import shipped
from ambient.audit.place import Tree
from ambient.audit.sign import SIGNATURE
from ambient.provenance import manifest, merkle
from ambient.provenance.pruned import pruned_path, pruned_record
from ambient.specs import DatasetSpec
from ambient.specs.stages import STAGES
from ambient.storage import regular
from ambient.storage.files import canonical_json, digest
from ambient.storage.text import skipped

PROFILES = ("https://w3id.org/ro/wfrun/process/0.5", "https://w3id.org/ro/wfrun/workflow/0.5",
            "https://w3id.org/ro/wfrun/provenance/0.5", "https://w3id.org/workflowhub/workflow-ro-crate/1.0")
SHA256 = "https://w3id.org/ro/terms/workflow-run#sha256"  # RO-Crate 1.1 has no word for it
PAPER = "https://arxiv.org/abs/2506.10038"
TITLE = "Ambient Diffusion Omni: Training Good Models with Bad Data"
MAIN = "Snakefile"
WORKFLOW = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
ORDER = tuple(STAGES)
MEDIA = {".csv": "text/csv", ".html": "text/html",
         ".json": "application/json", ".png": "image/png", ".pdf": "application/pdf",
         ".jsonl": "application/jsonl", ".yaml": "application/yaml", ".yml": "application/yaml",
         ".md": "text/markdown", ".rst": "text/x-rst", ".py": "text/x-python", ".smk": "text/plain",
         ".toml": "application/toml", ".safetensors": "application/octet-stream",
         ".weights": "application/octet-stream"}


class Export:
    """Builds the crate of one tree."""

    def __init__(self, folder: Path, manifests: Mapping[Path, Mapping], code: Path) -> None:
        """`manifests` are of the folder's artefacts; in `code` lie the repository's files to go along."""
        from rocrate.rocrate import ROCrate

        self.folder, self.code, self.tree = Path(os.path.abspath(folder)), code, Tree(folder)
        self.crate, self.manifests = ROCrate(version="1.1"), manifests
        self.crate.metadata.extra_terms["sha256"] = SHA256
        self.files: dict[Path, object] = {}
        self.tools: dict[str, object] = {}
        self.steps: dict[str, object] = {}

    def context(self, uri: str, kind: str | list[str], **properties):
        """A contextual entity."""
        from rocrate.model.contextentity import ContextEntity

        return self.crate.add(ContextEntity(self.crate, uri, {"@type": kind, **properties}))

    def build(self):
        """The whole crate."""
        self.describe()
        workflow = self.workflow()
        for path, found in self.manifests.items():
            self.artefact(path, found)
        runs = [self.job(outputs) for outputs in jobs(self.manifests)]
        self.organise(workflow, runs)
        return self.crate

    def place(self, path: Path) -> str:
        """Where a file of the tree lies in the crate: as below `results`, whose folders name scales."""
        return f"results/{path.relative_to(self.tree.top).as_posix()}"

    def describe(self) -> None:
        """Name, licence, profiles, and the paper."""
        from rocrate.model.contextentity import ContextEntity

        root, ended = self.crate.root_dataset, [m["execution"]["ended"] for m in self.manifests.values()]
        profiles = [self.context(uri, ["CreativeWork", "Profile"], name=uri.split("/")[-2], version=uri[-3:])
                    for uri in PROFILES]
        root["conformsTo"] = profiles
        licence = self.crate.add(ContextEntity(self.crate, "https://spdx.org/licenses/MIT", {
            "@type": "CreativeWork", "name": "MIT License"}))
        paper = self.context(PAPER, "ScholarlyArticle", name=TITLE)
        self.crate.name = f"Results of ambient, {self.folder.name}"
        self.crate.description = (f"Tables and figures of {TITLE}, made by the ambient workflow from raw "
                                  "images, with the provenance of every artefact.")
        self.crate.license, self.crate.datePublished = licence, max(ended)[:10]
        root["citation"] = paper

    def workflow(self):
        """The Snakefile with its code as the main entity, a tool and a step for each stage."""
        taken = set(map(self.place, self.manifests))
        for one in sorted(path for path in self.code.rglob("*") if path.is_file()):
            place = one.relative_to(self.code).as_posix()
            if place != MAIN and place not in taken:
                entity = self.crate.add_file(one, place, properties=described(one))
                if place == "README.md":
                    entity["about"] = self.crate.root_dataset
        workflow = self.crate.add_workflow(self.code / MAIN, MAIN, main=True, lang="snakemake",
                                           properties={"@type": WORKFLOW} | described(self.code / MAIN))
        versions = {found["stage"].removeprefix("ambient."): version(found)
                    for found in self.manifests.values()}
        workflow["url"], workflow["version"] = PAPER, versions["tables"]
        for position, stage in enumerate([s for s in ORDER if s in versions], 1):
            tool = self.tools[stage] = self.context(
                f"#tool-{stage}", "SoftwareApplication", name=f"python -m ambient run {stage}",
                url=PAPER, softwareVersion=versions[stage])
            self.steps[stage] = self.context(f"#step-{stage}", "HowToStep", position=str(position),
                                             name=stage)
            self.steps[stage]["workExample"] = tool
        workflow["hasPart"], workflow["step"] = list(self.tools.values()), list(self.steps.values())
        tables = self.context("#output-tables", "FormalParameter", additionalType="File", name="tables",
                              conformsTo={"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"})
        workflow["output"], self.tables_out = [tables], tables
        return workflow

    def artefact(self, path: Path, found: Mapping) -> None:
        """A file with digest and size, and its manifest. Of a pruned one its record goes along."""
        place = path.relative_to(self.folder).as_posix()
        properties = {"name": place, "sha256": found["sha256"], "contentSize": str(found["size"])}
        if path.suffix in MEDIA:
            properties["encodingFormat"] = MEDIA[path.suffix]
        kind, record = regular.kind(path), manifest.path_for(path)
        if kind != regular.FILE or self.tree.escape(path):  # a link out of the tree may lead to anything
            if kind != regular.MISSING:
                skipped(f"{path}: {self.tree.escape(path) or kind}")
            self.files[path] = self.context(f"#pruned/{place}", "CreativeWork",
                                            **properties | {"description": "removed after use"})
            removal = pruned_path(path)
            if kind == regular.MISSING and pruned_record(path, found) and not self.tree.escape(removal):
                for one in (record, removal):
                    self.crate.add_file(one, self.place(one), properties=described(one))
            return
        entity = self.files[path] = self.crate.add_file(path, self.place(path), properties=properties)
        if found["stage"] == "ambient.tables":
            entity["exampleOfWork"] = self.tables_out
        self.crate.add_file(record, self.place(record), properties=described(record))

    def job(self, outputs: list[Path]):
        """One job: the tool, what it read and wrote, its settings, and when."""
        found = self.manifests[outputs[0]]
        stage, place = found["stage"].removeprefix("ambient."), outputs[0].relative_to(self.folder)
        name = f"{stage}-{digest([place.as_posix()])[:12]}"
        settings = [self.context(f"#{name}-{key}", "PropertyValue", name=key, value=canonical_json(value))
                    for key, value in sorted(found["spec"].items())]
        settings += [self.context(f"#{name}-environment", "PropertyValue", name="environment",
                                  value=canonical_json(found["environment"]))]
        read = [self.files[path] for path in merkle.parents(outputs[0], found) if path in self.files]
        read += [self.raw(outside, found) for outside in found["external"]]
        action = self.context(f"#{name}", "CreateAction", name=f"{stage} of {place.as_posix()}",
                              description=f"Made {', '.join(path.name for path in outputs)} by {stage}.",
                              startTime=found["execution"]["started"], endTime=found["execution"]["ended"],
                              actionStatus="http://schema.org/CompletedActionStatus")
        action["instrument"], action["object"] = self.tools[stage], read + settings
        action["result"] = [self.files[path] for path in outputs]
        control = self.context(f"#control-{name}", "ControlAction", name=f"job {name}")
        control["instrument"], control["object"] = self.steps[stage], action
        return action, control

    def raw(self, outside: Mapping, found: Mapping):
        """Raw data from outside the tree, by digest; not part of the crate."""
        name = f"#raw-{outside['sha256'][:12]}"
        source = DatasetSpec.KINDS.get(found["spec"].get("source"))
        title, address = (source.Spec.TITLE, source.Spec.ADDRESS) if source else (None, None)
        properties = {"name": title or outside["file"], "alternateName": outside["file"],
                      "sha256": outside["sha256"], "url": address}
        return self.crate.get(name) or self.context(
            name, "CreativeWork", **{key: value for key, value in properties.items() if value})

    def organise(self, workflow, runs: list[tuple]) -> None:
        """The run of the workflow as a whole, and the engine's control of its jobs."""
        times = [m["execution"] for m in self.manifests.values()]
        final = [self.files[p] for p, m in self.manifests.items()
                 if m["stage"] in ("ambient.tables", "ambient.figures")]
        raw = [entity for entity in self.crate.contextual_entities if entity.id.startswith("#raw-")]
        whole = self.context("#run", "CreateAction", name="run of the workflow",
                             startTime=min(t["started"] for t in times),
                             endTime=max(t["ended"] for t in times),
                             description="Every job between raw images and the tables and figures.")
        whole["instrument"], whole["object"], whole["result"] = workflow, raw, final
        version = next(iter(self.manifests.values()))["environment"]["packages"].get("snakemake")
        engine = self.context("#snakemake", "SoftwareApplication", name="Snakemake",
                              url="https://snakemake.github.io",
                              **({"softwareVersion": version} if version else {}))
        organise = self.context("#organise", "OrganizeAction", name="Snakemake's run of the jobs",
                                startTime=whole["startTime"], endTime=whole["endTime"])
        organise["instrument"], organise["result"] = engine, whole
        organise["object"] = [control for _, control in runs]
        self.crate.root_dataset["mentions"] = [whole, organise, *final, *(action for action, _ in runs)]


def version(found: Mapping) -> str:
    """What tells one state of the code from another: the commit, or the digest of the sources."""
    return found["code"].get("commit") or found["code"]["sha256"]


def described(path: Path) -> dict:
    """Digest and size of a file that has no manifest."""
    found = {"name": path.name, "sha256": manifest.sha256(path), "contentSize": str(path.stat().st_size)}
    return found | ({"encodingFormat": MEDIA[path.suffix]} if path.suffix in MEDIA else {})


def read_all(folder: Path) -> dict[Path, dict]:
    """Artefact -> manifest of everything below a folder. Raises `ValueError` where there is no table."""
    found = dict(manifest.read_below(Path(os.path.abspath(folder)), skipped))
    if not any(m["stage"] == "ambient.tables" for m in found.values()):
        raise ValueError(f"{folder}: no table with a manifest in it; give the folder of a finished scale")
    return found


def jobs(manifests: Mapping[Path, Mapping]) -> Iterable[list[Path]]:
    """The artefacts of each job, in the order of the stages."""
    found: dict[str, list[Path]] = {}
    for path, record in manifests.items():
        outputs = sorted(os.path.normpath(path.parent / entry["path"])
                         for entry in record.get("outputs", {}).values())
        found.setdefault(digest([record["stage"], outputs or str(path)]), []).append(path)
    stages = {path: ORDER.index(m["stage"].removeprefix("ambient.")) for path, m in manifests.items()
              if m["stage"].removeprefix("ambient.") in ORDER}
    return sorted((paths for paths in found.values() if paths[0] in stages), key=lambda p: stages[p[0]])


def main(arguments: list[str]) -> int:
    """`python -m ambient crate FOLDER [--out FOLDER]`: files are copied, the tree is left as it is."""
    parser = argparse.ArgumentParser(prog="python -m ambient crate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a scale, results/demo say")
    parser.add_argument("--out", type=Path,
                        help="new folder, or .zip (default: NAME-crate.zip beside the results tree)")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        raise ValueError(f"{given.folder}: no such folder")
    top = Tree(given.folder).top
    out = given.out or top.parent / f"{Path(os.path.abspath(given.folder)).name}-crate.zip"
    check_out(out, top)
    count = export(given.folder, out)
    print(f"{out}: {count} files; python -m ambient audit checks, this describes")
    if (given.folder / SIGNATURE).exists():
        print(f"left out: {SIGNATURE}, which signs the tree with its logs; a crate has no logs")
    return 0


def check_out(out: Path, top: Path) -> None:
    """Raise `ValueError` for a place that is taken, or in the tree, which a crate is no artefact of."""
    if os.path.lexists(out):
        raise ValueError(f"{out}: is there already; choose another --out")
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(top)):
        raise ValueError(f"{out}: lies in the results tree {top}, whose audit knows no crate: choose another "
                         "--out")
    if not out.parent.is_dir():
        raise ValueError(f"{out.parent}: no such folder")


def export(folder: Path, out: Path) -> int:
    """Write the crate of a tree, whole or not at all; returns how many files it holds."""
    manifests = read_all(folder)
    with (tempfile.TemporaryDirectory() as code,
          tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside):
        shipped.unpack(manifests.values(), Path(code))
        crate = Export(folder, manifests, Path(code)).build()
        made = Path(beside, "crate.zip" if out.suffix == ".zip" else "crate")
        crate.write_zip(made) if out.suffix == ".zip" else crate.write(made)
        os.rename(made, out)
        return len(list(crate.data_entities))
