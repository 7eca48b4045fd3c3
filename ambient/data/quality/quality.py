"""One number: a picture is as good as the worst of its properties."""

from __future__ import annotations

import numpy as np

from ambient.data.quality import blockiness, contrast, exposure, noise, sharpness

# (median, spread) over ordinary photographs, from `python -m benchmarks.quality`. The spread is the
# distance from the median to the 5 % quantile, over 1.645: the standard deviation where the lower half is
# that of a normal distribution.
ORDINARY = {sharpness: (0.36, 0.051), noise: (-1.1, 2.2), blockiness: (0.0, 0.12), exposure: (0.79, 0.19),
            contrast: (0.68, 0.20)}


def score(image: np.ndarray) -> float:
    """The lowest of (m(image) - median_m) / spread_m over the five measures m.

    It is in spreads of ordinary photographs, and at most 0.5: noise can't be less than none. Of each
    measure, 5 % of ordinary photographs lie below -1.645. They lie below in any of five more often, so that
    the threshold is best set by the histogram of one's own images.
    """
    return min((one.score(image) - median) / spread for one, (median, spread) in ORDINARY.items())
