"""What turns images into latents and captions into states, as the files of a scale name it."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from ambient.settings.resolve import Stages
from ambient.specs import DatasetSpec, EncoderSpec, EncodingSpec, TextEncoderSpec, TextsSpec
from ambient.specs.strict import SpecError, build, require

Coder = TypeVar("Coder", EncoderSpec, TextEncoderSpec)


class Encodings(Stages):
    """The stages of a scale, with those that encode."""

    def encoder(self, name: str) -> EncoderSpec:
        """The specification of the `encoder` stage."""
        return self.coder(EncoderSpec, "encoders", name)

    def coder(self, cls: type[Coder], section: str, name: str) -> Coder:
        """The specification of what encodes, from its entry, which also says what it is made from."""
        entry = self.entry(section, name, "studies")
        own = {key: value for key, value in entry.items() if key not in ("weights", "dataset")}
        return build(cls, own, f"{section}.{name}")

    def coder_weights(self, spec: EncoderSpec | TextEncoderSpec, section: str, name: str) -> str | None:
        """The local path of the weights of what encodes, where they come from outside."""
        weights = self.entry(section, name, "studies").get("weights")
        given = isinstance(weights, str) and not spec.LEARNS
        require(weights is None or given, f"{section}.{name}.weights", weights,
                "null for one that learns in the workflow, else a path")
        return weights

    def encoder_weights(self, name: str) -> str | None:
        """The local path of an encoder's weights, where they come from outside."""
        return self.coder_weights(self.encoder(name), "encoders", name)

    def encoder_dataset(self, study: str) -> str:
        """The dataset that a study's encoder is made on: its own `dataset`, or the study's."""
        name, own = self.study(study).encoder, self.study(study).dataset
        dataset = self.entry("encoders", name, f"studies.{study}.encoder").get("dataset", own)
        self.entry("datasets", dataset, f"encoders.{name}.dataset")
        return dataset

    def encoding(self, study: str, corruption: str = "none") -> EncodingSpec:
        """The specification of the `encode` stage."""
        name = self.study(study).encoder
        require(name is not None, f"studies.{study}.encoder", name, "a name in encoders, to have latents")
        kind, given = self.encoder(name).kind, self.encoded_dataset(corruption)
        if given is None:
            return EncodingSpec(kind)
        spec = self.dataset(given)
        require(spec.encoder == name, f"datasets.{given}.encoder", spec.encoder,
                f"{name}, which studies.{study} has: latents of another encoder mean other images")
        own_ids = self.operation(corruption).same_source
        return EncodingSpec(kind, precomputed(spec), None if own_ids else given)

    def latents_folder(self, corruption: str) -> str | None:
        """The folder of the latents that a corruption puts in, where they were made elsewhere."""
        name = self.encoded_dataset(corruption)
        return name and self.dataset(name).path

    def states_folder(self, dataset: str) -> str | None:
        """The folder of the states of a dataset's captions, where they were made elsewhere."""
        spec = self.dataset(dataset)
        return spec.path if spec.ENCODED and spec.text_encoder else None

    def shape(self, study: str) -> tuple[int, int]:
        """(channels, side) of what a study's denoisers see: of its images, or of their latents."""
        entry = self.study(study)
        dataset = self.dataset(entry.dataset)
        if entry.encoder is None:
            return dataset.channels, dataset.resolution
        try:
            return self.encoder(entry.encoder).latent(dataset.resolution)
        except SpecError as error:
            raise SpecError(f"studies.{study}.encoder: {error}") from None

    # --- captions ---------------------------------------------------------------------------------------

    def text_encoder(self, name: str) -> TextEncoderSpec:
        """The specification of the `text_encoder` stage."""
        return self.coder(TextEncoderSpec, "text_encoders", name)

    def text_weights(self, name: str) -> str | None:
        """The local path of a text encoder's weights, where they come from outside."""
        return self.coder_weights(self.text_encoder(name), "text_encoders", name)

    def text_dataset(self, name: str) -> str | None:
        """The captioned dataset that a text encoder learns from; None for one from outside."""
        where, dataset = f"text_encoders.{name}.dataset", self.entry("text_encoders", name, "").get("dataset")
        learns = self.text_encoder(name).LEARNS
        require(learns == (dataset is not None), where, dataset,
                "a name in datasets where it learns in the workflow, else null")
        if dataset is not None:
            self.entry("datasets", dataset, where)
            require(self.dataset(dataset).captioned, where, dataset, "a dataset with captions")
        return dataset

    def captions_of(self, dataset: str) -> str:
        """The dataset of whose captions a dataset takes the states, as it has all of them: itself, or that of
        `captions_of`, such as the same images at another size."""
        name = self.entry("datasets", dataset, "datasets").get("captions_of") or dataset
        where = f"datasets.{dataset}.captions_of"
        self.entry("datasets", name, where)
        require(name == dataset or self.dataset(name).captioned, where, name, "a dataset with captions")
        return name

    def text_states(self, text_encoder: str, dataset: str) -> TextsSpec:
        """The specification of the `texts` stage."""
        kind, spec = self.text_encoder(text_encoder).kind, self.dataset(dataset)
        if not (spec.ENCODED and spec.text_encoder):
            return TextsSpec(kind)
        require(spec.text_encoder == text_encoder, f"datasets.{dataset}.text_encoder", spec.text_encoder,
                f"{text_encoder}, whose states are asked for; null: captions are encoded in the workflow")
        return TextsSpec(kind, precomputed(spec))


def precomputed(spec: DatasetSpec) -> DatasetSpec:
    """A dataset of source `latents` without what says nothing of its numbers."""
    return dataclasses.replace(spec.portable(), about=None, licence=None)
