"""How good the samples of a table's rows are by a scorer, and how often they beat those of the first row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ambient.evaluation.geneval import TASKS, Share, geneval_score
from ambient.storage.files import read_arrays


def preference(scores: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """How often samples score higher than those of another row that are drawn from the same latents.

    win_rate p = (wins + ties / 2) / n of n pairs, so that both rows' are 1 together; its standard error is
    sqrt(p (1 - p) / n), of pairs that are independent; ties is their share. Raises `ValueError` for arrays of
    other shapes, whose samples are no pairs, and for scores that are no numbers.
    """
    if scores.shape != first.shape:
        raise ValueError(f"samples of the shapes {scores.shape} and {first.shape} are no pairs: all rows of "
                         "a table are scored with as many samples and seeds")
    if missing := int(np.isnan(scores).sum() + np.isnan(first).sum()):
        raise ValueError(f"{missing} of the scores are no numbers, allowed: a score of each sample")
    ties = float((scores == first).mean())
    rate = float((scores > first).mean()) + ties / 2
    return {"win_rate": rate, "win_rate_se": float(np.sqrt(rate * (1 - rate) / scores.size)), "ties": ties}


def columns(scorer: str, files: Sequence[Path], first: Sequence[Path]) -> dict[str, float]:
    """The columns of one row by a scorer: mean and median score, and the preference to the first row.

    `files` and `first` hold one file for each training seed, of this row and of the first one. The first row
    has no preference. Of several training seeds `training_std` is the standard deviation of their means.
    Where samples of a caption have one score together, their standard deviation over captions and seeds is
    a column, and of how many images a score is; where real images are scored beside them, their mean is.
    Verdicts on prompts of several tasks have the columns of `of_tasks` instead.
    """
    arrays = [read_arrays(path) for path in files]
    if "task" in arrays[0]:
        return {f"{scorer}_{name}": value for name, value in of_tasks(arrays).items()}
    own, other = (np.stack(scores) for scores in ([one["score"] for one in arrays],
                                                  [read_arrays(path)["score"] for path in first]))
    found = {"mean": float(own.mean()), "median": float(np.median(own)), **scatter(map(np.mean, own))}
    if "of" in arrays[0]:
        found |= {"std": float(own.std(ddof=1)) if own.size > 1 else np.nan,
                  "of": float(arrays[0]["of"].max())}
    if "real_score" in arrays[0]:
        found["real"] = float(arrays[0]["real_score"].mean())
    if list(files) != list(first):
        found |= preference(own, other)
    return {f"{scorer}_{name}": value for name, value in found.items()}


def scatter(values: Iterable[float]) -> dict[str, float]:
    """`training_std`, the standard deviation of a number over training seeds; nothing for one seed."""
    found = list(map(float, values))
    return {"training_std": float(np.std(found, ddof=1))} if len(found) > 1 else {}


def of_tasks(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """The columns of GenEval's verdicts: the share of right images of each task and the mean of the tasks.

    Each has its standard error, `_se`, which is that over prompts, of several training seeds as one, and what
    real images reach by the same detector, `_real`, where some were judged: where that is far from 1 a task
    says little. Of several seeds `_training_std` is the standard deviation of a task's shares over them, and
    `training_std` that of their means over the tasks. `threshold`: from which score on detections
    count, `threshold_counting`: where objects are counted; `objects`: how many of them an image has.
    """
    score, task, threshold = (np.concatenate([one[key].ravel() for one in arrays])
                              for key in ("score", "task", "threshold"))
    own, real = by_task(score, task), {}
    if "real_score" in arrays[0]:
        real = by_task(arrays[0]["real_score"], arrays[0]["real_task"])
    if "prompt" in arrays[0]:
        own = own | over_prompts(own, score, task, np.concatenate([one["prompt"].ravel() for one in arrays]))
    seeds = [by_task(one["score"], one["task"]) for one in arrays]
    found: dict[str, float] = {}
    for name, share in own.items():
        found |= {name: share.share, f"{name}_se": share.standard_error}
        if name in real:
            found[f"{name}_real"] = real[name].share
        spread = scatter(one[name].share for one in seeds)
        found |= {key if name == "overall" else f"{name}_{key}": value for key, value in spread.items()}
    counting = task == TASKS.index("counting")
    for name, chosen in (("threshold", ~counting), ("threshold_counting", counting)):
        if chosen.any():
            found[name] = float(threshold[chosen].max())
    return found | {"objects": float(np.mean([one["objects"].mean() for one in arrays]))}


def over_prompts(shares: Mapping[str, Share], score: np.ndarray, task: np.ndarray,
                 prompt: np.ndarray) -> dict[str, Share]:
    """The given shares, with standard errors over prompts, whose images are alike; overall first.

    Of a task with m >= 2 prompts, of which a share s_j of the images is right, that is
    sqrt(sum (s_j - mean s)^2 / (m (m - 1))); that of the mean of k tasks is sqrt(sum of their squares) / k.
    """
    found = {}
    for number in np.unique(task):
        numbers, where = np.unique(prompt[task == number], return_inverse=True)
        means = np.bincount(where, score[task == number]) / np.bincount(where)
        error = means.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else np.nan
        found[TASKS[number]] = Share(shares[TASKS[number]].share, float(error))
    errors = [one.standard_error for one in found.values()]
    return {"overall": Share(shares["overall"].share, float(np.linalg.norm(errors)) / len(errors))} | found


def by_task(score: np.ndarray, task: np.ndarray) -> dict[str, Share]:
    """GenEval's score of verdicts, 1 or 0, on prompts of tasks by their places in `TASKS`; overall first."""
    shares = geneval_score({TASKS[number]: score[task == number].tolist() for number in np.unique(task)})
    return {"overall": shares["overall"]} | shares
