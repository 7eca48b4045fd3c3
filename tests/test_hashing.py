"""The time that jobs ask for to hash what they read and write."""

import math
from pathlib import Path

import pytest

from ambient.cluster import cost, doctor, hashing, limits, plan, requests
from ambient.cluster import work as work_module
from ambient.cluster.scales import Graphs
from ambient.cluster.site import Site
from ambient.cluster.work import Work
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node
from ambient.specs.strict import SpecError

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
    begin = work_module.minutes(work.reads, 1)
    assert begin == pytest.approx(LATENTS / 3e8 / 60, rel=1e-3) == pytest.approx(9.33, abs=0.01)
    assert 0.5 < work.hashing(1) - begin < 1.5  # 16 GB of snapshots: the file and its tensors by one reading
    own = paper.costs.train("edm2-xs").minutes(Site())
    assert work.minutes(Site()) == pytest.approx(own + work.hashing(2))
    assert work.minutes(Site(gpus=8)) == pytest.approx(own / 8 + work.hashing(16))  # one rank hashes


@pytest.mark.parametrize("figure", ["figure4", "figure5"])
def test_a_figure_of_imagenet_asks_for_the_time_that_its_images_take_to_hash(paper, figure):
    """They ask no cost of their own; ten minutes were asked for, and three attempts in vain."""
    work = paper.of(job("crops_figures", figure=figure))
    assert work.hashing(1) == pytest.approx(IMAGES / 3e8 / 60) == pytest.approx(55.98, abs=0.01)
    asked = requests.Requests(Graphs(CONFIG), Site(), None).work("crops_figures", {"figure": figure})
    assert asked == work and work.writes == 0 and work.cores(Site()) == 1  # it is one file
    assert work.limit(Site(), 1) == 95 == math.ceil(10 + 1.5 * (0.2 + 55.98))


def test_an_output_is_read_once_at_the_end(paper):
    work = paper.of(job("prepare", dataset="imagenet-512"))
    assert work.reads == () and work.hashing(1) == work.hashing(4) == pytest.approx(IMAGES / 3e8 / 60)


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
    assert 0 < work.hashing(1) - sum(sizes.values()) / 3e8 / 60 < 15  # samples of three runs


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
    minute, site = int(3e8 * 60), Site(max_minutes=100)
    work = Work(cpu_minutes=360, reads=(20 * minute,), writes=40 * minute)
    assert work.minutes(site) == 420 and work.limits(site) == (360 + 40) / 80
    assert Work(cpu_minutes=1, reads=(60 * minute,), writes=40 * minute).limits(site) == math.inf
    assert Work(cpu_minutes=1, reads=(60 * minute,), writes=38 * minute).limits(site) == 0.99


def test_what_has_grown_is_hashed_by_all_cores_when_a_job_goes_on():
    """Of 100 minutes 30 go to its input, 30 to its output, and 40 by one core to what it has saved."""
    minute, site = int(3e8 * 60), Site(max_minutes=100)
    work = Work(cpu_minutes=60, reads=(30 * minute,), writes=30 * minute, grows=True)
    assert work.hashing(1) == work.hashing(4) == 60 and work.hashing(3, again=True) == 30 + 10 + 30
    assert work.cores(site) == 3 and work.limits(site) == (60 + 30) / (100 - 30 - 10)
    assert work.limits(Site(max_minutes=100, hash_cpus=1)) == (60 + 30) / (100 - 30 - 30)
    assert Work(cpu_minutes=10, reads=(30 * minute,), writes=30 * minute, grows=True).cores(site) == 1
    assert Work(cpu_minutes=60, reads=(40 * minute,), writes=30 * minute, grows=True).limits(
        Site(max_minutes=100, hash_cpus=1)) == math.inf


def test_files_are_shared_among_cores_the_largest_first():
    minute = int(3e8 * 60)
    sizes = [minute * size for size in (3, 9, 8, 8)]
    assert [work_module.minutes(sizes, cores) for cores in (1, 2, 3, 4, 5)] == [28, 16, 11, 9, 9]


def test_a_job_asks_for_the_cores_that_shorten_its_hashing(paper):
    """`combine` reads four files of terabytes, a figure of ImageNet one. A training has its GPUs' cores."""
    asked = requests.Requests(Graphs(CONFIG), Site(), None)
    assert asked.cpus("combine", {"run": "text-ambient"}, 1) == 4
    assert asked.cpus("combine", {"run": "text-tuned"}, 1) == 3
    assert asked.cpus("crops_figures", {"figure": "figure4"}, 1) == 1
    assert asked.cpus("crops_figures", {"figure": "figure4"}, 6) == 6  # threads, by the configuration
    assert asked.cpus("train", {"run": "text-ambient", "seed": "0"}, 1) == 2
    eight, two = Site(gpus=8, cpus_per_gpu=4), Site(gpus=8, nodes=2, cpus_per_gpu=4)
    training = paper.of(job("train", run="text-ambient", seed="0"))
    assert [training.cores(site) for site in (Site(), eight, two)] == [2, 32, 1]  # srun gives a rank one
    asked = requests.Requests(Graphs(CONFIG), eight, None)
    assert asked.cpus("train", {"run": "text-ambient", "seed": "0"}, 1) == 32
    assert [round(training.hashing(cores)) for cores in (1, 2, 32)] == [612, 308, 105]
    with pytest.raises(SpecError, match="hash_cpus: got 0, allowed: >= 1"):
        Site(hash_cpus=0)


def test_doctor_says_which_jobs_no_time_limit_is_long_enough_for(tmp_path):
    said = [line for kind, line in limits.too_long(Experiments(CONFIG, "paper"), Site(), None, tmp_path)
            if kind == doctor.MISSING]
    assert said == []
    one = Site(hash_cpus=1)
    said = [line for kind, line in limits.too_long(Experiments(CONFIG, "paper"), one, None, tmp_path)
            if kind == doctor.MISSING]
    told = {line.split()[1]: line.split("; ")[0] for line in said}
    assert set(told) == {"corrupt", "combine", "figures", "report"}
    assert told["corrupt"] == ("time: corrupt (corruption plus-cc12m, fraction 1.0, study text) takes about "
                               "1,576 minutes to hash its files and begins that anew after a time limit")
    assert told["figures"] == ("time: figures (table table9a) takes about 1,705 minutes (1,677 of them to "
                               "hash files) and begins anew after a time limit")
