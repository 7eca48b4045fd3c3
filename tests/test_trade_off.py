"""The figure of a table's rows by two distances."""

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
