"""Measures of an image's quality: one file a measure, called as in the YAML.

A file has `score(image)`: of one prepared image, uint8 (C, H, W) of 1 or 3 channels, a float that is higher
for better images. Its docstring gives the equation, the unit and the range. `ambient.data.measures` calls
them by name.
"""

from ambient.specs.kinds import Kinds

KINDS = Kinds("ambient.data.quality")
