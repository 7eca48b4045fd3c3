"""How many of a number of things a share of them is. No torch."""

from __future__ import annotations

import math

NEAR = 2.0**-50  # by how much rounding may move a share: numbers below 1 are 2^-53 apart or less


def floor_of(total: int, share: float) -> int:
    """floor(total share), but the whole number itself where only the rounding of the share is between them.

    1 - 0.9 is 0.09999999999999998 as a float, and 100 of it are 10, not 9. `share` is at most about 1.
    """
    product = total * share
    nearest = round(product)
    return nearest if abs(product - nearest) <= total * NEAR else math.floor(product)
