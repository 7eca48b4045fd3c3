"""Which files of a scale hold what its jobs speak of: the mixture of a study, the weights of a run."""

from __future__ import annotations

from ambient.settings.experiments import Experiments
from ambient.specs.stages import JOBS

WHOLE = "none", "1.0"  # corruption and clean fraction of a mixture that is the whole dataset


def folder(scale: str, place: str = "") -> str:
    """The folder of a scale's file, given its place: what people read of the paper's lies in `results`."""
    return "results" if scale == "paper" and "/" not in place else f"results/{scale}"


class RunFiles:
    """The files of one scale but for tables and figures, by what they hold: paths from where the workflow
    runs."""

    def __init__(self, experiments: Experiments) -> None:
        self.experiments, self.scale = experiments, experiments.scale

    def path(self, stage: str, role: str = "out", **names: str) -> str:
        """An output of a job, given by (at least) the wildcards of its stage."""
        place = JOBS[stage].place(role, names)
        return f"{folder(self.scale, place)}/{place}"

    # --- images ---------------------------------------------------------------------------------------

    def images(self, study: str) -> str:
        """A study's whole clean dataset."""
        return self.path("prepare", dataset=self.experiments.study(study).dataset)

    def added(self, corruption: str) -> str | None:
        """The dataset that an operation puts in the place of the corrupted images."""
        name = self.experiments.added_dataset(corruption)
        return name and self.path("prepare", dataset=name)

    def scores(self, dataset: str, scorer: str) -> str:
        """How good each image of a dataset is, by a scorer."""
        return self.path("scores", dataset=dataset, scorer=scorer)

    def scores_of_mixture(self, study: str, corruption: str) -> str | None:
        """The scores by which an operation ranks a study's images."""
        name = self.experiments.scorer_of(corruption)
        return name and self.scores(self.experiments.study(study).dataset, name)

    def weights_of_scorer(self, dataset: str, scorer: str) -> str | None:
        """The weights of the detector that a scorer asks, if it asks one."""
        spec = self.experiments.scorer(scorer)
        return self.weights_for(dataset, spec.detector) if spec.ASKS else None

    def weights_of_scorer_for(self, run: str, scorer: str) -> str | None:
        """The weights of the detector that a scorer asks about the samples of a run, if it asks one."""
        study = self.experiments.study(self.experiments.run(run).study)
        return self.weights_of_scorer(study.dataset, scorer)

    def model_of_scorer(self, scorer: str) -> str | None:
        """The model of images and texts that a scorer asks, if it asks one."""
        spec = self.experiments.scorer(scorer)
        return self.path("text_encoder", text_encoder=spec.model) if spec.MODEL else None

    def captions_of_scorer(self, run: str, scorer: str) -> str | None:
        """The dataset whose captions a run's samples have, where a scorer needs them."""
        if not self.experiments.scorer(scorer).CAPTIONED:
            return None
        return self.captions_of_run(run)

    def real_of_scorer(self, scorer: str) -> str | None:
        """The real images that a scorer scores beside samples, if it does."""
        name = getattr(self.experiments.scorer(scorer), "real", None)
        return name and self.path("prepare", dataset=name)

    def captions_of_run(self, run: str) -> str:
        """The dataset whose captions a run's samples have."""
        return self.path("prepare", dataset=self.experiments.sampling(run).captions)

    def model_of_judge(self, judge: str) -> str | None:
        """The model of images and texts that a judge asks, if it asks one."""
        spec = self.experiments.named_judge(judge)
        return self.path("text_encoder", text_encoder=spec.model) if spec.MODEL else None

    def real_of_judge(self, judge: str) -> str | None:
        """The real images that a judge is checked on, if it is."""
        name = self.experiments.named_judge(judge).real
        return name and self.path("prepare", dataset=name)

    def scores_of_annotation(self, study: str, annotation: str) -> str | None:
        """The scores by which a study's images are annotated, if they are."""
        spec = self.experiments.annotation(study, annotation)
        return self.scores(self.experiments.study(study).dataset, spec.scorer) if spec.SCORED else None

    def scores_of_reference(self, dataset: str, detector: str) -> str | None:
        """The scores by which the images are chosen that a detector's distances are to, if they are."""
        best = self.experiments.detector(detector).best
        return best and self.scores(dataset, best.scorer)

    def mixture(self, study: str, corruption: str, classifier: str | None = None) -> str:
        """A study's mixture; for a leaky classifier one with a clean fraction of its own."""
        return self.path("corrupt", study=study, corruption=corruption,
                         fraction=str(self.experiments.fraction(study, classifier)))

    def mixtures_of_parts(self, run: str) -> list[str]:
        """The mixtures that a run's data are combined of."""
        made = self.experiments.run(run)
        return [self.mixture(made.study, corruption) for corruption, _ in made.parts]

    def training_data(self, run: str) -> str:
        """What a run is trained on: its mixture, or the combination of several."""
        made = self.experiments.run(run)
        own = self.mixture(made.study, made.corruption)
        return self.path("combine", run=made.trained) if made.also else own

    # --- latents --------------------------------------------------------------------------------------

    def encoder(self, study: str) -> str | None:
        """The encoder in whose latents a study's denoisers work, if they do."""
        name = self.experiments.study(study).encoder
        return name and self.path("encoder", dataset=self.experiments.encoder_dataset(study), encoder=name)

    def encoder_of_run(self, run: str) -> str | None:
        """The encoder in whose latents the denoiser of a run works, if it does."""
        return self.encoder(self.experiments.run(run).study)

    def latents(self, study: str, corruption: str, classifier: str | None = None) -> list[str]:
        """The latents of a mixture, or of the dataset whose images it has, or of both where what it adds was
        encoded elsewhere; none where a study works on pixels."""
        if self.experiments.study(study).encoder is None:
            return []
        fraction = str(self.experiments.fraction(study, classifier))
        own = self.path("encode", study=study, corruption=corruption, fraction=fraction)
        whole = self.path("encode", study=self.experiments.encoded_first(study),
                          **dict(zip(("corruption", "fraction"), WHOLE, strict=True)))
        if self.experiments.encoded_dataset(corruption):
            return [whole, own]
        return [whole if self.experiments.shares_latents(study, corruption) else own]

    def encoded_images(self, study: str, corruption: str, fraction: str) -> str:
        """The images that latents are of: of the whole dataset, or of a mixture."""
        if (corruption, fraction) == WHOLE:
            return self.images(study)
        return self.path("corrupt", study=study, corruption=corruption, fraction=fraction)

    def images_beside(self, run: str) -> list[str]:
        """What has the images of each part of a run's data where those have none.

        That is the part's mixture. Where that has none either it is the study's dataset, which comes last: it
        has the images as they were.
        """
        made = self.experiments.run(run)
        none = [bool(self.experiments.shares_latents(made.study, corruption)
                     or self.experiments.encoded_dataset(corruption)) for corruption, _ in made.parts]
        if not any(none) and not self.experiments.bare(run):
            return []
        mixtures = [path for path, bare in zip(self.mixtures_of_parts(run), none, strict=True) if not bare]
        return mixtures + [self.images(made.study)] * sum(none)

    def latents_of_annotation(self, study: str, corruption: str, annotation: str) -> list[str]:
        """The latents that an annotation's classifiers are asked about; none where it asks none."""
        return self.latents(study, corruption) if self.experiments.annotation(study, annotation).ASKS else []

    def latents_of_run(self, run: str) -> list[str]:
        """The latents of each mixture that a run's data are made of.

        Of an image in several files the first one's are read. So those of the whole dataset, which are clean,
        come behind those of a part that corrupts its images.
        """
        made = self.experiments.run(run)
        found = [self.latents(made.study, corruption) for corruption, _ in made.parts]
        return [path for paths in sorted(found, key=len) for path in paths]

    def locality_latents(self, study: str) -> list[str]:
        """The latents of the images that crop(sigma) is measured on."""
        run = self.experiments.run(self.experiments.locality_run(study))
        return self.latents(run.study, run.corruption)

    # --- captions -------------------------------------------------------------------------------------

    def text_encoder(self, study: str) -> str | None:
        """The encoder of captions whose states a study's denoisers may be told, if it has one."""
        name = self.experiments.study(study).text_encoder
        return name and self.path("text_encoder", text_encoder=name)

    def learnt_by_text_encoder(self, name: str) -> str | None:
        """The captioned images that a text encoder learns from; None for one from outside."""
        dataset = self.experiments.text_dataset(name)
        return dataset and self.path("prepare", dataset=dataset)

    def texts(self, dataset: str, text_encoder: str) -> str:
        """The states of a dataset's captions: its own job's, or those of the dataset that has the same."""
        return self.path("texts", dataset=self.experiments.captions_of(dataset), text_encoder=text_encoder)

    def texts_of_run(self, run: str) -> list[str]:
        """The states of the captions of each dataset that a run learns from; none where it is told none."""
        made = self.experiments.run(run)
        study = self.experiments.study(made.study)
        if not self.experiments.first_training(made.trained).told_captions:
            return []
        added = [self.experiments.added_dataset(corruption) for corruption, _ in made.parts]
        files = (self.texts(name, study.text_encoder) for name in filter(None, [study.dataset, *added]))
        return list(dict.fromkeys(files))

    def captions_of_samples(self, run: str) -> str | None:
        """The dataset whose captions a run's samples are of."""
        name = self.experiments.sampling(run).captions
        return name and self.path("prepare", dataset=name)

    def texts_of_samples(self, run: str) -> str | None:
        """The states of these captions."""
        name, study = self.experiments.sampling(run).captions, self.experiments.run(run).study
        return name and self.texts(name, self.experiments.study(study).text_encoder)

    def start(self, run: str, seed: str | int) -> str | None:
        """The weights of the phase that a run's training begins from, of the same seed."""
        phase = self.experiments.phase_before(run)
        return phase and self.path("train", run=phase, seed=seed)

    # --- annotations and classifiers ------------------------------------------------------------------

    def annotations(self, run: str, role: str = "out") -> str:
        """A run's annotations, or (`summary`) their statistics."""
        made = self.experiments.run(run)
        if made.also:
            return self.path("combine", {"out": "out_annotations"}.get(role, role), run=made.trained)
        return self.path("annotate", role, study=made.study, corruption=made.corruption,
                         annotation=made.annotation)

    def annotations_of_parts(self, run: str, role: str = "out") -> list[str]:
        """The annotations, or (`summary`) their statistics, of each mixture that a run's data are of."""
        made = self.experiments.run(run)
        return [self.path("annotate", role, study=made.study, corruption=corruption, annotation=annotation)
                for corruption, annotation in made.parts]

    def classifier(self, study: str, corruption: str, annotation: str, role: str = "out") -> str | None:
        """The noise classifier that an annotation asks, if it asks one."""
        name = self.experiments.classifier_of(annotation)
        return name and self.path("classifier", role, study=study, corruption=corruption, classifier=name)

    def crops(self, study: str, corruption: str, annotation: str) -> list[str]:
        """The classifiers of an annotation by crops, one for each size."""
        return [self.path("classifier", study=study, corruption=corruption, classifier=name)
                for name in self.experiments.crop_classifiers(annotation)]

    def locality_map(self, study: str, annotation: str) -> str | None:
        """The measured crop(sigma) that an annotation by crops is made with, if it is."""
        measured = self.experiments.annotation(study, annotation).reads_locality()
        return self.path("locality", "map_out", study=study) if measured else None

    def locality_denoiser(self, study: str) -> str:
        """The denoiser that a study's crop(sigma) is measured on."""
        run = self.experiments.locality_run(study)
        return self.path("train", run=self.experiments.run(run).trained, seed=self.first_seed(run))

    def locality_data(self, study: str) -> str:
        """The images that this denoiser was trained on."""
        run = self.experiments.run(self.experiments.locality_run(study))
        return self.mixture(run.study, run.corruption)

    def denoiser(self, run: str, seed: str | int) -> str:
        """The weights that a run is sampled from: the training's own, or averages of another width."""
        return self.averages(self.experiments.run(run).trained, seed, self.experiments.sampling(run).ema_std)

    def guide(self, run: str) -> str | None:
        """The weights of the denoiser that guides the samples of a run, of its own first training seed."""
        guide = self.experiments.guiding(run)
        spec = self.experiments.sampling(run).guide
        return guide and self.averages(guide, self.first_seed(guide), spec.ema_std)

    def averages(self, run: str, seed: str | int, std: float | None) -> str:
        """The averages of a training's weights of a width; None: the first that it kept."""
        if std is None:
            return self.path("train", run=run, seed=seed)
        return self.path("reconstruct", run=run, seed=seed, ema_std=str(std))

    def first_seed(self, run: str) -> int:
        """The first seed that a run is trained with."""
        return self.experiments.first_seed(run)

    # --- scores ---------------------------------------------------------------------------------------

    def weights(self, run: str, detector: str | None) -> str:
        """The weights of a detector (None: the first of the run's study), made on a dataset of its own or
        on the study's."""
        study = self.experiments.run(run).study
        name = detector or self.experiments.detectors(study)[0]
        return self.path("detector", dataset=self.experiments.detector_dataset(study, name),
                         detector=self.experiments.weights_of(name))

    def weights_for(self, dataset: str, detector: str) -> str:
        """The weights that a detector measures a dataset with, or the images that it is held against."""
        name, against = self.experiments.weights_of(detector), self.experiments.detector(detector).against
        if against and against.dataset == dataset:
            dataset = against.of
        own = self.experiments.entry("detectors", name, "detectors").get("dataset", dataset)
        return self.path("detector", dataset=own, detector=name)

    def model_of_detector(self, detector: str) -> str | None:
        """The model of images and texts whose image tower a detector is, if it is one."""
        spec = self.experiments.detector(detector)
        return self.path("text_encoder", text_encoder=spec.model) if spec.MODEL else None

    def reference(self, run: str, detector: str | None) -> str:
        """The moments that a run's samples are held against."""
        study = self.experiments.run(run).study
        name = detector or self.experiments.detectors(study)[0]
        against = self.experiments.detector(name).against
        dataset = against.dataset if against else self.experiments.study(study).dataset
        return self.path("reference", dataset=dataset, detector=name)

    def weights_that_find_best(self, run: str) -> str | None:
        """The weights of the detector that finds the best snapshot of a run, if one does."""
        name = self.experiments.finds_best(run)
        return name and self.weights(run, name)

    def reference_of_best(self, run: str) -> str | None:
        """The moments that this detector holds samples against."""
        name = self.experiments.finds_best(run)
        return name and self.reference(run, name)

    def weights_for_outside(self, name: str) -> str:
        """The weights that images from outside are measured with: as the samples beside which they stand."""
        return self.weights(self.experiments.outside.run(name), None)

    def reference_for_outside(self, name: str) -> str:
        """The moments that they are held against."""
        return self.reference(self.experiments.outside.run(name), None)

    def outside_of_table(self, table: str) -> list[str]:
        """The scores from outside that stand beside a table."""
        return [self.path("outside", outside=name) for name in self.experiments.outside.of_table(table)]

    def weights_of_study(self, study: str, detector: str) -> str:
        """The weights that one of a study's detectors measures with."""
        return self.weights_for(self.experiments.study(study).dataset, detector)
