"""Ways of annotating: one file each, called as `method` says in the YAML.

A file has
- `Spec`, an `AnnotationSpec`: settings of its own and their ranges, and which files its jobs read;
- `annotate(spec, mixture, inputs, state)`: the `Levels` of the samples of a mixture that are not clean, in
  their order. `inputs` are the files that `Spec` asks for, an `ambient.annotation.levels.Inputs`. What a stop
  must not lose is saved in `state`. Every rank calls it; on all but the first it may return None.
"""

from ambient.specs import AnnotationSpec

KINDS = AnnotationSpec.KINDS
