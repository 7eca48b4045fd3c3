"""What tables and figures say of themselves, in a reader's words: made from their rows and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ambient.specs import FigureSpec, RowSpec, TableSpec

# A parameter of a corruption as an axis or a column of levels; others go by their own name.
PARAMETERS = {"sigma_px": "blur, standard deviation [pixels]", "quality": "JPEG quality",
              "length_px": "motion blur, length [pixels]"}
# Columns by a scorer, `<scorer>_<key>`, and their titles. The first of `MAIN` that is there is its own.
OF_SCORER = (("mean", "mean"), ("std", "spread over captions"), ("overall", "overall"), ("overall_se", "±"),
             ("training_std", "± training seeds"), ("single_object", "single"), ("two_object", "two"),
             ("counting", "counting"), ("colors", "colours"), ("position", "position"),
             ("color_attr", "two colours"), ("overall_real", "overall, real images"), ("real", "real images"),
             ("threshold", "threshold"), ("threshold_counting", "threshold, counting"),
             ("win_rate", "win rate"), ("win_rate_se", "±"), ("detector", "detector"), ("model", "model"))
MAIN = ("overall", "mean")
# Of the figure of the theory, which has a stage of its own.
THEORY = ("Section 4 in one dimension: a few clean samples alone (Algorithm 1), or with many others "
          "(Algorithm 2), which help above the measured sigma_min.")


def distinct(values: Iterable) -> list:
    """Each value that is one, once, in their order."""
    return list(dict.fromkeys(value for value in values if value is not None and value == value))


def joined(values: Iterable) -> str:
    """Distinct values in a sentence."""
    return " and ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in distinct(values))


def targets(rows: Sequence[RowSpec]) -> str:
    """What the rows' distances are to."""
    return joined(row.target or row.dataset for row in rows)


def label_of(row: RowSpec, rows: Sequence[RowSpec]) -> str:
    """A row's name in a figure of `rows`: what tells it from the others, and its method always.

    Of ranked images the corruption says which of them are good, not which the row has learnt from. So it is
    left out where the methods tell the rows apart.
    """
    parts = [row.target or row.dataset] if len(distinct(r.dataset for r in rows)) > 1 else []
    parts.append(row.method)
    told = row.corruption == "rank" and len({r.method for r in rows}) == len(rows)
    if len(distinct(r.corruption_label for r in rows)) > 1 and not told:
        parts.append(row.corruption_label)
    return ", ".join(part for part in parts if part)


def corruption_of_all(rows: Sequence[RowSpec]) -> str:
    """The one corruption of a table's rows, in brackets; nothing where there are several."""
    found = distinct(row.corruption_label for row in rows)
    return f" ({found[0]})" if len(found) == 1 else ""


def metric_axis(metric: str, num_samples: Iterable[int]) -> str:
    """An axis of distances."""
    return f"{metric} of {joined(map(int, num_samples))} samples (lower is better)"


def published_axis(rows: Sequence[RowSpec]) -> str:
    """The axis of the paper's distances."""
    counts = joined(row.paper_samples for row in rows)
    return f"FID of {counts} samples (lower is better)" if counts else "FID (lower is better)"


def published(rows: Sequence[RowSpec]) -> bool:
    """Whether any row has a published distance beside it."""
    return any("fid" in row.paper for row in rows)


def published_title(rows: Sequence[RowSpec]) -> str:
    """What the paper's values are of."""
    found = joined(row.paper_target for row in rows)
    return f"paper: {found}" if found else "paper"


def plural(count: int, what: str) -> str:
    """`one training seed`, `3 training seeds`."""
    return f"one {what}" if count == 1 else f"{count} {what}s"


def uncertainty(num_training_seeds: int, num_seeds: int, bars: bool = True) -> str:
    """What a value's spreads are: which seeds, and how many; `bars`: as they are drawn."""
    thick, thin = ("thick bar: ", "thin bar: ") if bars else ("", "")
    sampling = f"{thin}standard deviation over {num_seeds} sampling seeds" if num_seeds > 1 else \
        "one sampling seed, so its spread is not known"
    if num_training_seeds > 1:
        return (f"mean over {num_training_seeds} training seeds ({thick}standard deviation over them; "
                f"{sampling})")
    return f"one training seed, so how training seeds scatter is not known ({sampling})"


def seeds_of(row: Mapping) -> tuple[int, int]:
    """(training seeds, sampling seeds) of a table's row."""
    return int(row["num_training_seeds"]), int(row["num_seeds"])


def held_out(report: Mapping) -> str:
    """How many images a classifier's curves are of."""
    counts = report.get("held_out", {})
    return f"{counts.get('clean', '?')} clean and {counts.get('corrupted', '?')} corrupted held-out images"


def title_of(spec: FigureSpec) -> str:
    """The title of a figure that belongs to no table, and whose images it shows."""
    return ". ".join(part for part in (spec.title, spec.target) if part)


def tolerance(absolute: float, relative: float | None) -> str:
    """What bounds the loss that crop(sigma) is read from: `absolute and relative`."""
    return f"{absolute:g}" + ("" if relative is None else f" and {relative:.0%}")


def of_table(spec: TableSpec, table: Mapping[str, Sequence]) -> dict[str, str]:
    """The caption of each figure of a table, by what its file's name ends in."""
    bars = uncertainty(max(map(int, table["num_training_seeds"])), max(map(int, table["num_seeds"])))
    ours = metric_axis(joined(table["metric"]), table["num_samples"])
    here = f"{ours}, on {targets(spec.rows)}; {bars}."
    beside = (f"Left: {here} Right: {published_title(spec.rows)}, {published_axis(spec.rows)}, one value "
              f"each."
              if published(spec.rows) else f"{here[0].upper()}{here[1:]}")
    return {
        "": beside,
        "-grid": f"Real images of {targets(spec.rows)}; below, uncurated samples of each method, and under "
                 "each sample the training image nearest to it by pixel distance: a copy shows itself here.",
        "-curves": "Distance (lower is better) and training loss against training images seen.",
        "-classifiers": "Where noise makes corrupted images pass for clean ones (top), and the noise level "
                        "that each image was given from that (bottom).",
    }
