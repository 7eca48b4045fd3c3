"""Figures that belong to no table: one file a kind, called as `kind` says in the YAML.

A file has
- `Spec`, a `FigureSpec`: settings of its own, its caption, what an entry of `figures` must name for it, and
  the stage that draws it: `galleries` (from the study's clean dataset, reports and annotations) or
  `crops_figures` (from a run's data and its annotations, added images, patch maps, the table of crop(sigma),
  a dataset with its scores, tables, samples and their scores, a judge's answers, summaries);
- `reads(files, name, entry)`: role of that stage -> path or paths, for the figure `name`. `files` are a
  scale's, of `ambient.settings.places`, and `entry` is what the YAML says;
- `draw(spec, **roles)`: the figure, from those files. It loads no weights.
"""

from ambient.specs import FigureSpec

KINDS = FigureSpec.KINDS
