"""Networks that others trained, from a local safetensors file, by transformers' own classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ambient.specs import DetectorSpec
from ambient.storage.files import atomic, sha256

if TYPE_CHECKING:
    from torch import Tensor, nn


def put(spec: DetectorSpec, record, weights: Path | None, out: Path, words: str,
        read: Callable[[Path, Path], Any]) -> None:
    """Put a detector's file from outside at `out`, when `read` could read it there.

    `words`: what it is, for the record. `read` is told what an error shall call it, too. Raises `ValueError`
    where it is missing, is another one than the configuration says, or changes meanwhile.
    """
    if weights is None or not weights.is_file():
        raise ValueError(f"detectors.<name>.weights: got {weights}, allowed: a file; {spec.ADVICE}")
    digest = record.external(spec.kind, weights, words)
    if digest != (spec.sha256 or digest):
        raise ValueError(f"{weights}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}")
    with atomic(out) as temporary:
        shutil.copyfile(weights, temporary)
        if sha256(temporary) != digest:
            raise ValueError(f"{weights}: changed while it was read: run the job again")
        read(temporary, weights)


def library(kind: str) -> ModuleType:
    """transformers, which says nothing. Raises `ValueError` where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"a detector of kind {kind} needs the package transformers ({error}): "
                         "in the clone, pip install --editable '.[pretrained]'") from None
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    return transformers


def network(cls: type, config: Any, tensors: Mapping[str, Tensor], advice: str,
            idle: Sequence[str] = ()) -> nn.Module:
    """A network of transformers with these weights, in evaluation mode, float32.

    `idle`: parts of names of tensors that say nothing of what it computes. Raises `ValueError` naming the
    first other tensor that is missing, unknown or misshapen.
    """
    made, told = cls.from_pretrained(None, config=config, state_dict=dict(tensors), output_loading_info=True,
                                     ignore_mismatched_sizes=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(one if isinstance(one, str) else one[0] for one in told[key])
        if wrong := [name for name in names if not any(part in name for part in idle)]:
            raise ValueError(f"{key.replace('_', ' ')}: {wrong[0]} and {len(wrong) - 1} more; {advice}")
    return made.float().eval()
