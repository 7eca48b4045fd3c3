"""Sources of images: one file each, called as `source` says in the YAML.

A file has
- `Spec`, a `DatasetSpec`: settings of its own and their ranges, and what is known of the source beforehand;
- `locate(spec)`: the raw data where the configuration names no path. Raises `ValueError`, with what to do,
  where they can't be had;
- `read(spec, raw, rule)`: a `Reading` of raw data, an `ambient.data.raw.Raw`, with whatever can't be meant
  refused. `rule` is a file by which images are selected, where `spec.rule` named one.

Where `Spec.HAD` is `drawn` there is `draw(spec)`, a `Dataset`, in the place of both. An image's id is its
place in the source's own order, or in the sorted list of file names.
"""

from ambient.specs import DatasetSpec

KINDS = DatasetSpec.KINDS
