"""What a job costs: arithmetic of a network, minutes, memory. For requests to a scheduler, before it runs.

What a forward pass costs is said by the network's kind (`ambient/training/networks/`): a multiply-add is two
floating-point operations, and a training step three forward passes. Snakemake asks for a job's resources in
every dry run, so this file loads no torch: with torch's own counter a dry run takes half as long again. The
tests hold the formulas to that counter, exactly, for every network of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ambient.cluster.counts import Counts
from ambient.cluster.work import BASE_MB, LITTLE, Work, in_memory_mb, loading_mb
from ambient.specs import AnnotationSpec, ClassifierSpec, NetworkCost, SamplingSpec, ScorerSpec, TrainingSpec
from ambient.specs.kinds import OfKinds
from ambient.specs.report import SEARCHED
from ambient.specs.stages import JOBS
from ambient.storage.files import HELD

ROW_MB = 2e-4  # of an image: its label, id and levels, and the order in which they admit it
# What a core does in a second: photographs of ImageNet's size, pixels of what they become, images whose
# pixels are corrupted, labels and captions of a mixture, bytes of its images, numbers searched.
DECODED, RESIZED, CORRUPTED, ROWS, COPIED, COMPARED = 400, 7e7, 500, 5e4, 3e8, 3e7
READ = 1000  # samples of latents and states a second that are read and hashed, 200 kB each
CPU_ACTIVATIONS = 6  # tensors kept for the backward pass, for each feature map


class Costs(Counts):
    """The work of each job of a scale."""

    def prepare(self, dataset: str) -> Work:
        """Libraries and a few raw images (or all of CIFAR-10's); photographs are prepared in memory."""
        spec = self.experiments.dataset(dataset)
        images = spec.num_images or 50_000
        prepared = (spec.max_images or images) * spec.channels * spec.resolution**2 * spec.HAS_IMAGES
        held = 1.1 * prepared / 1e6 if spec.HELD else in_memory_mb(prepared)
        seconds = images * (1 / DECODED + spec.resolution**2 / RESIZED)
        return Work(cpu_minutes=seconds / 60, memory_mb=1000 + held + self.captions_mb(dataset, images))

    def scores(self, dataset: str, scorer: str) -> Work:
        """What the scorer's kind says that its images cost; 3 kB an image for scores of its patches."""
        work = self.scoring(self.experiments.scorer(scorer), *self.dataset(dataset))
        return replace(work, memory_mb=work.memory_mb + 3e-3 * self.dataset(dataset)[0])

    def scoring(self, spec: ScorerSpec, images: int, channels: int, resolution: int) -> Work:
        """The scores of so many images."""
        flops = spec.flops(images, channels, resolution)
        return Work(flops=flops, gpu=flops > 0, ranks=spec.PER_IMAGE, cpu_minutes=images / spec.RATE / 60,
                    memory_mb=BASE_MB + 3 * in_memory_mb(images * channels * resolution**2))

    def sample_scores(self, run: str, scorer: str) -> Work:
        """The scores of the samples of a run's last snapshot."""
        spec, sampling = self.experiments.scorer(scorer), self.experiments.sampling(run)
        images, shape = sampling.num_samples * len(sampling.seeds), self.data(self.experiments.run(run).study)
        work = self.scoring(spec, images, *shape[1:])
        asked = self.asking(spec.model, *shape[1:]) if spec.MODEL else 0.0
        seen = self.experiments.detector(spec.detector).flops(*shape[1:]) if spec.ASKS else 0.0
        return replace(work, ranks=True, flops=work.flops + images * (asked + seen),
                       memory_mb=work.memory_mb + self.model_mb(spec))

    def model_mb(self, spec: OfKinds) -> float:
        """Of the model of images and texts that a scorer, judge or detector asks, if it asks one, MB."""
        return loading_mb(self.experiments.text_encoder(spec.model).parameters) if spec.MODEL else 0.0

    def asking(self, model: str, channels: int, resolution: int) -> float:
        """Floating-point operations of a model of images and texts for an image and its caption."""
        spec = self.experiments.text_encoder(model)
        return 2.0 * (spec.image_multiply_adds(resolution, channels) + spec.multiply_adds())

    def judge(self, judge: str, run: str) -> Work:
        """Two questions a pair, each of two images and their caption."""
        spec, sampling = self.experiments.named_judge(judge), self.experiments.sampling(run)
        pairs = min(sampling.num_samples * len(sampling.seeds), spec.pairs or math.inf) + spec.checks
        _, channels, resolution = self.data(self.experiments.run(run).study)
        flops = 4 * pairs * self.asking(spec.model, channels, resolution) if spec.MODEL else 0.0
        return Work(flops=flops, gpu=spec.MODEL,
                    cpu_minutes=LITTLE.cpu_minutes + 2 * pairs / spec.RATE / 60,
                    memory_mb=BASE_MB + self.model_mb(spec)
                    + 3 * in_memory_mb(pairs * channels * resolution**2))

    def corrupt(self, study: str, corruption: str) -> Work:
        """Pixels are corrupted image by image, or images copied; labels, ids and captions are always."""
        images, (_, channels, side) = sum(self.mixture(study, corruption)), self.data(study)
        made = self.experiments.mixture(study, corruption, self.experiments.fraction(study))
        copied = channels * side**2 * made.images / COPIED
        seconds = images * (1 / ROWS + (1 / CORRUPTED if made.of_pixels else copied))
        memory_mb = 1000 + 4 * self.data_mb(study, images) + self.captions_mb(self.study_data(study), images)
        return Work(cpu_minutes=seconds / 60, memory_mb=memory_mb)

    def encoder(self, dataset: str, encoder: str) -> Work:
        """Three passes through both halves for each image of its training; one half for each measured."""
        spec, (images, channels, resolution) = self.experiments.encoder(encoder), self.dataset(dataset)
        seen, batch = spec.training()
        passes = 6.0 * seen + (0 if spec.shift else images)
        return Work(flops=2 * spec.multiply_adds(resolution, channels) * passes, gpu=True, ranks=True,
                    batch=batch,
                    memory_mb=BASE_MB + 5 * in_memory_mb(images * channels * resolution**2))

    def text_encoder(self, text_encoder: str) -> Work:
        """Three passes for each captioned image of its training, where it learns."""
        spec = self.experiments.text_encoder(text_encoder)
        dataset = self.experiments.text_dataset(text_encoder)
        if dataset is None:
            return replace(LITTLE, memory_mb=BASE_MB + loading_mb(spec.parameters))
        images, channels, resolution = self.dataset(dataset)
        seen, batch = spec.training()
        flops = 6.0 * seen * spec.training_multiply_adds(resolution, channels)
        return Work(flops=flops, gpu=True, ranks=True, batch=batch,
                    memory_mb=BASE_MB + 5 * in_memory_mb(images * channels * resolution**2))

    def texts(self, dataset: str, text_encoder: str) -> Work:
        """One pass for each caption, as if all were distinct; a shard of states is in memory."""
        spec, images = self.experiments.text_encoder(text_encoder), self.dataset(dataset)[0]
        if self.experiments.text_states(text_encoder, dataset).precomputed:
            return self.reading(images, dataset, 4096 * 8 * spec.tokens * spec.channels
                                + 8 * spec.parameters)
        return Work(flops=2 * spec.multiply_adds() * images, gpu=True, ranks=True,
                    memory_mb=BASE_MB + 4096 * 4 * spec.tokens * spec.channels / 1e6
                    + loading_mb(spec.parameters) + self.captions_mb(dataset, images))

    def encode(self, study: str, corruption: str) -> Work:
        images, (_, channels, resolution) = sum(self.mixture(study, corruption)), self.data(study)
        spec = self.experiments.encoder(self.experiments.study(study).encoder)
        wide, side = spec.latent(resolution)
        if given := self.experiments.encoded_dataset(corruption):
            return self.reading(self.dataset(given)[0], given, 1024 * 16 * wide * side**2)
        return Work(flops=2 * spec.multiply_adds(resolution, channels) * images, gpu=True, ranks=True,
                    memory_mb=BASE_MB + self.data_mb(study, images)
                    + 16 * min(images, 1024) * wide * side**2 / 1e6)

    def reading(self, samples: int, dataset: str, held: float) -> Work:
        """What was made elsewhere is read; `held`: bytes of a shard of it in memory."""
        return Work(cpu_minutes=samples / READ / 60,
                    memory_mb=BASE_MB + held / 1e6 + 2 * self.captions_mb(dataset, samples))

    def fitting(self, spec: TrainingSpec | ClassifierSpec, study: str, images: int, network: NetworkCost,
                asked: int = 0) -> Work:
        """Training: three forward passes an image of the mixture; `asked`: further ones, of evaluations."""
        return Work(flops=2.0 * network.multiply_adds * (3 * spec.optimiser.nimg + asked), gpu=True,
                    ranks=True, batch=spec.optimiser.batch,
                    memory_mb=BASE_MB + 4 * self.data_mb(study, images) + images * ROW_MB,
                    weights_mb=4 * network.parameters / 1e6,
                    copies=4 + len(spec.optimiser.ema_stds or (None,)),
                    activations_mb=spec.optimiser.batch * network.features * 4 * CPU_ACTIVATIONS / 1e6)

    def classifier(self, study: str, corruption: str, classifier: str) -> Work:
        """Its training, and its evaluations on held-out images: of a small one they are most of the work."""
        spec = self.experiments.classifier(study, classifier)
        _, channels, resolution = self.points(study)
        kinds = self.mixture(study, corruption, classifier)
        held_out = [math.prod(spec.held_out_draws(max(round(spec.holdout * images), 1))) for images in kinds]
        return self.fitting(spec, study, sum(kinds),
                            spec.network.cost(resolution, channels, encoder_only=True),
                            spec.evaluations * spec.LEVELS * sum(held_out))

    def train(self, run: str) -> Work:
        study, spec = self.experiments.run(run).study, self.experiments.first_training(run)
        _, channels, resolution = self.points(study)
        work = self.fitting(spec, study, self.learnt(run), spec.cost(resolution, channels))
        held = self.captions_mb(self.study_data(study), self.learnt(run)) if spec.told_captions else 0.0
        return replace(work, shardable=JOBS["train"].shardable, memory_mb=work.memory_mb + held)

    def reconstruct(self, run: str, ema_std: str) -> Work:
        """Each snapshot is a sum of all averages until it; one tensor is in memory at a time."""
        wanted = self.experiments.reconstruction(run, float(ema_std)).snapshots
        study, spec = self.experiments.run(run).study, self.experiments.first_training(run)
        _, channels, resolution = self.points(study)
        weights_mb = spec.network.cost(resolution, channels).parameters * 4 / 1e6
        until = sum(spec.snapshots.index(nimg) + 1 for nimg in wanted)
        read = weights_mb * len(spec.optimiser.ema_stds) * until
        return Work(cpu_minutes=1 + read / 200 / 60, memory_mb=2000)

    def annotate(self, study: str, corruption: str, annotation: str) -> Work:
        """Its classifiers are asked about every image that is not clean, and for the mean of all."""
        spec: AnnotationSpec = self.experiments.annotation(study, annotation)
        clean, images = self.mixture(study, corruption)
        _, channels, resolution = self.points(study)
        data_mb, flops, curves = self.data_mb(study, clean + images), 0.0, 0.0
        for name in self.experiments.crop_classifiers(annotation) or [
                self.experiments.classifier_of(annotation)]:
            if name is None:
                return replace(LITTLE, memory_mb=2000 + 2 * data_mb)
            classifier = self.experiments.classifier(study, name)
            asked = images * spec.num_sigmas * spec.num_trials
            curves = 16 * images * spec.num_sigmas / 1e6  # MB of P(corrupted), and of it smoothed
            if classifier.crop:
                asked = images * (-(-resolution // classifier.crop)) ** 2
            elif spec.protocol == "shared_noise":
                asked += spec.reference_draws * spec.num_sigmas
            flops += 2.0 * classifier.network.cost(resolution, channels, True).multiply_adds * asked
        return Work(flops=flops, gpu=True, ranks=True, memory_mb=BASE_MB + 3 * data_mb + curves)

    def combine(self, run: str) -> Work:
        study, images = self.experiments.run(run).study, self.learnt(run)
        held = 8 * self.data_mb(study, images) + 2 * self.captions_mb(self.study_data(study), images)
        return Work(cpu_minutes=LITTLE.cpu_minutes + images / ROWS / 60, memory_mb=1000 + held)

    def locality(self, study: str) -> Work:
        spec = self.experiments.locality(study)
        training = self.experiments.first_training(self.experiments.locality_run(study))
        _, channels, resolution = self.points(study)
        passes = spec.num_images * spec.num_sigmas * (len(spec.contexts) + 1)
        network = training.network.cost(resolution, channels)
        return Work(flops=2.0 * network.multiply_adds * passes, gpu=True, ranks=True,
                    memory_mb=2 * BASE_MB + loading_mb(network.parameters))

    def noise_floor(self, floor: str) -> Work:
        """Each level, below and above sigma_min, for clean images and for others, by each run's denoiser."""
        spec = self.experiments.noise_floor(floor)
        _, channels, side = self.points(self.experiments.run(spec.runs[0]).study)
        networks = [self.experiments.first_training(run).network.cost(side, channels) for run in spec.runs]
        passes, each = 4 * spec.num_sigmas * spec.num_images, sum(one.multiply_adds for one in networks)
        return Work(flops=2.0 * passes * each, gpu=True, ranks=True,
                    memory_mb=2 * BASE_MB + loading_mb(max(network.parameters for network in networks)))

    def neighbours(self, near: str) -> Work:
        """Features of both datasets for each group of images, and of the samples; their distances."""
        figure, spec = self.experiments.figure(near), self.experiments.neighbours(near)
        images, channels, resolution = self.data(self.experiments.figure_entry(near).study)
        compared = (1 + (spec.best.share if spec.best else 0)) * (images + self.dataset(figure.unseen)[0])
        samples = spec.num_samples * len(spec.runs)
        wide = spec.detector.dimensions if spec.detector else channels * resolution**2
        flops = 2.0 * wide * samples * compared
        if figure.detector is None:
            return Work(flops=flops, gpu=True, ranks=True, memory_mb=2 * BASE_MB)
        work = self.features(figure.detector, round(compared + samples), channels, resolution)
        return replace(work, flops=work.flops + flops, memory_mb=2 * BASE_MB + samples * wide * 8 / 1e6)

    def sample(self, run: str) -> Work:
        spec: SamplingSpec = self.experiments.sampling(run)
        training, study = self.experiments.first_training(run), self.experiments.run(run).study
        _, channels, side = self.points(study)
        network = training.network.cost(side, channels)
        flops, parameters = 2.0 * network.multiply_adds * spec.nfe, network.parameters
        if guide := self.experiments.guiding(run):
            other = self.experiments.first_training(guide).network.cost(side, channels)
            flops, parameters = (flops + 2.0 * other.multiply_adds * spec.guide_nfe,
                                 parameters + other.parameters)
        elif spec.guide:  # the denoiser itself
            flops *= 2
        _, shown, resolution = self.data(study)
        images, each = spec.images(len(training.snapshots)), shown * resolution**2
        shard = min(min(images, 5000) * each, max(HELD, 250 * each))  # as the stage cuts them on a GPU
        work = Work(flops=flops * images, gpu=True, ranks=True,
                    memory_mb=BASE_MB + 3 * shard / 1e6 + loading_mb(parameters))
        if (name := self.experiments.finds_best(run)) is None:
            return work
        found = self.features(name, spec.looked_at(len(training.snapshots)), shown, resolution)
        return replace(found, flops=work.flops + found.flops, memory_mb=max(work.memory_mb, found.memory_mb))

    def features(self, detector: str, images: int, channels: int, resolution: int) -> Work:
        """Moments of features, whose cost its kind knows: five matrices of D x D numbers, and a batch."""
        spec = self.experiments.detector(detector)
        each = spec.flops(channels, resolution)
        if spec.MODEL:
            each += 2.0 * self.experiments.text_encoder(spec.model).image_multiply_adds(resolution, channels)
        return Work(flops=images * each, gpu=True, ranks=True,
                    cpu_minutes=LITTLE.cpu_minutes + images / spec.RATE / 60,
                    memory_mb=2 * BASE_MB + 5 * spec.dimensions**2 * 8 / 1e6 + self.model_mb(spec))

    def evaluate(self, run: str) -> Work:
        spec, training = self.experiments.sampling(run), self.experiments.first_training(run)
        study = self.experiments.run(run).study
        return self.features(self.experiments.detectors(study)[0], spec.images(len(training.snapshots)),
                             *self.data(study)[1:])

    def reference(self, dataset: str, detector: str) -> Work:
        if self.experiments.detector(detector).published:
            return LITTLE
        return self.features(detector, *self.dataset(dataset))

    def landmarks(self, study: str, corruption: str, detector: str) -> Work:
        """Features of a dataset, and of the images of a mixture that are not clean and that a draw takes.

        Those of all images that a draw takes stay in memory: of N an expected N (1 - (1 - n / N)^draws).
        """
        images, channels, resolution = self.data(study)
        spec, bad = self.experiments.landmarks(study, detector), self.mixture(study, corruption)[1]
        good, taken = (every * (1 - (1 - min(spec.num_samples / max(every, 1), most)) ** spec.draws)
                       for every, most in ((images, 0.5), (bad, 1)))
        work = self.features(detector, round(images + taken), channels, resolution)
        held = (good + taken) * self.experiments.detector(detector).dimensions * 4 / 1e6
        return replace(work, memory_mb=work.memory_mb + held)

    def outside(self, outside: str) -> Work:
        run = self.experiments.outside.run(outside)
        study = self.experiments.run(run).study
        return self.features(self.experiments.detectors(study)[0],
                             self.experiments.sampling(run).num_samples, *self.data(study)[1:])

    def figures(self, table: str) -> Work:
        numbers = 0  # of the training images that samples are held against, in each row
        for row in self.experiments.table(table).rows:
            _, channels, side = self.data(self.experiments.run(row.run).study)
            numbers += min(SEARCHED, self.learnt(row.run) * channels * side**2)
        return replace(LITTLE, cpu_minutes=LITTLE.cpu_minutes + numbers / COMPARED / 60)

    def detector(self, dataset: str, detector: str) -> Work:
        spec, (_, channels, resolution) = self.experiments.detector(detector), self.dataset(dataset)
        return replace(LITTLE, flops=spec.training_flops(channels, resolution), memory_mb=2 * BASE_MB,
                       gpu=spec.LEARNS)

    def of(self, kind: str, names: Mapping[str, str]) -> Work:
        """The work of a job, by its stage and wildcards."""
        by = JOBS[kind].cost
        return LITTLE if by is None else getattr(self, kind)(*(names[name] for name in by))
