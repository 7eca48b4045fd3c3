# Paths. {scale} is a file of config/scales; the paper scale's tables and figures lie at results/ itself.
#   results/{scale}/data/{dataset}.safetensors                                          prepared images
#   results/{scale}/mixtures/{study}/{corruption}/clean-{fraction}.safetensors          corrupted once
#   results/{scale}/classifiers/{study}/{corruption}/{classifier}.safetensors           noise classifier
#   results/{scale}/annotations/{study}/{corruption}/{annotation}.safetensors           sigma_min of each
#   results/{scale}/runs/{run}/seed-{seed}/{denoiser,samples}.safetensors, metrics.json one model
#   results/{scale}/runs/{run}/seed-{seed}/denoiser-ema-{ema_std}.safetensors           another average
#   results/{scale}/{table}.csv, {table}.pdf, ...   (paper: results/{table}.csv, ...)   what is read


import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from ambient.settings import load
from ambient.specs.strict import SpecError

if not workflow.modifier.is_main_snakefile():
    raise WorkflowError(
        "this workflow can't be a module of another one: run it by itself (--directory PLACE puts its results "
        "there), and give its results to your workflow as input files"
    )


if not os.access(".snakemake" if os.path.exists(".snakemake") else ".", os.W_OK):
    raise WorkflowError(
        f"{os.getcwd()}: nothing can be written here, and results/ and .snakemake/ would be: run a clone of your "
        "own, or give --directory PLACE"
    )


# Settings lie where the workflow runs, or else beside this file.
MAIN = "config/config.yaml"
if not os.path.exists(MAIN):
    MAIN = os.path.join(workflow.basedir, MAIN)
try:
    load(
        Path(MAIN)
    )  # before Snakemake does, whose reader has no limits and no one line for what it can't read
except SpecError as error:
    raise WorkflowError(f"configuration: {error}")


configfile: MAIN


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/annotate.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/theory.smk"


# What these ask for is worked out when they are asked: only their scale is read then.
rule all:
    default_target: True
    input:
        lambda wildcards: RULES.graphs[config["scale"]].main(),


rule demo_all:
    input:
        lambda wildcards: RULES.graphs["demo"].everything(),


rule latent_demo:
    input:
        lambda wildcards: RULES.graphs["demo"].of_tables(["table1"]),
        lambda wildcards: RULES.graphs["demo"].pictures_of(["figure4", "figure30", "trade-off"]),


rule text_demo:
    input:
        lambda wildcards: RULES.graphs["demo"].of_tables(["table9a", "table9b", "vendi"]),
        lambda wildcards: RULES.graphs["demo"].pictures_of(["figure1-text", "figure7", "figure8", "figure26"]),


rule small_all:
    input:
        lambda wildcards: RULES.graphs["small"].everything(),


rule paper_all:
    input:
        lambda wildcards: RULES.graphs["paper"].everything(),


onstart:
    look_only_when_a_job_ends()
    say_how_far_it_is()


onsuccess:
    print_efficiency(config["scale"])
