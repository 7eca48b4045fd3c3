"""How fast this machine trains: a few steps of a run's own network, timed."""

from __future__ import annotations

import time

from ambient.cluster.cost import Costs
from ambient.settings import Experiments

WARM, TIMED = 2, 4  # steps that are not timed, and that are


def steps_tflops(experiments: Experiments, run: str) -> float:
    """What one thread sustains in training steps of a run's network, Tflop/s.

    Counted as the estimate of costs counts them, so that the one divides the other.
    """
    import torch

    from ambient.diffusion.denoiser import Denoiser
    from ambient.training.build import build_network
    from ambient.training.hardware import autocast

    training = experiments.training(run, 0)
    _, channels, side = Costs(experiments).data(experiments.run(run).study)
    batch, threads = training.optimiser.batch, torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    denoiser = Denoiser(build_network(training.network, side, channels, 0, False, generator))
    x, sigma = torch.randn(batch, channels, side, side, generator=generator), torch.ones(batch)
    started = 0.0
    for step in range(WARM + TIMED):
        if step == WARM:
            started = time.process_time()
        with autocast(training.optimiser.precision, torch.device("cpu")):
            denoiser(x, sigma).square().sum().backward()
    seconds = (time.process_time() - started) / TIMED
    torch.set_num_threads(threads)
    return Costs(experiments).train(run).flops / training.optimiser.nimg * batch / seconds / 1e12
