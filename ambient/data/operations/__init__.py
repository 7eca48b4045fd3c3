"""Operations on a whole dataset that make a mixture of it: one file each, called as `op` says in the YAML.

A file has
- `Spec`, an `OperationSpec`: its parameters with their ranges, its words, and which further file it reads;
- `mix(spec, data, beside)`: the mixture of a `MixtureSpec` and a dataset. `beside` is the dataset that it
  puts in (`Spec.ADDS`) or the `Scores` that it reads (`Spec.SCORED`), or None.

Any other op corrupts the pixels of each image: `ambient.data.corruptions`.
"""

from ambient.specs import OperationSpec

KINDS = OperationSpec.KINDS
