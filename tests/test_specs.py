"""Every number of every specification refuses what can't be meant: NaN, infinity, values out of range."""

import dataclasses
import math
import typing

import pytest
from tiny import AUGMENT, CLASSIFIER, NETWORK, NOISE, SAMPLING, TRAINING

from ambient import specs
from ambient.specs.strict import SpecError, build, plain

TRIANGLE = {"clean": [[0, 0], [0.5, 1], [1, 0]], "other": [[0, 1], [1, 1]]}
ANNOTATION = specs.AnnotationSpec("fixed", 0.5, 0.05, 8, "geometric", NOISE, 0.05, 10.0, 2, 4, "last",
                                 "float32", 0)
LOCALITY = specs.LocalitySpec(None, (4, 8), 2, 1e-3, 0.01, 5.0, 4, 10, 0, 0.05)
DETECTOR = specs.DetectorSpec("classifier", features=8, channels=8, nimg=64, batch=32, lr=1e-3)
THEORY = specs.TheorySpec({"a": TRIANGLE}, 10, 10, 10, 0.1, 0.02, 0.01, 3.0, 5, 10, 4, 8, 10, 0)
FIGURE = specs.FigureSpec("gallery", ("a",), (), NOISE, 0.05, 4.0, 0.001, 4, 0)
ROW = specs.RowSpec("a", "runs/a", "A", None, {}, {"fid": 8.79}, None, noise=NOISE, buffer=4.0)
SPECS = [ROW, NETWORK, AUGMENT, TRAINING.optimiser, NOISE, TRAINING.loss, TRAINING, CLASSIFIER, ANNOTATION,
         LOCALITY, SAMPLING.sampler, SAMPLING, DETECTOR, THEORY, FIGURE, specs.MixtureSpec(0.5, 0),
         dataclasses.replace(TRAINING.loss, weight_clip=2.0)]
# "Never", and "no bound".
INFINITE = {("AnnotationSpec", "sigma_min"), ("SamplerSpec", "S_max"), ("OptimiserSpec", "clip")}


def floats():
    for one in SPECS:
        hints = typing.get_type_hints(type(one))
        for field in dataclasses.fields(one):
            if hints[field.name] in (float, float | None):
                yield pytest.param(one, field.name, id=f"{type(one).__name__}.{field.name}")


@pytest.mark.parametrize(("made", "name"), list(floats()))
def test_no_number_is_nan_or_infinite(made, name):
    for value in (math.nan, math.inf, -math.inf):
        if value == math.inf and any((base.__name__, name) in INFINITE for base in type(made).__mro__):
            dataclasses.replace(made, **{name: value})
            continue
        with pytest.raises(SpecError) as error:
            dataclasses.replace(made, **{name: value})
        assert "\n" not in str(error.value) and "allowed: " in str(error.value)
        with pytest.raises(SpecError):  # as a configuration file has it
            build(type(made), plain(made) | {name: "inf" if value == math.inf else value}, "here")


@pytest.mark.parametrize(("made", "changes"), [
    (SAMPLING.sampler, {"rho": -7.0}), (SAMPLING.sampler, {"rho": 0.0}), (SAMPLING.sampler, {"rho": 1e-3}),
    (SAMPLING.sampler, {"rho": 0.3, "sigma_min": 1e-4, "sigma_max": 1e3}),
    (SAMPLING.sampler, {"S_churn": -5.0}), (SAMPLING.sampler, {"S_noise": -1.0}),
    (SAMPLING.sampler, {"S_min": -1.0}), (SAMPLING.sampler, {"S_min": 2.0, "S_max": 1.0}),
    (SAMPLING.sampler, {"sigma_min": 0.0}), (SAMPLING.sampler, {"sigma_max": 0.01, "sigma_min": 0.02}),
    (SAMPLING.sampler, {"num_steps": 1}), (SAMPLING, {"num_samples": 0}), (SAMPLING, {"seeds": (0, 0)}),
    (NETWORK, {"attn_resolutions": (-8,)}), (NOISE, {"P_mean": 1000.0}), (NOISE, {"P_std": 50.0}),
    (LOCALITY, {"relative_tolerance": 0.0}), (LOCALITY, {"relative_tolerance": 1.5}),
    (ROW, {"paper": {"fid": math.nan}}), (ROW, {"paper": {"fid": -1.0}}), (ROW, {"paper": {"fid": math.inf}}),
    (ROW, {"buffer": 0.5}), (FIGURE, {"epsilon": 0.6}),
    (FIGURE, {"crop_sigma": 0.0}), (FIGURE, {"buffer": 1.0}),
    (DETECTOR, {"features": 0}), (DETECTOR, {"channels": 12}), (DETECTOR, {"nimg": 65}),
    (THEORY, {"pairs": {"a": TRIANGLE | {"clean": [[0, 0], [1, "x"]]}}}),
    (THEORY, {"pairs": {"a": TRIANGLE | {"clean": [[0, 0], [0.5, math.inf], [1, 0]]}}}),
    (THEORY, {"pairs": {"a": TRIANGLE | {"other": [[0, 1], [0.7, 1], [0.6, 1], [1, 1]]}}}),
    (THEORY, {"pairs": {"a": TRIANGLE | {"other": [[0.1, 1], [1, 1]]}}}),
    (THEORY, {"pairs": {"a": TRIANGLE | {"other": [[0, 0], [1, 0]]}}}),
])
def test_out_of_range(made, changes):
    with pytest.raises(SpecError, match=f"({'|'.join(changes)}).*got .*allowed: "):
        dataclasses.replace(made, **changes)


def test_a_map_is_checked_value_by_value_and_a_union_of_types_is_not_guessed():
    """The first of several types was taken silently, whatever was meant."""
    fields = [("a", typing.Mapping[str, float]), ("b", str | int | None, None)]
    made = dataclasses.make_dataclass("Made", fields)
    assert build(made, {"a": {"x": 1}}, "m").a == {"x": 1.0}
    with pytest.raises(SpecError, match=r"m\.a\.x: got '1e-4', allowed: a number"):
        build(made, {"a": {"x": "1e-4"}}, "m")
    with pytest.raises(SpecError, match="m.a: got 3, allowed: keys and values"):
        build(made, {"a": 3}, "m")
    with pytest.raises(TypeError, match=r"m\.b: .* several types"):
        build(made, {"a": {}, "b": 3}, "m")
