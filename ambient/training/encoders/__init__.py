"""Encoders of images, with their decoders: one file a kind, called as in the YAML.

A file has
- `Spec`, an `EncoderSpec`: its settings with their ranges, and the shape of its latents;
- `make(spec, record, *, data, weights, state)`: the `ambient.training.encoding.Coder` of the kind with its
  weights: learnt from the images of the `Dataset` data, saving at `state` what a stop must not lose, or read
  from the local path `weights`;
- `build(spec, channels)`: the same before it has weights, for images of so many channels.
"""

from ambient.specs import EncoderSpec

KINDS = EncoderSpec.KINDS
