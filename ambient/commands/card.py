"""The model card of a run: its data as the manifests describe them, its method, and its scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from ambient.commands.scale import Chosen, Origin, beside, origin
from ambient.provenance import manifest
from ambient.report import show
from ambient.report.captions import uncertainty
from ambient.specs import TableSpec
from ambient.storage.files import read_json

FILL_IN = "FILL-IN"  # in the place of the licence, which its owner knows alone
PAPER = "https://arxiv.org/abs/2506.10038"
MOST = 20  # classes that are listed with their numbers of images
METHODS = {
    "noise": "The other images are worse than the target's, or of another kind. A noise classifier gave each "
             "of them the level sigma_min from which noise hides that; the model learnt from it above that "
             "level alone (section 3.1 of the paper).",
    "crops": "The other images are of another kind. Classifiers of crops gave each of them the level "
             "sigma_max up to which a denoiser sees no more of it than parts that could be the target's; the "
             "model learnt from it below that level alone (section 3.2 of the paper).",
    None: "No classifier annotated the images: the method is the table's row of this run."}
CARD = """\
---
{{ head }}---

# {{ run }}

A diffusion model of {{ image }} images{{ latents }}, trained with the package `ambient`, a
reference implementation of [Ambient Diffusion Omni]({{ paper }}): run `{{ run }}` of the scale `{{ scale }}`,
training seed {{ seed }}, after {{ "{:,}".format(snapshot) }} images seen. The weights are an average over the
training.

![Samples]({{ sheet }})

The first samples of sampling seed {{ sampling_seed }}, none left out.

## Use

```python
{{ snippet }}```

## Data

{% for line in data %}
- {{ line }}
{% endfor %}

**Licence: to be filled in.** Whether these weights may be passed on depends on the images that they learnt
from. Write the licence here, and in the head of this file in the place of `{{ fill_in }}`.

## Method

A denoiser D(x, sigma) in the preconditioning of EDM (Karras et al. 2022), trained at noise levels sigma with
ln sigma normal of mean {{ noise.P_mean }} and standard deviation {{ noise.P_std }}.
{{ method }}

## Scores

{% if not scores %}
No table that holds this run has been made.
{% endif %}
{% for table in scores %}
{{ table.title }}: {{ table.metric }} to {{ table.reference }}, lower is better; {{ table.protocol }}.

| method | {{ table.metric }} | ± training seeds | ± sampling seeds |
|---|---|---|---|
{% for row in table.rows %}
| {{ row | join(" | ") }} |
{% endfor %}

{% if table.several %}
The values are means over training seeds. These weights are those of one of them.
{% endif %}
Only values of the same metric, by the same detector and number of samples, can be compared.
{% endfor %}

## Provenance

| what | SHA-256 |
|---|---|
| the weights, as the training wrote them | `{{ weights.sha256 }}` |
| Merkle root of the {{ weights.manifests }} manifests of the weights | `{{ weights.root }}` |
{% for table in scores %}
| Merkle root of the {{ table.root.manifests }} manifests of {{ table.file }} | `{{ table.root.sha256 }}` |
{% endfor %}

Who has the results can check them with `python -m ambient audit results/{{ scale }}`. `provenance.json` and
`training.manifest.json` hold the settings, the code and the machine of the training.
"""


def images_of(run: Chosen, dataset: str) -> str:
    """A dataset in words, from the manifest of the job that prepared it."""
    found = manifest.read(manifest.path_for(Path(run.files.path("prepare", dataset=dataset))))
    facts, spec = found["facts"], found["spec"]
    names, counts = facts.get("class_names", {}), facts.get("class_images", {})  # made images have none
    listed = ", ".join(f"{names.get(i, i)} {count:,}" for i, count in counts.items())
    labels = f"{facts['classes']} classes" if facts["classes"] else "no labels"
    if 0 < len(counts) <= MOST:
        labels += f" ({listed})"
    raw = [f"{one['file']}, SHA-256 `{one['sha256']}`" for one in found["external"]]
    shape = f"{spec['channels']} x {spec['resolution']} x {spec['resolution']} pixels"
    parts = [f"{run.experiments.label('datasets', dataset)}: {facts['images']:,} images of {shape}, {labels}",
             f"Raw data: {'; '.join(raw) or 'none, they are made'}", spec.get("about")]
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def data_of(run: Chosen) -> Iterator[str]:
    """What a run learnt from, a line each."""
    experiments, made = run.experiments, run.experiments.run(run.run)
    yield f"Target: {images_of(run, experiments.study(made.study).dataset)}"
    for corruption in dict.fromkeys(corruption for corruption, _ in made.parts):
        if (added := experiments.added_dataset(corruption)) is not None:
            yield f"Added: {images_of(run, added)}"
        elif corruption != "none":
            words = experiments.label("corruptions", corruption)
            if experiments.scorer_of(corruption) is not None:
                yield f"No image is changed. Those that count as good: {words}."
                continue
            yield f"The images that are not kept clean are corrupted: {words}."
    counts = read_json(beside(run.denoiser, run.files.annotations(run.run, "summary")))
    clean, others = counts["samples"] - counts["corrupted"], counts["corrupted"]
    used = f", and {others:,} others, of which {counts['used']:,} are used at some noise level"
    yield f"Learnt from: {clean:,} clean images{used if others else ''}."


def tables_of(run: Chosen) -> dict[Path, TableSpec]:
    """The tables that hold the run and are made, by their files."""
    found = {}
    for name, spec in run.experiments.tables.items():
        path = Path(run.files.path("tables", table=name))
        if run.run in [row.run for row in spec.rows] and path.is_file():
            found[path] = spec
    return found


def scores_of(run: Chosen) -> Iterator[dict[str, Any]]:
    """Of each table that holds the run and is made: its rows, with what was measured and how sure it is."""
    for path, spec in tables_of(run).items():
        origin(path)
        table = show.read(path)
        own = table[table["run_id"] == f"runs/{run.run}"].iloc[0]
        target = next(row.reference for row in spec.rows if row.run == run.run)
        images = f"{int(own['reference_images']):,} images of " if "reference_images" in own else ""
        resize = "" if own.get("resize", "none") == "none" else f", resizing: {own['resize']}"
        rows = [[f"**{row['method']}**" if row["run_id"] == own["run_id"] else row["method"],
                 *(number(row.get(key)) for key in ("value", "training_std", "value_std"))]
                for _, row in table.iterrows()]
        yield {"title": spec.title or path.stem, "file": path.name, "metric": own["metric"], "rows": rows,
               "value": float(own["value"]), "several": int(own["num_training_seeds"]) > 1,
               "reference": f"{images}{target}",
               "protocol": f"{int(own['num_samples']):,} samples a seed{resize}; " + uncertainty(
                   int(own["num_training_seeds"]), int(own["num_seeds"]), bars=False),
               "root": manifest.read(manifest.path_for(path))["root"]}


def by(shape: tuple[int, ...]) -> str:
    """A shape in words: `3 x 32 x 32`."""
    return " x ".join(map(str, shape))


def number(value: Any) -> str:
    """A cell: a number of two decimals, or empty."""
    return "" if value is None or pd.isna(value) else f"{value:.2f}"


def head(run: Chosen, scores: list[Mapping]) -> str:
    """The YAML at the head of the card, as a hub reads it."""
    found: dict[str, Any] = {
        "library_name": "ambient", "pipeline_tag": "unconditional-image-generation",
        "tags": ["diffusion", "ambient-diffusion"], "license": "other", "license_name": FILL_IN}
    if scores:
        found["model-index"] = [{"name": run.run, "results": [{
            "task": {"type": "unconditional-image-generation"},
            "dataset": {"name": one["reference"], "type": run.experiments.scale},
            "metrics": [{"type": one["metric"], "name": f"{one['metric']} ({one['protocol']})",
                         "value": round(one["value"], 4)}]} for one in scores]}]
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=1000)


def card(run: Chosen, weights: Origin, about: Mapping, image: tuple[int, int, int], snippet: str,
         sheet: str) -> str:
    """The text of README.md. `about`: the description beside the weights; `image`: (C, H, W) of an image."""
    experiments, scores = run.experiments, list(scores_of(run))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     keep_trailing_newline=True)
    row, seen = experiments.row(run.run, "runs"), (about["channels"], *(about["resolution"],) * 2)
    latents = f", in their latents of {by(seen)}" if about.get("encoded") else ""
    return environment.from_string(CARD).render(
        head=head(run, scores), run=run.run, scale=experiments.scale, seed=run.seed, image=by(image),
        latents=latents, noise=about["spec"]["noise"], paper=PAPER, sheet=sheet,
        snapshot=about["spec"]["snapshots"][-1], sampling_seed=experiments.sampling(run.run).seeds[0],
        snippet=snippet, data=list(data_of(run)), fill_in=FILL_IN,
        method=METHODS.get(row.annotated, METHODS[None]), scores=scores, weights=weights)
