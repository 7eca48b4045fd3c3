"""The machine side of training: device, precision, compilation."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import cache

import torch
from torch import Tensor, nn

from ambient.jobs import stopping

# Options of torch's compiler. The last two keep it from choosing by stopwatch between kernels that add up in
# another order: another node, or the same one on another day, would choose others.
COMPILED = {"force_layout_optimization": True, "dynamic_scale_rblock": False, "shape_padding": False}


@cache
def device() -> torch.device:
    """The GPU where there is one, else the CPU.

    On a GPU float32 is float32 (torch has convolutions round to TF32 otherwise), and every operation is
    asked to repeat its bits, so that a resumed run ends as a whole one does: torch warns of any that can't.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.allow_tf32 = False  # torch refuses to tell this one where the next alone is set
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    return torch.device("cuda")


def strictly() -> None:
    """From here on an operation that can't repeat its bits raises `RuntimeError`.

    Only in this mode does attention on a GPU repeat its bits.
    """
    if device().type == "cuda":
        torch.use_deterministic_algorithms(True)


def sent(tensor: Tensor, where: torch.device) -> Tensor:
    """A tensor on a device. A GPU fetches it from pinned memory in its turn, and the host does not wait."""
    if where.type != "cuda":
        return tensor.to(where)
    return tensor.pin_memory().to(where, non_blocking=True)


def compile_for(network: nn.Module, evaluations: int) -> None:
    """Have torch compile a network on a GPU, where enough evaluations follow to repay the minutes it takes.

    Enough are as many as AMBIENT_COMPILE_FROM says, by default 20,000. Where compiling fails (it needs a C
    compiler), torch says so and goes on without.

    The compiled network has its channels last inside, as convolutions on GPUs want them. torch's own rule
    leaves them first in training where some convolution halves the channels, and cuDNN turns them each time.
    """
    if evaluations >= stopping.setting("AMBIENT_COMPILE_FROM") and next(network.parameters()).is_cuda:
        torch._dynamo.config.suppress_errors = True
        network.compile(dynamic=False, options=COMPILED)


@cache
def has_bfloat16(where: torch.device) -> bool:
    """Whether the processor itself multiplies bfloat16: emulated it is slow. Where not, says so once."""
    if where.type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # names of x86 and of Arm
        able = torch.cpu.get_capabilities()
        found = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if not found:
        stopping.say(f"{where.type}: no bfloat16 arithmetic here, float32 takes its place")
    return found


def autocast(precision: str, where: torch.device) -> AbstractContextManager:
    """The network's arithmetic in `precision`; the weights, norms and losses stay float32."""
    enabled = precision == "bfloat16" and has_bfloat16(where)
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=enabled)
