"""Specifications: what each stage is told, as frozen dataclasses that refuse what can't be meant.

A stage receives one fully resolved specification as canonical JSON. Equal specifications mean equal
artefacts, so nothing here depends on the machine: ranks, threads and devices are not in it.
Standard library only, so that the workflow can validate everything without importing torch.
"""

from ambient.specs.annotation import NUISANCES, AnnotationSpec, ClassifierSpec, LocalitySpec, PatchMapsSpec
from ambient.specs.data import CombineSpec, DatasetSpec, MixtureSpec, OperationSpec, SelectSpec
from ambient.specs.encoding import EncoderSpec, EncodingSpec, TextEncoderSpec, TextsSpec
from ambient.specs.evaluation import (
    AgainstSpec,
    DetectorSpec,
    EvaluationSpec,
    GuideSpec,
    LandmarksSpec,
    OutsideSpec,
    PublishedSpec,
    SamplerSpec,
    SamplingSpec,
)
from ambient.specs.judging import JudgeSpec
from ambient.specs.measured import NeighboursSpec, NoiseFloorSpec
from ambient.specs.report import (
    ComparisonSpec,
    DrawnSpec,
    FigureSpec,
    ReportSpec,
    RowSpec,
    ShownFigure,
    SummarySpec,
    TableSpec,
    TextSpec,
)
from ambient.specs.scores import BestSpec, ScorerSpec
from ambient.specs.theory import TheorySpec
from ambient.specs.training import (
    AugmentSpec,
    LossSpec,
    NetworkCost,
    NetworkSpec,
    NoiseSpec,
    OptimiserSpec,
    ReconstructionSpec,
    StartSpec,
    TrainingSpec,
)

__all__ = [
    "AgainstSpec", "AnnotationSpec", "AugmentSpec", "BestSpec", "ClassifierSpec", "CombineSpec",
    "ComparisonSpec", "DatasetSpec", "DetectorSpec", "DrawnSpec", "EncoderSpec", "EncodingSpec",
    "EvaluationSpec", "FigureSpec", "GuideSpec", "JudgeSpec", "LandmarksSpec", "LocalitySpec", "LossSpec",
    "MixtureSpec", "NUISANCES", "NeighboursSpec", "NetworkCost", "NetworkSpec", "NoiseFloorSpec",
    "NoiseSpec", "OperationSpec", "OptimiserSpec", "OutsideSpec", "PatchMapsSpec", "PublishedSpec",
    "ReconstructionSpec", "ReportSpec", "RowSpec", "SamplerSpec", "SamplingSpec", "ScorerSpec",
    "SelectSpec", "ShownFigure", "StartSpec", "SummarySpec", "TableSpec", "TextEncoderSpec", "TextSpec",
    "TextsSpec", "TheorySpec", "TrainingSpec",
]
