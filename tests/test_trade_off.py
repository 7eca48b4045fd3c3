"""The figure of a table's rows by two distances."""

import numpy as np
import pandas as pd
import pytest

from ambient import specs
from ambient.report.drawing import plt
from ambient.report.figures import trade_off
from ambient.settings import Experiments
from ambient.specs.strict import SpecError
from tests import finished

ROWS = pd.DataFrame({
    "method": ["All data", "Ambient-o", "Only Good"], "metric": "fd-all", "num_samples": 500,
    "value": [2.0, 5.0, 12.0], "value_std": [0.1, 0.2, 0.3], "fd-good": [20.0, 10.0, 2.0],
    "fd-good_std": [0.5, 0.4, 0.1], "sigma_min_mean": [0.0, 1.25, float("nan")], "num_seeds": 3,
    "num_training_seeds": 1})
GIVEN = {"names": (), "corruptions": (), "noise": specs.NoiseSpec(-0.4, 1.0), "epsilon": 0.05, "buffer": 4.0,
         "crop_sigma": 0.001, "images": 8, "seed": 0, "table": "t", "against": "fd-good",
         "runs": ("all", "ambient", "good")}
FIGURE = "figures:\n  both: {title: Both, kind: trade_off, study: controlled, table: table2a, against: %s}\n"


def test_each_row_is_a_point_and_the_line_joins_those_that_are_named(tmp_path):
    ROWS.to_csv(tmp_path / "t.csv", index=False)
    spec = trade_off.Spec("trade_off", **GIVEN, curve=("good", "ambient"))
    figure = trade_off.draw(spec, tmp_path / "t.csv")
    axis, = figure.axes
    line, *points = axis.lines
    assert line.get_xydata().tolist() == [[12.0, 2.0], [5.0, 10.0]]
    places = {tuple(one.get_xydata()[0]) for one in points if one.get_marker() not in ("|", "_")}
    assert places == {(2.0, 20.0), (5.0, 10.0), (12.0, 2.0)}
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["All data (0)", "Ambient-o (1.2)", "Only Good"]
    assert axis.get_xlabel() == "fd-all of 500 samples (lower is better)"
    plt.close(figure)


def test_bars_are_of_training_seeds_and_of_sampling_seeds_as_the_caption_says(tmp_path):
    several = ROWS.assign(num_training_seeds=3, training_std=[0.4, 0.5, 0.6],
                          **{"fd-good_training_std": [1.0, 2.0, float("nan")]})
    several.to_csv(tmp_path / "t.csv", index=False)
    figure = trade_off.draw(trade_off.Spec("trade_off", **GIVEN), tmp_path / "t.csv")
    bars = [one for one in figure.axes[0].collections if len(one.get_segments())]
    drawn = [(one.get_linewidth()[0], one.get_segments()[0].tolist()) for one in bars[:4]]
    assert [width for width, _ in drawn] == [3.5, 3.5, 1.0, 1.0]  # of the first row, along x and along y
    assert [line for _, line in drawn] == [
        pytest.approx(np.array(line)) for line in ([[1.6, 20], [2.4, 20]], [[2, 19], [2, 21]],
                                                   [[1.9, 20], [2.1, 20]], [[2, 19.5], [2, 20.5]])]
    caption = figure.texts[-1].get_text().replace("\n", " ")
    assert "thick bar: standard deviation over them; thin bar" in caption
    plt.close(figure)


def test_a_row_that_the_table_has_not_is_refused():
    with pytest.raises(SpecError, match="curve: got 'best', allowed: rows of t: all, ambient, good"):
        trade_off.Spec("trade_off", **GIVEN, curve=("best",))


@pytest.mark.parametrize(("beside", "against", "message"), [
    ("[digitnet]", "fd-digitnet", "allowed: a metric that stands beside the table's own: there is none"),
    ("[digitnet, selfnet]", "fd-other", "got 'fd-other', allowed: .* own: fd-selfnet"),
    ("[digitnet, selfnet]", "fd-selfnet", None)])
def test_the_metric_stands_beside_the_tables_own(tmp_path, beside, against, message):
    overlay = finished.OVERLAY.replace("controlled:\n", f"controlled:\n    detector: {beside}\n")
    finished.configure(tmp_path, overlay + FIGURE % against)
    if message:
        with pytest.raises(SpecError, match=message):
            Experiments(tmp_path / "config", finished.SCALE)
    else:
        found = Experiments(tmp_path / "config", finished.SCALE).figure("both")
        assert found.runs == ("only-clean", "ambient-blur-0.6")
