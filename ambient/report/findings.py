"""What a table says, in sentences made from its numbers: the first lines of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from ambient.annotation.statistics import WEAK_ACCURACY, best_level
from ambient.evaluation.landmarks import BAD, GOOD
from ambient.report.captions import (
    distinct,
    joined,
    label_of,
    plural,
    published,
    published_title,
    seeds_of,
    targets,
)
from ambient.specs import TableSpec


def spread_of(row: pd.Series) -> float:
    """The larger of a row's standard deviations, over training and over sampling seeds; NaN: neither."""
    return max((row[name] for name in ("training_std", "value_std") if pd.notna(row.get(name))),
               default=float("nan"))


def order(spec: TableSpec, table: pd.DataFrame) -> str | None:
    """In how many pairs of rows ours are ordered as the paper's; None where there is no pair."""
    rows = [row for _, row in table.iterrows() if pd.notna(row["paper_value"])]
    pairs = [(a, b) for a, b in combinations(rows, 2) if a["paper_value"] != b["paper_value"]]
    if not pairs:
        return None
    same = sum((a["value"] < b["value"]) == (a["paper_value"] < b["paper_value"]) for a, b in pairs)
    close = sum(abs(a["value"] - b["value"]) <= 2 * max(spread_of(a), spread_of(b)) for a, b in pairs)
    within = f"; {close} of {len(pairs)} differ here by no more than two standard deviations" if close else ""
    which = f"the one pair of rows {'is' if same else 'is not'}" if len(pairs) == 1 else \
        f"{same} of {len(pairs)} pairs of rows are"
    return f"Order: {which} in the paper's order{within}."


def best(spec: TableSpec, table: pd.DataFrame) -> str:
    """The best row, and the others behind it."""
    ranked = table["value"].sort_values(kind="stable").index
    names = [label_of(spec.rows[i], spec.rows) for i in ranked]
    first, *rest = [f"{name} {table['value'][i]:.3g}" for name, i in zip(names, ranked, strict=True)]
    behind = f", ahead of {', '.join(rest[:3])}{f' and {len(rest) - 3} more' if len(rest) > 3 else ''}"
    return f"Best here: {first}{behind if rest else ''}."


def uncertain(table: pd.DataFrame) -> str:
    """How sure the first place is."""
    ranked = table.loc[table["value"].sort_values(kind="stable").index]
    trainings, samplings = seeds_of(ranked.iloc[0])
    seeds = f"{plural(trainings, 'training seed')} and {plural(samplings, 'sampling seed')} a row"
    lone = " One training seed can't say how far another would move a row." if trainings == 1 else ""
    if len(ranked) < 2:
        return f"Uncertainty: {seeds}.{lone}"
    first, second = ranked.iloc[0], ranked.iloc[1]
    gap = second["value"] - first["value"]
    spread = max(spread_of(first), spread_of(second))
    if pd.isna(spread):
        return f"It is ahead by {gap:.2g}; how far seeds scatter is not known ({seeds}).{lone}"
    return (f"It is ahead by {gap:.2g}; the larger standard deviation of the two is {spread:.2g} ({seeds})."
            f"{lone}")


def helped(spec: TableSpec, table: pd.DataFrame) -> str | None:
    """Whether the images that are not clean helped: the best annotated row against the row without them.

    None for a table that has not one row without them, or no annotated row of the same target.
    """
    without = [i for i, row in enumerate(spec.rows) if row.corruption is None]
    if len(without) != 1:
        return None
    first = without[0]
    rows = [i for i, row in enumerate(spec.rows) if row.annotated and row.dataset == spec.rows[first].dataset]
    if not rows:
        return None
    best = min(rows, key=lambda i: table["value"][i])
    gap = table["value"][first] - table["value"][best]
    spread = max(spread_of(table.iloc[i]) for i in (first, best))
    names = [label_of(spec.rows[i], spec.rows) for i in (first, best)]
    size = f"{abs(gap):.2g} ({abs(gap) / table['value'][first]:.0%})"
    clear = abs(gap) > 2 * spread  # false for a spread that is not known
    sure = f", {'more' if clear else 'no more'} than two standard deviations" if pd.notna(spread) else \
        ", and how far seeds scatter is not known"
    verdict = "The other images helped" if gap > 0 else "The other images did not help here"
    if not clear:
        verdict = "Whether the other images helped can't be told"
    side = "nearer" if gap > 0 else "farther"
    return (f"{verdict}: {names[1]} is {side} than {names[0]} by {size}{sure}."
            + seed_by_seed(names[1], table, best))


def seed_by_seed(name: str, table: pd.DataFrame, row: int) -> str:
    """In how many training seeds a row is ahead of all others; nothing where there is one seed."""
    if "training_values" not in table or table["training_values"].isna().any():
        return ""
    values = np.array([[float(one) for one in seeds.split("/")] for seeds in table["training_values"]])
    ahead = (values[row] < np.delete(values, row, axis=0)).all(axis=0)
    return f" {name} is ahead of all other rows in {ahead.sum()} of {len(ahead)} training seeds."


def told_apart(label: str, report: Mapping) -> str:
    """How well a noise classifier tells some images from good ones, by its held-out report; where it can't,
    what that means and what helps."""
    best = best_level(report["levels"])
    right = f"{best['accuracy']:.2f} of held-out images right at sigma {best['sigma']:.2g}, its best level"
    if best["accuracy"] >= WEAK_ACCURACY:
        return f"The noise classifier tells good images from {label}: {right}."
    return (f"The noise classifier can hardly tell good images from {label}: {right}, where guessing gives "
            f"0.5. Below {WEAK_ACCURACY} sigma_min means little: which images are used at which noise is "
            "then chance. More good images help most. A larger resolution helps where the faults are too "
            "fine for this one, and more levels of the classifier (channel_mult) where the others show other "
            "things.")


def seen(label: str, known: pd.DataFrame) -> str:
    """Whether a distance sees the faults of bad images, by what they and held-out good ones score.

    It does where the two are farther apart than the larger of their standard deviations over draws. `known`
    is the table of `ambient.evaluation.landmarks`.
    """
    good, bad = (known.loc[known["images"] == name].iloc[0] for name in (GOOD, BAD))
    clear = bad["value"] - good["value"] > max(bad["value_std"], good["value_std"])
    scores = (f"they score {bad['value']:.3g} ± {bad['value_std']:.2g} where good ones that are held out "
              f"score {good['value']:.3g} ± {good['value_std']:.2g}")
    if clear:
        return f"The distance sees the faults of the bad images ({label}): {scores}."
    return (f"The distance hardly sees the faults of the bad images ({label}): {scores}. So it says how near "
            "samples are to pictures like these, and little of such faults. Look at the samples for them.")


def comparable(spec: TableSpec, table: pd.DataFrame) -> str:
    """Whether ours and the paper's may be compared in size, where there are published values."""
    metrics, counts = distinct(table["metric"]), distinct(table["num_samples"])
    same = metrics == ["fid"] and counts == distinct(row.paper_samples for row in spec.rows)
    ours = f"{' / '.join(metrics)} of {joined(map(int, counts))} samples on {targets(spec.rows)}"
    if not published(spec.rows):
        return f"Measured by {ours}: only the rows of this table compare."
    words = "the same protocol, so values compare" if same else "only the order of rows compares"
    return f"Ours: {ours}; {published_title(spec.rows)}: {words}."


def findings(spec: TableSpec, table: pd.DataFrame, level: int,
             classifiers: Sequence[Mapping] = (),
             landmarks: Sequence[pd.DataFrame] = ()) -> Sequence[str]:
    """At most six sentences on a table whose audit reached `level`. Lower is better throughout.

    One more for each of `classifiers`, the held-out reports of `spec.told_apart`, and of `landmarks`, what
    the known images of `spec.landmarks` score.
    """
    provenance = f"Provenance: level {level} of 4 when this page was made."
    apart = [told_apart(*one) for one in zip(spec.told_apart, classifiers, strict=True)]
    known = [seen(*one) for one in zip(spec.landmarks, landmarks, strict=True)]
    return [sentence for sentence in (best(spec, table), uncertain(table), helped(spec, table), *known,
                                      *apart, order(spec, table), comparable(spec, table), provenance)
            if sentence]
