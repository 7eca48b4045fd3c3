r"""Stage: section 4 in one dimension, measured: when do more, biased samples beat few clean ones?

For pairs (p0, q0) of densities on [0, 1]: Monte-Carlo distances d_TV(p_sigma, p^_sigma) of Algorithm 1
(n1 clean samples) and Algorithm 2 (n1 clean and n2 of q0), beside the bounds 4.3 and 4.4; the level at
which Algorithm 2 takes over, measured, predicted by the bounds, and found by a classifier (equations
3.1 and 3.2), optimal and trained; and Theorem 4.2 on random pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ambient.jobs.stopping import say
from ambient.specs import TheorySpec
from ambient.storage.files import atomic
from ambient.theory.densities import Density
from ambient.theory.measured import contraction, crossings, estimates


def main(spec: TheorySpec, record, *, out: Path, crossings_out: Path, contraction_out: Path) -> None:
    """`out` gets the estimates and bounds, `crossings_out` each pair's sigma_min, `contraction_out` 4.2."""
    torch.set_num_threads(1)  # networks of a few thousand weights
    tables, rows = [], []
    for name, pair in spec.pairs.items():
        p, q = (Density(*np.array(pair[key], float).T) for key in ("clean", "other"))
        tables.append(estimates(spec, p, q, name))
        rows.append(crossings(spec, p, q, name, tables[-1]))
        say(f"theory: {name} done")
    contracted = contraction(spec)
    for path, table in ((out, pd.concat(tables)), (crossings_out, pd.DataFrame(rows)),
                        (contraction_out, contracted)):
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    record.facts |= {"largest_contraction_ratio": float(contracted["ratio"].max()), "raw": "none"}
