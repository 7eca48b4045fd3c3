"""Detectors, which say what is in an image: one file a kind, called as in the YAML.

Distances are measured in the features of most. Some tell its class, or the objects that it shows.

A file has
- `Spec`, a `DetectorSpec`: its settings with their ranges, and what is known of the kind before a job runs;
- `make(spec, record, *, data, weights, state, out)`, which writes the weights to `out`: from the images at
  `data`, saving at `state` what a stop must not lose, or from the local file `weights` where one is given.
  One of which `Spec.MODEL` is true is given `model` too, the file of a model of images and texts;
- where `Spec.GIVES` has `features`, `features(spec, path)`, which reads the weights and returns a function
  from uint8 images (N, C, H, W) to features (N, D), a tensor;
- where it has `objects`, `objects(asking, path, model)` for the scorer `asking`: an
  `ambient.evaluation.captioned.Objects`. `model` is the file of the model of images and texts that the scorer
  names, or None.
"""

from ambient.specs import DetectorSpec

KINDS = DetectorSpec.KINDS
