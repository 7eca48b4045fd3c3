"""Detectors, in whose features distances are measured: one file a kind, called as in the YAML.

A file has
- `Spec`, a `DetectorSpec`: its settings with their ranges, and what is known of the kind before a job runs;
- `make(spec, record, *, data, weights, state, out)`, which writes the weights to `out`: from the images at
  `data`, saving at `state` what a stop must not lose, or from the local file `weights` where one is given.
  One of which `Spec.MODEL` is true is given `model` too, the file of a model of images and texts;
- `features(spec, path)`, which reads them and returns a function from uint8 images (N, C, H, W) to features
  (N, D), a tensor.
"""

from ambient.specs import DetectorSpec

KINDS = DetectorSpec.KINDS
