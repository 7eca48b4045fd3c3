"""What gives images a score: one file a kind, called as `kind` says in the YAML of `scorers`.

A file has
- `Spec`, a `ScorerSpec`: settings of its own and their ranges, and what is known of the kind before a job
  runs;
- where `Spec.PER_IMAGE` is true, `scorer(spec, given)`: a function from uint8 images (N, C, H, W) to arrays
  of N rows: `score`, and for sides of patches `patches/<side>` (N, rows, columns);
- where `Spec.CAPTIONED` is true, `scorer(spec, given, real)`: an
  `ambient.evaluation.captioned.CaptionScorer`, which is asked for samples and their captions. `real` is the
  file of the dataset that `spec.real` names, or None. One that asks a detector and a model of texts is given
  `model`, too;
- else `score(spec, data, given, state)`: the same arrays for all images of a dataset, with what a stop must
  not lose saved in `state`. Every rank calls it; on all but the first it may return None.

`given` is the file from outside that `Spec.GIVEN` is, checked against the specification's digest; or that of
the detector that `Spec.ASKS`, or of the model of texts; or None.
Settings are checked by these files, so they import torch inside of their functions.
"""

from ambient.specs import ScorerSpec

KINDS = ScorerSpec.KINDS
