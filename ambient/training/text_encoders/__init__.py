"""Encoders of captions: one file a kind, called as in the YAML.

A file has
- `Spec`, a `TextEncoderSpec`: its settings with their ranges, and the shape of a caption's states;
- `make(spec, record, *, data, weights, state)`: the `ambient.training.text_encoding.TextCoder` of the kind
  with its weights: learnt from the captioned images of the `Dataset` data, saving at `state` what a stop must
  not lose, or read from the local path `weights`;
- `build(spec, about)`: the same before it has weights, by what the coder's `about()` said of it.
"""

from ambient.specs import TextEncoderSpec

KINDS = TextEncoderSpec.KINDS
