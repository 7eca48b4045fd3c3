"""What turns images into latents and captions into states, as the files of a scale name it."""

from __future__ import annotations

from ambient.settings.resolve import Stages
from ambient.specs import EncoderSpec, EncodingSpec, TextEncoderSpec, TextsSpec
from ambient.specs.strict import SpecError, build, require


class Encodings(Stages):
    """The stages of a scale, with those that encode."""

    def encoder(self, name: str) -> EncoderSpec:
        """The specification of the `encoder` stage."""
        entry = self.entry("encoders", name, "studies")
        own = {key: value for key, value in entry.items() if key not in ("weights", "dataset")}
        return build(EncoderSpec, own, f"encoders.{name}")

    def encoder_weights(self, name: str) -> str | None:
        """The local path of an encoder's weights, where they come from outside."""
        where, weights = f"encoders.{name}.weights", self.entry("encoders", name, "studies").get("weights")
        given = isinstance(weights, str) and not self.encoder(name).LEARNS
        require(weights is None or given, where, weights,
                "null for an encoder that learns in the workflow, else a path")
        return weights

    def encoder_dataset(self, study: str) -> str:
        """The dataset that a study's encoder is made on: its own `dataset`, or the study's."""
        name, own = self.study(study).encoder, self.study(study).dataset
        dataset = self.entry("encoders", name, f"studies.{study}.encoder").get("dataset", own)
        self.entry("datasets", dataset, f"encoders.{name}.dataset")
        return dataset

    def encoding(self, study: str) -> EncodingSpec:
        """The specification of the `encode` stage."""
        name = self.study(study).encoder
        require(name is not None, f"studies.{study}.encoder", name, "a name in encoders, to have latents")
        return EncodingSpec(self.encoder(name).kind)

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
        entry = self.entry("text_encoders", name, "text_encoders")
        own = {key: value for key, value in entry.items() if key not in ("weights", "dataset")}
        return build(TextEncoderSpec, own, f"text_encoders.{name}")

    def text_weights(self, name: str) -> str | None:
        """The local path of a text encoder's weights, where they come from outside."""
        where, weights = f"text_encoders.{name}.weights", self.entry("text_encoders", name, "").get("weights")
        given = isinstance(weights, str) and not self.text_encoder(name).LEARNS
        require(weights is None or given, where, weights,
                "null for a text encoder that learns in the workflow, else a path")
        return weights

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

    def text_states(self, text_encoder: str) -> TextsSpec:
        """The specification of the `texts` stage."""
        return TextsSpec(self.text_encoder(text_encoder).kind)
