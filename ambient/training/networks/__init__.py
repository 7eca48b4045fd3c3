"""Raw networks F(x, c_noise): one file a kind, called as in the YAML.

A file has
- `Spec`, a `NetworkSpec`: its settings with their ranges, which images it takes, what it costs, and, for
  tables, how many `parameters` it has;
- `build(spec, *, resolution, channels, classes, augment, generator)`, which returns a
  `ambient.diffusion.network.Network` of square images: `classes` is the width of one-hot labels, 0 for none;
  `augment`, whether it is told of the augmentation; `generator`, of the initial weights;
- `encoder(...)`, with the same arguments, where `Spec.ENCODES`: the half that noise classifiers are made of.

The modules of a large network lie in `ambient/diffusion/networks/`, so that they can be used alone.
"""

from ambient.specs import NetworkSpec

KINDS = NetworkSpec.KINDS
DEFAULT = "unet"  # of a specification that names none
