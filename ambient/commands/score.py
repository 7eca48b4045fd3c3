"""`python -m ambient score --samples FOLDER --protocol TABLE`: anybody's images under a table's protocol.

Detector, reference and number of samples are those of the table's own rows. Of more images the first ones are
taken, by sorted name or by place; fewer, or images of another size, are refused. The distance is printed
beside the table's rows, and becomes a row of TABLE-with-outside.csv and of its figure, labelled as from
outside. The table itself stays as it is.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from ambient import settings
from ambient.commands import job
from ambient.commands import scale as scales
from ambient.commands.scale import existing
from ambient.data.submitted import Wanted, read
from ambient.jobs.stopping import say
from ambient.settings import NAME, Experiments
from ambient.settings.entry_types import OutsideEntry
from ambient.settings.graph import Graph
from ambient.settings.layers import load
from ambient.settings.outside import place
from ambient.specs import ComparisonSpec, OutsideSpec
from ambient.specs.strict import build, nearest
from ambient.storage.files import write_text
from ambient.storage.text import printable

HEAD = "# Images from outside beside a table, by `ambient score`. Without this file they are left out.\n"


def file_name(label: str) -> str:
    """The name of a row's files. Raises `ValueError` for a label that has no letters for one."""
    name = re.sub(r"[^a-z0-9.-]+", "-", label.lower()).strip("-.")
    if not re.fullmatch(NAME, name):
        raise ValueError(f"--name: got {label!r}, allowed: words with letters a to z or digits")
    return name


def protocol_of(experiments: Experiments, entry: OutsideEntry, name: str) -> OutsideSpec:
    """What the images have to be, before they are read. Raises `ValueError` for no such table or target."""
    run = experiments.outside.run_of(entry, "--protocol")
    graph = Graph(experiments)
    for path in (graph.files.path("tables", table=entry.table), graph.files.weights(run, None),
                 graph.files.reference(run, None)):
        existing(path)
    return experiments.outside.protocol(run, name=name, label=entry.label, sha256="")


def write_entry(path: Path, entry: OutsideEntry) -> None:
    """Write the file of an entry. Raises `ValueError` where one of other images stands there."""
    if path.exists():
        known = build(OutsideEntry, load(path), str(path))
        if replace(known, path=entry.path, label=entry.label) != entry:
            raise ValueError(f"--name: {path} is there, of other images, another table or target: give "
                             "another name, or remove it")
    values = {key: value for key, value in asdict(entry).items() if value is not None}
    write_text(path, HEAD + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000))


def shown(path: Path, compared: ComparisonSpec, spec: OutsideSpec) -> str:
    """The rows of the same target, for people."""
    import pandas as pd

    from ambient.report.comparison import labels

    table = pd.read_csv(path)
    lines = [f"{row['value']:10.2f}  {printable(label)}"
             for label, (_, row) in zip(labels(compared, table), table.iterrows(), strict=True)
             if row.get("reference_dataset", spec.reference) == spec.reference]
    return "\n".join([f"{spec.metric} of {spec.num_samples:,} samples to {spec.reference}, lower is better:",
                      *lines])


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ambient score", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True, metavar="PATH",
                        help="folder or zip of images, or .npy, .npz or .safetensors with uint8 images")
    parser.add_argument("--protocol", required=True, metavar="TABLE",
                        help="table of the scale, such as table2a")
    parser.add_argument("--scale", help="of the table (default: that of config/config.yaml)")
    parser.add_argument("--target", metavar="DATASET",
                        help="of a table with several targets: the dataset that the distance is to")
    parser.add_argument("--name", metavar="LABEL",
                        help="what the row is called (default: the name of the folder or file)")
    return parser


def main(words: list[str]) -> int:
    """Score, add the row, and print the table."""
    given = arguments().parse_args(words)
    scale = given.scale or load(settings.home() / "config.yaml").get("scale")
    experiments = scales.experiments_of(scale)
    if given.protocol not in experiments.tables:
        raise ValueError(f"--protocol: the scale {scale} has no table {given.protocol!r}"
                         f"{nearest(given.protocol, experiments.tables)}")
    samples = given.samples.resolve()
    label = given.name or (samples.name if samples.is_dir() else samples.stem)
    entry = OutsideEntry(scale, given.protocol, str(given.samples.absolute()), "", label, given.target)
    name = file_name(label)
    spec = protocol_of(experiments, entry, name)
    found = read(given.samples, Wanted(spec.num_samples, spec.channels, spec.resolution))
    found.check()
    if found.of > spec.num_samples:
        say(f"score: {found.of:,} images, the first {spec.num_samples:,} by name or place are taken")
    write_entry(place(experiments.folder, name), replace(entry, sha256=found.pin[0]))
    graph = Graph(Experiments(experiments.folder, scale))
    score = graph.files.path("outside", outside=name)
    compared = graph.files.path("comparison", "table_out", table=given.protocol)
    for path in (score, compared):
        job.run(graph, graph.made(path))
    print(shown(Path(compared), graph.experiments.outside.comparison(given.protocol), spec))
    picture = Path(compared).with_suffix(".png").name
    print(printable(f"{compared}, {picture}: the table with rows from outside; they stand there as long as "
                    f"{place(experiments.folder, name)} does"))
    return 0
