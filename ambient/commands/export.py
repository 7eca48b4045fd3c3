"""`python -m ambient export SCALE --out DIR`: a run's weights with a model card, ready for a hub.

DIR gets model.safetensors (the averaged weights of the last snapshot, which `ambient.load_denoiser` reads),
README.md (the card; the licence is yours to fill in), example.py, a contact sheet, and where everything comes
from. Of a run on latents it gets encoder.safetensors, too, which decodes them. It appears whole or not at
all. Nothing is sent anywhere without --push. That sends exactly these files, once the card has a licence and
the audit finds no broken link behind the weights and the card's tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import secrets
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path

from ambient.commands import hub
from ambient.commands import scale as scales
from ambient.commands.card import FILL_IN, card, tables_of
from ambient.commands.scale import Chosen, Origin, beside, origin
from ambient.provenance import manifest
from ambient.specs import SamplerSpec
from ambient.specs.strict import plain
from ambient.storage.files import read_json, sha256, sync_folder, write_json, write_text
from ambient.storage.text import printable

WEIGHTS, CARD, EXAMPLE, SHEET = "model.safetensors", "README.md", "example.py", "contact-sheet.png"
ORIGIN, MANIFEST = "provenance.json", "training.manifest.json"
ENCODER = "encoder.safetensors"  # of a run on latents: what decodes them
SHOWN = 64  # samples on the contact sheet
SNIPPET = """\
import ambient

trained = ambient.load_denoiser("{weights}")
{call}
# images: uint8, {shape}
"""
CALL = "images = ambient.sample("


def refuse_guided(run: Chosen) -> None:
    """Raise `ValueError` for a run whose samples take two networks, or a text encoder beside their own: an
    export holds one network."""
    if run.experiments.training(run.run, run.seed).told_captions:
        raise ValueError(f"--run: {run.run} is told captions, which takes a text encoder beside it; allowed: "
                         "a run that is not (ambient generate draws images of captions)")
    if run.experiments.sampling(run.run).guide is not None:
        raise ValueError(f"--run: {run.run} is sampled with guidance by another network; allowed: a run that "
                         "is not guided")


def check_folder(out: Path, weights: Origin) -> bool:
    """Whether a folder holds an export of these weights already. Raises `ValueError` for anything else."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise ValueError(f"--out {out}: a file is there: give a folder")
    if not any(out.iterdir()):
        return False
    found = read_json(out / ORIGIN) if (out / ORIGIN).is_file() else None
    if not isinstance(found, Mapping) or found.get("weights_sha256") != weights.sha256:
        raise ValueError(f"--out {out}: holds files that are no export of these weights: give another folder")
    return True


def write_weights(run: Chosen, path: Path) -> dict:
    """Write the last snapshot alone; returns the description beside it."""
    from ambient.training.weights import read_description, read_weights, save_weights

    about = read_description(run.denoiser)
    last = about["spec"]["snapshots"][-1]
    about["spec"]["snapshots"] = [last]
    tensors = read_weights(run.denoiser, f"{last}/")
    save_weights(path, {f"{last}/{name}": tensor for name, tensor in tensors.items()}, about)
    return about


def write_sheet(run: Chosen, path: Path) -> None:
    """Write the first samples of the workflow."""
    from ambient.commands.pictures import contact_sheet
    from ambient.storage.arrays import open_arrays, part

    samples = beside(run.denoiser, run.files.path("sample", run=run.run, seed=str(run.seed)))
    last = str(run.experiments.training(run.run, run.seed).snapshots[-1])
    contact_sheet(path, part(open_arrays(samples, last)[last], 0)[:SHOWN])


def write_encoder(run: Chosen, path: Path) -> Path | None:
    """Write what decodes the latents of a run; None where it works on pixels."""
    encoder = run.files.encoder_of_run(run.run)
    return encoder and Path(shutil.copyfile(beside(run.denoiser, encoder), path))


def snippet(sampler: SamplerSpec, image: tuple[int, int, int], encoded: bool) -> str:
    """The lines that load the weights and draw images (C, H, W) from them."""
    told = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)
            if getattr(sampler, field.name) != field.default}
    told = {"count": 16, "seed": 0, "steps": told.pop("num_steps"), **told}
    told |= {"encoder": ENCODER} if encoded else {}
    call = f"{CALL}trained, {', '.join(f'{name}={json.dumps(value)}' for name, value in told.items())})"
    call = textwrap.fill(call, 100, subsequent_indent=" " * len(CALL), break_long_words=False)
    return SNIPPET.format(weights=WEIGHTS, shape=(16, *image), call=call)


def fill(run: Chosen, weights: Origin, folder: Path) -> None:
    """Write all files of an export."""
    from ambient.training.encoding import shape_of_images

    about = write_weights(run, folder / WEIGHTS)
    encoder = write_encoder(run, folder / ENCODER)
    image = shape_of_images(about, encoder)
    write_sheet(run, folder / SHEET)
    code = snippet(run.experiments.sampling(run.run).sampler, image, encoder is not None)
    write_text(folder / EXAMPLE, code)
    write_text(folder / CARD, card(run, weights, about, image, code, SHEET))
    shutil.copy(manifest.path_for(run.denoiser), folder / MANIFEST)
    write_json(folder / ORIGIN, {
        "scale": run.experiments.scale, "run": run.run, "training_seed": run.seed,
        "snapshot": about["spec"]["snapshots"][-1], "weights_sha256": weights.sha256,
        "provenance_root": weights.plain(), "sampling": plain(run.experiments.sampling(run.run)),
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir())}})


def write(run: Chosen, weights: Origin, out: Path) -> None:
    """Make the folder: in a hidden one beside it, which then takes its name."""
    hidden = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    with scales.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        hidden.mkdir()
    try:
        fill(run, weights, hidden)
        if out.exists():  # and empty
            out.rmdir()
        hidden.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def send(run: Chosen, out: Path, repository: str) -> str:
    """Send an export to a hub; returns its address. Raises `ValueError` where it may not be sent."""
    try:
        names = hub.files_of(out, ORIGIN, editable=CARD)
        hub.require_licence(out / CARD)
        hub.require_audited([run.denoiser, *tables_of(run)])
    except ValueError as error:
        raise ValueError(f"--push {repository}: nothing was sent: {error}") from None
    return hub.push(out, names, repository)


def main(arguments: list[str]) -> int:
    """Write the folder, and send it where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m ambient export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    scales.add_options(parser)
    scales.add_training_seed(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="folder to be made; an export of the same weights is left as it is, edits too")
    parser.add_argument("--push", metavar="OWNER/NAME",
                        help="send the folder to this repository of the Hugging Face hub, which is made "
                        "private where it is new (needs the extra `hub`)")
    given = parser.parse_args(arguments)
    if given.push:
        hub.require_hub()
    run = scales.chosen(given)
    refuse_guided(run)
    weights = origin(run.denoiser)
    there = check_folder(given.out, weights)
    if not there:
        write(run, weights, given.out)
    done = "is there and left as it is" if there else "written"
    print(printable(f"{given.out}: {done}, {run.run} of the scale {given.scale}"))
    if FILL_IN in (given.out / CARD).read_text(encoding="utf-8") and not given.push:
        print(printable(f"{given.out / CARD}: the licence is to be filled in, in the place of {FILL_IN}"))
    if given.push:
        print(printable(f"sent to {send(run, given.out, given.push)}"))
    return 0
