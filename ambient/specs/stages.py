"""The table of stages: what each one is told, reads and writes, what it costs, what may be removed of it.

A stage is a row here, a file `ambient/stages/<name>.py` with a function `main(spec, record, **files)`, and a
rule of the workflow. The files of summary and report lie in `ambient/audit/stages/`, since they state the
audit's levels. Everything else that knows stages reads this table: command line, graph of jobs, requests to a
scheduler, doctor, audit, crate, prune, efficiency and tests. It holds no stage's code, so it changes no byte
of a result.
"""

from __future__ import annotations

from ambient.specs.annotation import AnnotationSpec, ClassifierSpec, LocalitySpec, PatchMapsSpec
from ambient.specs.data import CombineSpec, DatasetSpec, MixtureSpec
from ambient.specs.encoding import EncoderSpec, EncodingSpec, TextEncoderSpec, TextsSpec
from ambient.specs.evaluation import DetectorSpec, EvaluationSpec, LandmarksSpec, OutsideSpec, SamplingSpec
from ambient.specs.judging import JudgeSpec
from ambient.specs.measured import NeighboursSpec, NoiseFloorSpec
from ambient.specs.report import ComparisonSpec, FigureSpec, ReportSpec, SummarySpec, TableSpec
from ambient.specs.scores import ScorerSpec
from ambient.specs.stage import PREFIX, Input, Names, Stage, bare
from ambient.specs.theory import TheorySpec
from ambient.specs.training import ReconstructionSpec, TrainingSpec


def prunable(file: str, recorded: str) -> bool:
    """Whether a file made by a stage (by its name in manifests) is of a kind that is ever removed."""
    row = STAGES.get(recorded.removeprefix(PREFIX))
    return row is not None and row.prunes != "" and file.endswith(".safetensors")


def same(stage: str, role: str = "out") -> Input:
    """An output of another stage, of the same names."""
    return lambda files, w: files.path(stage, role, **w)


def of_annotation(w: Names) -> tuple[str, str, str]:
    """The names that tell an annotation of a mixture."""
    return w["study"], w["corruption"], w["annotation"]


def of_figure(wildcard: str, role: str) -> Input:
    """One of the files that a figure is drawn from: its kind tells which."""
    return lambda files, w: files.of_figure(w[wildcard]).get(role)


def of_patch_maps(role: str) -> Input:
    """One of the files that the patch maps of a figure are made from."""
    return lambda files, w: files.of_patch_maps(w["patches"]).get(role)


def of_noise_floor(role: str) -> Input:
    """One of the files that the noise floor of a figure is measured from."""
    return lambda files, w: files.of_noise_floor(w["floor"]).get(role)


def of_neighbours(role: str) -> Input:
    """One of the files that the samples of a figure are compared with, or the samples."""
    return lambda files, w: files.of_neighbours(w["near"]).get(role)


def picture(name: str, *parts: str) -> dict[str, str]:
    """The places of figures, each as PNG and as PDF: `out`, `out_pdf`, and for each part `out_<part>`, ..."""
    return {f"out{part and '_' + part}{'_pdf' * (kind == 'pdf')}": f"{name}{part and '-' + part}.{kind}"
            for part in ("", *parts) for kind in ("png", "pdf")}


_STAGES = (
    Stage("prepare", DatasetSpec,
          {"out": "data/{dataset}.safetensors"},
          lambda settings, w: settings.portable_dataset(w["dataset"]),
          outside={"raw?": lambda settings, w: settings.dataset(w["dataset"]).path,
                   "rule?": lambda settings, w: settings.dataset(w["dataset"]).rule,
                   "table?": lambda settings, w: settings.dataset(w["dataset"]).table},
          cost=("dataset",), state="data/{dataset}", one_rank=True, prunes="arrays"),
    Stage("scores", ScorerSpec,
          {"out": "scores/{dataset}/{scorer}.safetensors", "table_out": "scores/{dataset}/{scorer}.csv"},
          lambda settings, w: settings.scorer(w["scorer"]).portable(),
          inputs={"data": same("prepare"),
                  "detector?": lambda files, w: files.weights_of_scorer(w["dataset"], w["scorer"])},
          outside={"given?": lambda settings, w: settings.scorer(w["scorer"]).path},
          cost=("dataset", "scorer"), state="scores/{dataset}/{scorer}", prunes="arrays"),
    Stage("corrupt", MixtureSpec,
          {"out": "mixtures/{study}/{corruption}/clean-{fraction}.safetensors"},
          lambda settings, w: settings.mixture(w["study"], w["corruption"], float(w["fraction"])),
          inputs={"data": lambda files, w: files.images(w["study"]),
                  "added?": lambda files, w: files.added(w["corruption"]),
                  "scores?": lambda files, w: files.scores_of_mixture(w["study"], w["corruption"])},
          cost=("study", "corruption"), state="mixtures/{study}/{corruption}/clean-{fraction}", one_rank=True,
          prunes="arrays"),
    Stage("encoder", EncoderSpec,
          {"out": "encoders/{dataset}/{encoder}.safetensors"},
          lambda settings, w: settings.encoder(w["encoder"]),
          inputs={"data": same("prepare")},
          outside={"weights?": lambda settings, w: settings.encoder_weights(w["encoder"])},
          cost=("dataset", "encoder"), state="encoders/{dataset}/{encoder}"),
    Stage("encode", EncodingSpec,
          {"out": "latents/{study}/{corruption}/clean-{fraction}.safetensors"},
          lambda settings, w: settings.encoding(w["study"], w["corruption"]),
          inputs={"data": lambda files, w: files.encoded_images(**w),
                  "encoder": lambda files, w: files.encoder(w["study"])},
          outside={"precomputed?": lambda settings, w: settings.latents_folder(w["corruption"])},
          cost=("study", "corruption"), state="latents/{study}/{corruption}/clean-{fraction}",
          prunes="arrays"),
    Stage("text_encoder", TextEncoderSpec,
          {"out": "text-encoders/{text_encoder}.safetensors"},
          lambda settings, w: settings.text_encoder(w["text_encoder"]),
          inputs={"data?": lambda files, w: files.learnt_by_text_encoder(w["text_encoder"])},
          outside={"weights?": lambda settings, w: settings.text_weights(w["text_encoder"])},
          cost=("text_encoder",), state="text-encoders/{text_encoder}"),
    Stage("texts", TextsSpec,
          {"out": "texts/{dataset}/{text_encoder}.safetensors"},
          lambda settings, w: settings.text_states(w["text_encoder"], w["dataset"]),
          inputs={"data": same("prepare"), "text_encoder": same("text_encoder")},
          outside={"precomputed?": lambda settings, w: settings.states_folder(w["dataset"])},
          cost=("dataset", "text_encoder"), state="texts/{dataset}/{text_encoder}", prunes="arrays"),
    Stage("classifier", ClassifierSpec,
          {"out": "classifiers/{study}/{corruption}/{classifier}.safetensors",
           "calibration": "classifiers/{study}/{corruption}/{classifier}.calibration.json"},
          lambda settings, w: settings.classifier(w["study"], w["classifier"]),
          inputs={"data": lambda files, w: files.mixture(w["study"], w["corruption"], w["classifier"]),
                  "latents*": lambda files, w: files.latents(w["study"], w["corruption"], w["classifier"])},
          cost=("study", "corruption", "classifier"), state="classifiers/{study}/{corruption}/{classifier}",
          prunes="weights", counts_images=True),
    Stage("locality", LocalitySpec,
          {"out": "locality/{study}.csv", "map_out": "locality/{study}.json"},
          lambda settings, w: settings.locality(w["study"]),
          inputs={"data": lambda files, w: files.locality_data(w["study"]),
                  "latents*": lambda files, w: files.locality_latents(w["study"]),
                  "denoiser": lambda files, w: files.locality_denoiser(w["study"])},
          cost=("study",), state="locality/{study}"),
    Stage("annotate", AnnotationSpec,
          {"out": "annotations/{study}/{corruption}/{annotation}.safetensors",
           "summary": "annotations/{study}/{corruption}/{annotation}.json"},
          lambda settings, w: settings.annotation(w["study"], w["annotation"], w["corruption"]),
          inputs={"data": lambda files, w: files.mixture(w["study"], w["corruption"]),
                  "latents*": lambda files, w: files.latents_of_annotation(*of_annotation(w)),
                  "classifier?": lambda files, w: files.classifier(*of_annotation(w)),
                  "crops*": lambda files, w: files.crops(*of_annotation(w)),
                  "locality?": lambda files, w: files.locality_map(w["study"], w["annotation"]),
                  "scores?": lambda files, w: files.scores_of_annotation(w["study"], w["annotation"])},
          cost=("study", "corruption", "annotation"), state="annotations/{study}/{corruption}/{annotation}"),
    Stage("combine", CombineSpec,
          {"out": "combined/{run}.safetensors", "out_annotations": "combined/{run}-annotations.safetensors",
           "summary": "combined/{run}-annotations.json"},
          lambda settings, w: settings.combined(w["run"]),
          inputs={"data*": lambda files, w: files.mixtures_of_parts(w["run"]),
                  "annotations*": lambda files, w: files.annotations_of_parts(w["run"])}, cost=("run",)),
    Stage("train", TrainingSpec,
          {"out": "runs/{run}/seed-{seed}/denoiser.safetensors", "log": "runs/{run}/seed-{seed}/loss.jsonl"},
          lambda settings, w: settings.own_training(w["run"], int(w["seed"])),
          inputs={"data": lambda files, w: files.training_data(w["run"]),
                  "latents*": lambda files, w: files.latents_of_run(w["run"]),
                  "texts*": lambda files, w: files.texts_of_run(w["run"]),
                  "start?": lambda files, w: files.start(w["run"], w["seed"]),
                  "annotations": lambda files, w: files.annotations(w["run"])}, cost=("run",),
          state="runs/{run}/seed-{seed}/train", prunes="weights", counts_images=True, shardable=True),
    Stage("reconstruct", ReconstructionSpec,
          {"out": "runs/{run}/seed-{seed}/denoiser-ema-{ema_std}.safetensors"},
          lambda settings, w: settings.reconstruction(w["run"], float(w["ema_std"])),
          inputs={"denoiser": same("train")},
          cost=("run", "ema_std"), prunes="weights"),
    Stage("sample", SamplingSpec,
          {"out": "runs/{run}/seed-{seed}/samples.safetensors"},
          lambda settings, w: settings.sampling(w["run"]),
          inputs={"denoiser": lambda files, w: files.denoiser(w["run"], w["seed"]),
                  "encoder?": lambda files, w: files.encoder_of_run(w["run"]),
                  "guide?": lambda files, w: files.guide(w["run"]),
                  "captions?": lambda files, w: files.captions_of_samples(w["run"]),
                  "texts?": lambda files, w: files.texts_of_samples(w["run"]),
                  "detector?": lambda files, w: files.weights_that_find_best(w["run"]),
                  "reference?": lambda files, w: files.reference_of_best(w["run"])},
          cost=("run",), state="runs/{run}/seed-{seed}/sample", prunes="arrays", counts_images=True),
    Stage("detector", DetectorSpec,
          {"out": "detectors/{dataset}/{detector}.weights"},
          lambda settings, w: settings.portable_detector(w["detector"]),
          inputs={"data": same("prepare"),
                  "model?": lambda files, w: files.model_of_detector(w["detector"])},
          outside={"weights?": lambda settings, w: settings.detector(w["detector"]).weights},
          cost=("dataset", "detector"), state="detectors/{dataset}/{detector}"),
    Stage("reference", DetectorSpec,
          {"out": "detectors/{dataset}/{detector}-reference.safetensors"},
          lambda settings, w: settings.portable_detector(w["detector"]),
          inputs={"data": same("prepare"),
                  "detector": lambda files, w: files.weights_for(w["dataset"], w["detector"]),
                  "scores?": lambda files, w: files.scores_of_reference(w["dataset"], w["detector"])},
          outside={"published?": lambda settings, w: settings.published_moments(w["detector"])},
          cost=("dataset", "detector"), state="detectors/{dataset}/{detector}-reference"),
    Stage("landmarks", LandmarksSpec,
          {"out": "landmarks/{study}/{corruption}/{detector}.csv"},
          lambda settings, w: settings.landmarks(w["study"], w["detector"]),
          inputs={"data": lambda files, w: files.images(w["study"]),
                  "mixture": lambda files, w: files.mixture(w["study"], w["corruption"]),
                  "detector": lambda files, w: files.weights_of_study(w["study"], w["detector"])},
          cost=("study", "corruption", "detector"), state="landmarks/{study}/{corruption}/{detector}"),
    Stage("evaluate", EvaluationSpec,
          {"out": "runs/{run}/seed-{seed}/metrics[-{detector}].json",
           "moments_out": "runs/{run}/seed-{seed}/moments[-{detector}].safetensors"},
          lambda settings, w: settings.evaluation(w["run"], w.get("detector")),
          inputs={"samples": same("sample"),
                  "detector": lambda files, w: files.weights(w["run"], w.get("detector")),
                  "reference": lambda files, w: files.reference(w["run"], w.get("detector"))},
          cost=("run",), state="runs/{run}/seed-{seed}/evaluate[-{detector}]", prunes="arrays"),
    Stage("sample_scores", ScorerSpec,
          {"out": "runs/{run}/seed-{seed}/scores-{scorer}.safetensors"},
          lambda settings, w: settings.sample_scorer(w["run"], w["scorer"]),
          inputs={"samples": same("sample"),
                  "detector?": lambda files, w: files.weights_of_scorer_for(w["run"], w["scorer"]),
                  "model?": lambda files, w: files.model_of_scorer(w["scorer"]),
                  "captions?": lambda files, w: files.captions_of_scorer(w["run"], w["scorer"]),
                  "real?": lambda files, w: files.real_of_scorer(w["scorer"])},
          outside={"given?": lambda settings, w: settings.scorer(w["scorer"]).path},
          cost=("run", "scorer"), state="runs/{run}/seed-{seed}/scores-{scorer}"),
    Stage("judge", JudgeSpec,
          {"out": "judged/{judge}/{run}/{than}/seed-{seed}.json"},
          lambda settings, w: settings.judge(w["judge"], w["run"], w["than"]),
          inputs={"samples": same("sample"),
                  "than": lambda files, w: files.path("sample", run=w["than"], seed=w["seed"]),
                  "captions": lambda files, w: files.captions_of_run(w["run"]),
                  "model?": lambda files, w: files.model_of_judge(w["judge"]),
                  "real?": lambda files, w: files.real_of_judge(w["judge"])},
          outside={"program?": lambda settings, w: settings.named_judge(w["judge"]).path},
          cost=("judge", "run"), state="judged/{judge}/{run}/{than}/seed-{seed}"),
    Stage("outside", OutsideSpec,
          {"out": "outside/{outside}.json", "moments_out": "outside/{outside}.safetensors"},
          lambda settings, w: settings.outside.spec(w["outside"]),
          inputs={"detector": lambda files, w: files.weights_for_outside(w["outside"]),
                  "reference": lambda files, w: files.reference_for_outside(w["outside"])},
          outside={"samples": lambda settings, w: settings.outside.entry(w["outside"]).path},
          cost=("outside",), state="outside/{outside}"),
    Stage("sweep", TableSpec,
          {"out": "sweeps/{sweep}.csv"},
          lambda settings, w: settings.named_sweep(w["sweep"], "sweeps"),
          inputs={"metrics*": lambda files, w: files.of_table(w["sweep"], "evaluate"),
                  "annotations*": lambda files, w: files.annotations_of_rows(w["sweep"], "summary"),
                  "beside*": lambda files, w: files.scores_beside(w["sweep"])}),
    Stage("tables", TableSpec,
          {"out": "{table}.csv"},
          lambda settings, w: settings.table(w["table"]),
          inputs={"metrics*": lambda files, w: files.of_table(w["table"], "evaluate"),
                  "annotations*": lambda files, w: files.annotations_of_rows(w["table"], "summary"),
                  "usable*": lambda files, w: files.annotations_of_rows(w["table"]),
                  "beside*": lambda files, w: files.scores_beside(w["table"]),
                  "scored*": lambda files, w: files.scores_of_samples(w["table"]),
                  "sweeps*": lambda files, w: files.sweeps_of_table(w["table"])},
          rooted=True),
    Stage("summary", SummarySpec,
          {"out": "summary.csv"},
          lambda settings, w: settings.summary(),
          inputs={"tables*": lambda files, w: files.tables(),
                  "logs*": lambda files, w: files.logs_of_texts(),
                  "reports*": lambda files, w: files.reports_of_texts()}),
    Stage("comparison", ComparisonSpec,
          {"table_out": "{table}-with-outside.csv"} | picture("{table}-with-outside"),
          lambda settings, w: settings.outside.comparison(w["table"]),
          inputs={"table": same("tables"), "outside*": lambda files, w: files.outside_of_table(w["table"])}),
    Stage("figures", TableSpec,
          picture("{table}", "curves", "classifiers", "grid"),
          lambda settings, w: settings.table(w["table"]),
          inputs={"table": same("tables"),
                  "metrics*": lambda files, w: files.of_table(w["table"], "evaluate"),
                  "samples*": lambda files, w: files.samples_of_rows(w["table"]),
                  "losses*": lambda files, w: files.losses_of_rows(w["table"]),
                  "mixtures*": lambda files, w: files.data_of_rows(w["table"]),
                  "images*": lambda files, w: files.images_of_rows(w["table"]),
                  "reports*": lambda files, w: files.reports_of_rows(w["table"]),
                  "annotations*": lambda files, w: files.annotations_of_rows(w["table"]),
                  "summaries*": lambda files, w: files.summaries_of_rows(w["table"]),
                  "first_parts*": lambda files, w: files.first_parts_of_rows(w["table"])},
          cost=("table",)),
    Stage("galleries", FigureSpec,
          picture("{gallery}"),
          lambda settings, w: settings.figure(w["gallery"]),
          inputs={key: of_figure("gallery", bare(key)) for key in ("data", "reports*", "annotations*")}),
    Stage("patch_maps", PatchMapsSpec,
          {"out": "patch-maps/{patches}.safetensors"},
          lambda settings, w: settings.patch_maps(w["patches"]),
          inputs={key: of_patch_maps(bare(key)) for key in ("data", "seen?", "crops*")}),
    Stage("noise_floor", NoiseFloorSpec,
          {"out": "noise-floors/{floor}.csv"},
          lambda settings, w: settings.noise_floor(w["floor"]),
          inputs={key: of_noise_floor(bare(key))
                  for key in ("data", "latents*", "annotations", "denoisers*")},
          cost=("floor",), state="noise-floors/{floor}"),
    Stage("neighbours", NeighboursSpec,
          {"out": "neighbours/{near}.csv"},
          lambda settings, w: settings.neighbours(w["near"]),
          inputs={key: of_neighbours(bare(key))
                  for key in ("samples*", "data", "unseen", "scores?", "unseen_scores?", "detector?")},
          cost=("near",), state="neighbours/{near}"),
    Stage("crops_figures", FigureSpec,
          picture("{figure}"),
          lambda settings, w: settings.figure(w["figure"]),
          inputs={key: of_figure("figure", bare(key))
                  for key in ("data?", "images?", "added?", "annotations?", "patches?", "locality_table?",
                              "scores?", "table?", "samples*", "scored*", "judged*", "sources*",
                              "summaries*")}),
    Stage("theory", TheorySpec,
          {"out": "theory.csv", "crossings_out": "theory-crossings.csv",
           "contraction_out": "theory-contraction.csv"},
          lambda settings, w: settings.theory("theory")),
    Stage("theory_figure", TheorySpec,
          picture("theory"),
          lambda settings, w: settings.theory("theory"),
          inputs={"table": same("theory"), "crossings": same("theory", "crossings_out"),
                  "contraction_table": same("theory", "contraction_out")}),
    Stage("report", ReportSpec,
          {"out": "{page}.html"},
          lambda settings, w: settings.report(everything=w["page"] == "report-all"),
          inputs={"tables*": lambda files, w: files.tables_of_page(w["page"]),
                  "pictures*": lambda files, w: files.pictures_of_page(w["page"]),
                  "landmarks*": lambda files, w: files.landmarks_of_page(w["page"]),
                  "photos*": lambda files, w: files.photos_of_page(w["page"]),
                  "classifiers*": lambda files, w: files.classifiers_of_page(w["page"]),
                  "compared*": lambda files, w: files.compared_of_page(w["page"])}),
)
STAGES = {stage.name: stage for stage in _STAGES}  # in the order of a whole run
# A job that is no stage: the audit's page of a table, which has neither specification nor manifest.
AUDIT_PAGE = Stage("audit_page", type(None), {"out": "{table}-audit.html"}, lambda settings, w: None,
                   inputs={"table": same("tables")})
JOBS = STAGES | {AUDIT_PAGE.name: AUDIT_PAGE}
