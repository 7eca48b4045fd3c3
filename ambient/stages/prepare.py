"""Stage: raw data -> the prepared format, with everything that is wrong refused here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ambient.data import preparing, sources
from ambient.data.datasets import Dataset, arrays_of, write
from ambient.data.pictures import DECODERS
from ambient.data.raw import Raw
from ambient.data.readers import Reading
from ambient.jobs import stopping
from ambient.jobs.growing import Growing
from ambient.jobs.state import State
from ambient.jobs.stopping import say
from ambient.provenance import schema
from ambient.specs import DatasetSpec

MOST = 20  # classes that are named


def locate(spec: DatasetSpec, raw: Path | None) -> Path:
    """Where the raw data lie. Raises `ValueError` where they can't be had."""
    if raw is not None and not raw.exists():
        raise ValueError(f"{raw}: no such file or folder")
    path = Path(os.path.abspath(raw or sources.KINDS[spec.source].locate(spec)))
    schema.name(path.name, "--raw: the name, which is recorded")
    return path


def read(spec: DatasetSpec, raw: Raw, rule: Path | None, table: Path | None) -> Reading:
    """What the source gives. Told to stop meanwhile, the digests that it took are kept."""
    beside = {} if table is None else {"table": table}
    try:
        reading = sources.KINDS[spec.source].read(spec, raw, rule, **beside)
    except SystemExit:
        raw.keep()
        raise
    raw.keep()
    return reading


def taken(spec: DatasetSpec, path: Path, reading: Reading) -> np.ndarray:
    """The ids of the images that the specification means. Raises `ValueError` where there are none."""
    rows = preparing.subset(reading.labels, spec.classes, spec.max_images, reading.rows, spec.part)
    if len(rows):
        return rows
    asked = [f"{key} {list(values)}" for key in ("classes", "part") if (values := getattr(spec, key))]
    known = np.unique(reading.labels).tolist()
    more = f" and {len(known) - MOST:,} more" if len(known) > MOST else ""
    raise ValueError(f"{path}: got {' and '.join(asked)}, which leave none of {len(reading.labels):,} "
                     + ("images, allowed: a larger part" if spec.classes is None else "images, of the "
                        f"classes {', '.join(map(str, known[:MOST]))}{more}, allowed: some of these"))


def check(spec: DatasetSpec, path: Path, reading: Reading) -> None:
    """Hold a reading against the specification. Raises `ValueError` naming the file."""
    if spec.num_images is not None and len(reading.labels) != spec.num_images:
        raise ValueError(f"{path}: {len(reading.labels)} images, the configuration's num_images is "
                         f"{spec.num_images}")
    if reading.channels != spec.channels:
        raise ValueError(f"{path}: images have {reading.channels} channels, the configuration's channels "
                         f"is {spec.channels}")


def tell(path: Path, facts: dict) -> None:
    """Print what a dataset has, for whoever reads the log."""
    names = facts["class_names"]
    classes = [f"{names.get(i, i)} {count:,}" for i, count in facts["class_images"].items()]
    if len(classes) > MOST:
        classes = [*classes[:MOST], f"... ({len(classes):,} classes)"]
    say(f"prepare: took {facts['images']:,} of {facts['raw_images']:,} images of {facts['raw_side']}x"
        f"{facts['raw_side']} pixels from {path}")
    say(f"prepare: labels from {facts['labels_from']}" + (f": {', '.join(classes)}" if classes else ""))
    if "captions" in facts:
        say(f"prepare: {facts['captions']:,} distinct captions from {facts['captions_from']}")
    for key, what in (("converted", "converted"), ("left_out", "left out")):
        counted = [f"{count:,} {name}" for name, count in facts[key].items()]
        say(f"prepare: {what}: {', '.join(counted) or 'nothing'}")


def check_pin(spec: DatasetSpec, path: Path, digest: str) -> None:
    """Refuse raw data that are not the pinned ones."""
    if spec.sha256 and digest != spec.sha256:
        raise ValueError(f"{path}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}: put back "
                         "what was there, or write the sha256 found into its entry")


def check_rule(spec: DatasetSpec, rule: Path | None, record) -> None:
    """Note the file of the rule. Raises `ValueError` if it is not the one that the configuration had."""
    if rule is None:
        return
    found, expected = record.external("rule", rule, f"good images: {spec.select.by}"), spec.select.sha256
    if expected not in (None, found):
        raise ValueError(f"{rule}: sha256 is {found}, the configuration read it as {expected}: it changed "
                         "meanwhile; run the same command again")


def main(spec: DatasetSpec, record, *, raw: Path | None, state: State, out: Path, rule: Path | None = None,
         table: Path | None = None) -> None:
    """`out` gets the prepared dataset. `rule` tells which images are taken, `table` has their captions."""
    if spec.HAD == "drawn":
        data = sources.KINDS[spec.source].draw(spec)
        write(out, data)
        record.facts |= {"images": len(data.ids), "classes": data.num_classes, "raw": "none"}
        if data.captions is not None:
            record.facts["captions"] = len(data.captions)
        return
    if spec.path is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"path: got {spec.path!r}, allowed: null here; give the path as --raw")
    with stopping.nothing_to_save("prepare"):
        path = locate(spec, raw)
        source = Raw(path, state)
        if not source.is_folder:
            check_pin(spec, path, source.sums[path.name])
        reading = read(spec, source, rule, table)
        check(spec, path, reading)
        rows = taken(spec, path, reading)
        data = Dataset(preparing.take(reading, rows, spec), reading.labels[rows], rows,
                       **preparing.chosen_of(reading, rows))

    def close() -> None:  # when all was read, before the dataset takes its place
        with stopping.nothing_to_save("prepare"):
            seen = source.close()
            check_pin(spec, path, seen[0])
            record.external("raw", path, spec.source, seen)
            check_rule(spec, rule, record)
            if table is not None:
                record.external("table", table, "captions")

    if data.images is None:
        write(out, data, close)
    else:
        growing = Growing(state, [source.mark, DECODERS])
        growing.write("prepare", out, arrays_of(data), "images", preparing.Learnt(reading, source), close)
    facts = preparing.report(reading, rows, spec) | preparing.captions_of(reading, data.captions)
    if spec.ENCODED:  # jobs that read more of the folder record the same of it
        facts["files"] = dict(source.sums)
    tell(path, facts)
    record.facts |= facts | {"raw_checksum_verified": reading.verified or bool(spec.sha256),
                             **DECODERS}
