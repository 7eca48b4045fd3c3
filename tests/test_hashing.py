"""The time that jobs ask for to hash what they read and write."""

import math
from pathlib import Path

import pytest

from ambient.cluster import cost, doctor, hashing, limits, plan, requests
from ambient.cluster.scales import Graphs
from ambient.cluster.site import Site
from ambient.cluster.work import Work
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node

CONFIG = Path(__file__).parents[1] / "config"
IMAGENET = 1_281_167
LATENTS = IMAGENET * 4 * 64**2 * 2 * 4  # 168 GB: means and deviations, float32
IMAGES = IMAGENET * 3 * 512**2  # 1 TB


@pytest.fixture(scope="module")
def paper():
    return hashing.Works(Graph(Experiments(CONFIG, "paper")))


def job(kind, **names):
    return Node(kind, tuple(sorted(names.items())))


def test_a_training_on_imagenets_latents_hashes_them_for_nine_minutes_at_each_begin(paper):
    work = paper.of(job("train", run="edm2-xs", seed="0"))
    assert work.begin_minutes == pytest.approx(LATENTS / 3e8 / 60, rel=1e-3) == pytest.approx(9.33, abs=0.01)
    assert 1 < work.end_minutes < 3  # 16 GB of snapshots: the file, and its tensors
    own = paper.costs.train("edm2-xs").minutes(Site())
    assert work.minutes(Site()) == pytest.approx(own + work.hashing_minutes)
    assert work.minutes(Site(gpus=8)) == pytest.approx(own / 8 + work.hashing_minutes)  # one rank hashes


@pytest.mark.parametrize("figure", ["figure4", "figure5"])
def test_a_figure_of_imagenet_asks_for_the_time_that_its_images_take_to_hash(paper, figure):
    """They ask no cost of their own; ten minutes were asked for, and three attempts in vain."""
    work = paper.of(job("crops_figures", figure=figure))
    assert work.begin_minutes == pytest.approx(IMAGES / 3e8 / 60) == pytest.approx(55.98, abs=0.01)
    asked = requests.Requests(Graphs(CONFIG), Site(), None).work("crops_figures", {"figure": figure})
    assert asked == work and work.end_minutes == 0
    assert work.limit(Site(), 1) == 95 == math.ceil(10 + 1.5 * (0.2 + 55.98))


def test_an_output_is_read_twice_at_the_end(paper):
    work = paper.of(job("prepare", dataset="imagenet-512"))
    assert work.begin_minutes == 0 and work.end_minutes == pytest.approx(2 * IMAGES / 3e8 / 60)


def test_of_a_job_with_several_outputs_the_first_has_the_bytes(paper):
    assert paper.size("results/paper/runs/edm2-xs/seed-0/loss.jsonl") == 0
    assert paper.size("results/paper/combined/text-ambient-annotations.safetensors") == 0
    assert paper.size("results/paper/runs/edm2-xs/seed-0/denoiser.safetensors") > 1e10


def test_pictures_of_many_rows_hash_the_same_images_once(paper):
    """Three of Table 9a's rows learn from the same four sets."""
    work = paper.of(job("figures", table="table9a"))
    read = paper.graph.reads(job("figures", table="table9a"))["images"]
    sizes = {path: paper.size(path) for path in read}
    assert len(read) == 11 and len(sizes) == 4
    assert 0 < work.begin_minutes - sum(sizes.values()) / 3e8 / 60 < 15  # samples of three runs


def test_a_page_of_the_audit_takes_noted_digests(paper):
    """87 TB lie behind Table 9a, which nobody hashes within a time limit."""
    assert paper.of(job("audit_page", table="table9a")).limit(Site(), 1) == 11


@pytest.mark.parametrize("site", [Site(), Site(gpus=0)])
def test_jobs_of_the_demo_ask_for_the_time_that_they_did(site):
    """Their files are read in a second."""
    found = Experiments(CONFIG, "demo")
    costs, works = cost.Costs(found), list(plan.works(found))
    own = [costs.of(one.kind, one.names) for one, _ in works]
    assert len(works) > 300
    assert [work.limit(site, 1) for _, work in works] == [work.limit(site, 1) for work in own]
    training = dict(works)[job("train", run="only-clean", seed="0")]
    assert training.minutes(Site(gpus=0)) == pytest.approx(costs.train("only-clean").minutes(Site(gpus=0)),
                                                           rel=5e-3)


def test_seeds_of_a_run_are_calculated_once(paper):
    first, second = (paper.of(job("sample", run="edm2-xs", seed=seed)) for seed in "01")
    assert first is second and paper.of(job("sample", run="edm2-xxl", seed="0")) is not first


def test_what_is_hashed_at_each_begin_leaves_less_of_a_time_limit():
    """Of 100 minutes 20 go to its inputs in each attempt; at the end 40 more go to its outputs."""
    work, site = Work(cpu_minutes=360, begin_minutes=20, end_minutes=40), Site(max_minutes=100)
    assert work.minutes(site) == 420 and work.limits(site) == (360 + 40) / 80
    assert Work(cpu_minutes=1, begin_minutes=60, end_minutes=40).limits(site) == math.inf


def test_doctor_says_which_jobs_no_time_limit_is_long_enough_for(tmp_path):
    said = [line for kind, line in limits.too_long(Experiments(CONFIG, "paper"), Site(), None, tmp_path)
            if kind == doctor.MISSING]
    told = {line.split()[1]: line.split("; ")[0] for line in said}
    assert told["corrupt"] == ("time: corrupt (corruption plus-cc12m, fraction 1.0, study text) takes about "
                               "1,576 minutes to hash its files and begins that anew after a time limit")
    assert told["figures"] == ("time: figures (table table9a) takes about 1,705 minutes (1,677 of them to "
                               "hash files) and begins anew after a time limit")
    assert "audit_page" not in told and "summary" not in told
