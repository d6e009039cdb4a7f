from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


# Read with `--sdm apptainer` alone; built from envs/serflow.def.
container: "envs/serflow.sif"


include: "workflow/rules/plan.smk"
include: "workflow/rules/ancient.smk"
include: "workflow/rules/signals.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/audio.smk"
include: "workflow/rules/transcribe.smk"
include: "workflow/rules/folds.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/grids.smk"
include: "workflow/rules/posteriors.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/rebalance.smk"
include: "workflow/rules/fuse.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/submit.smk"


rule all:
    default_target: True
    input:
        expand("results/{study}/report.html", study=STUDIES),
        expand("results/{study}/scores.csv", study=STUDIES),
        expand("results/{study}/tables/scores.tex", study=STUDIES),
        PLAN.submissions(),
    localrule: True


# For clusters on which Snakemake has no internet either: `snakemake --cores 4 fetch` where there is.
rule fetch:
    input:
        PLAN.fetched(),
    localrule: True


onsuccess:
    for study in STUDIES:
        headline = Path(f"results/{study}/headline.txt")
        if headline.exists():
            print(f"\n{study}: {headline.read_text(encoding='utf-8')}")
