"""The one file that `ambient new` writes: a scale for own images, with its settings and comments."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ambient.commands.new_parts import Part
from ambient.commands.new_sizes import Sizes
from ambient.specs import SelectSpec
from ambient.storage.text import printable

SAMPLES = 500  # of each model, for its distance
TEXT = """\
# {name}: a scale for your own images, written by `ambient new` on {date}. Edit what you like, then run
#
#   snakemake --cores 2 --config scale={name}
#
# for results/{name}/report.html. Only what depends on an edit is made again. Your images stay where and as
# they are. `python -m ambient doctor {name}` says what the run costs.
{counts}

datasets:
  # sha256: of the whole folder. When you add, change or remove images there, take it out, or run `new` again.
  # crop: centre (the middle square), pad (the whole image, on black), adm (as for ImageNet), or bicubic
  # (the middle square in one step, as for MicroDiT)
{good}
{others}
corruptions:  # op add: the images of another dataset are added to the good ones
{corruptions}
studies:
  {name}:
    like: pixel  # what all studies share: config/studies.yaml
    dataset: {name}-good
    clean_fraction: 1.0  # all of the good images are known to be good
    training_seeds: {seeds}  # each method is trained once a seed: [0, 1, 2] shows how far seeds scatter
    detector: selfnet
    # Learns to tell good images from others at each noise level. Quality is told by texture: a network that
    # sees a few pixels can't memorise few images. Nothing that resamples, and so blurs, for augmentation.
    # Where the others show other things, give it more levels: channel_mult: {classifier_levels}.
    classifier:
      network: {{model_channels: 16, channel_mult: [1], num_blocks: 3, attn_resolutions: [], dropout: 0.0}}
      augment: {{p: 0.5, transforms: [xflip, yflip, translate]}}
      optimiser:
        {{nimg: {classifier_nimg}, batch: 32, lr: 1.0e-3, ramp_nimg: 6400, decay: cosine, clip: 1.0,
         ema_halflife_nimg: 4000, ema_ramp: 0.1, precision: bfloat16}}
      noise: {{P_mean: -1.5, P_std: 1.6}}
      nuisances: [negate, transpose]
      recalibrate: bias
      holdout: 0.2
      evaluations: 10
    annotation:  # sigma_min: the noise level from which the classifier can't tell an image from a good one
      {{protocol: shared_noise, grid: geometric, num_sigmas: 24, sigma_low: 0.02, sigma_high: 10.0,
       num_trials: 2, precision: bfloat16}}
    training:
      network:
        {{model_channels: {channels}, channel_mult: {levels}, num_blocks: 1, attn_resolutions: [],
         dropout: 0.0, conditional: false}}
      augment: {{p: 0.12, transforms: [xflip, scale, rotate, translate]}}
      optimiser:  # nimg: how many images each model sees; twice as many take twice the time
        {{nimg: {nimg}, batch: {batch}, lr: 2.0e-3, ramp_nimg: 6400, decay: cosine, clip: 1.0,
         ema_halflife_nimg: 4000, ema_ramp: 0.1, precision: bfloat16}}
      snapshots: {snapshots}
    sampling: {{sampler: {{num_steps: 14}}, num_samples: {samples}, earlier_seeds: 1, precision: bfloat16}}

tables:
  {name}:
    title: {title}
    landmarks: true  # what good images score that are held out, and what the others do
    defaults: {{study: {name}}}
    rows:
{rows}
figures:
{figures}
main: {{tables: [{name}], figures: [{shown}]}}
"""


def flow(value: Any) -> str:
    """A value on one line of YAML: JSON is YAML, but for keys that need no quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalpha() and (
            value.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")):
        return value
    return json.dumps(value, ensure_ascii=False)


def selection(select: SelectSpec) -> dict:
    """What a selection says beside its defaults."""
    values = {field.name: getattr(select, field.name) for field in dataclasses.fields(select)}
    return {key: value for key, value in values.items()
            if value != SelectSpec.__dataclass_fields__[key].default}


def dataset(name: str, part: Part, settings: Mapping[str, Any], label: str) -> str:
    """The entry of a part."""
    select = selection(part.select)
    entry = {"source": "photos", "path": str(part.path), "sha256": part.sha256, **settings,
             "num_images": part.count, "labels": "none", **({"select": select} if select else {}),
             **({"rule": str(part.rule)} if part.rule else {}), "label": label}
    body = ",\n     ".join(f"{key}: {flow(value)}" for key, value in entry.items())
    return f"  {name}:\n    {{{body}}}\n"


def rows(parts: Sequence[Part]) -> str:
    """The three methods: on the good images, on all alike, and on each at its own noise levels."""
    kinds = [f"plus-{part.name}" for part in parts[1:]]

    def all_kinds(annotation: str) -> dict:
        first, *also = [{"corruption": kind, "annotation": annotation} for kind in kinds]
        return first | ({"also": also} if also else {})

    methods = {"only-good": {"corruption": "none", "annotation": "clean", "label": "Only Good"},
               "all-alike": all_kinds("all") | {"label": "All data"},
               "ambient": all_kinds("per-sample") | {"label": "Ambient-o"}}
    return "".join(f"      {name}: {flow(entry)}\n" for name, entry in methods.items())


def figures(name: str, parts: Sequence[Part]) -> dict[str, dict]:
    """Figures beside the table's own; where a score tells which images are good, one of the scores first."""
    below = [f"plus-{part.name}" for part in parts[1:] if part.select.at_least is not None]
    scores = {"title": "Which images are good", "kind": "quality", "study": name, "corruptions": below[-1:]}
    return ({f"{name}-scores": scores} if below else {}) | {
        f"{name}-sigma-min": {"title": "sigma_min of your images", "kind": "extremes", "run": "ambient"},
        f"{name}-use": {"title": "How many images each noise level uses", "kind": "donut", "run": "ambient"}}


def scale(name: str, parts: Sequence[Part], settings: Mapping[str, Any], sizes: Sizes, seeds: int) -> str:
    """The text of `config/scales/{name}.yaml`. `settings`: resolution, channels and crop of all images."""
    good, *others = parts
    shown = figures(name, parts)
    counts = "\n".join(printable(f"# {part.name}: {part.count:,} images, {part.by}.") for part in parts)
    return TEXT.format(
        name=name, date=datetime.now(UTC).strftime("%Y-%m-%d"), counts=counts,
        good=dataset(f"{name}-good", good, settings, "good images").rstrip("\n"),
        others="".join(dataset(f"{name}-{part.name}", part, settings, f"{part.name} images")
                       for part in others),
        corruptions="".join(f"  plus-{part.name}: {flow(added(name, good, part))}\n" for part in others),
        seeds=list(range(seeds)), classifier_levels=list(sizes.levels[:3]),
        classifier_nimg=sizes.classifier_nimg, channels=sizes.channels, levels=list(sizes.levels),
        nimg=sizes.nimg, batch=sizes.batch, snapshots=[sizes.nimg // 4, sizes.nimg // 2, sizes.nimg],
        figures="".join(f"  {key}:\n    {flow(entry)}\n" for key, entry in shown.items()),
        shown=", ".join(shown), samples=SAMPLES, rows=rows(parts),
        title=json.dumps(f"{name}: good images, and what the others add"))


def added(name: str, good: Part, part: Part) -> dict:
    """The entry of a kind of images that is added to the good ones: parts of one folder share their ids."""
    shared = {"same_source": True} if part.path == good.path else {}
    return {"op": "add", "dataset": f"{name}-{part.name}", **shared}
