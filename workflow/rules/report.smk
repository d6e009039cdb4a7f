# The page: one self-contained file, and the same figures for `snakemake --report`.
from serflow.report.captions import caption_words


report: "../report/workflow.rst"


rule write_report:
    input:
        scores="results/{study}/scores.parquet",
        comparisons="results/{study}/comparisons.parquet",
        posteriors=lambda w: PLAN.all_posteriors(w.study),
        attributes=lambda w: PLAN.all_attributes(w.study),
        fusions=lambda w: PLAN.fusion_files(w.study),
        calibrations=lambda w: PLAN.calibration_files(w.study),
        grids=lambda w: PLAN.grid_files(w.study),
        attribute_fusions=lambda w: PLAN.attribute_fusion_files(w.study),
        utterances="results/{study}/utterances.parquet",
        folds="results/{study}/folds.parquet",
        fold_notes="results/{study}/folds.json",
        audit="results/{study}/audit.parquet",
        contrast_scores=lambda w: PLAN.contrasts(w.study, "scores.parquet"),
        contrast_audits=lambda w: PLAN.contrasts(w.study, "audit.parquet"),
        dropped="results/{study}/dropped.json",
        skipped=PLAN.per_corpus("results/corpora/{corpus}/skipped.parquet"),
        transcripts=lambda w: PLAN.transcripts(w.study),
        downloads=lambda w: PLAN.downloads(w.study),
    output:
        page="results/{study}/report.html",
        headline="results/{study}/headline.txt",
        scores=report(
            "results/{study}/figures/scores.svg",
            caption="../report/scores.rst",
            category="{study}",
            labels={"figure": "Scores"},
        ),
        confusions=report(
            "results/{study}/figures/confusions.svg",
            caption="../report/confusions.rst",
            category="{study}",
            labels={"figure": "Confusion matrices"},
        ),
        priors=report(
            "results/{study}/figures/priors.svg",
            caption="../report/priors.rst",
            category="{study}",
            labels={"figure": "Class priors"},
        ),
        interpolation=report(
            "results/{study}/figures/interpolation.svg",
            caption="../report/interpolation.rst",
            category="{study}",
            labels={"figure": "Interpolation curves"},
        ),
        reliability=report(
            "results/{study}/figures/reliability.svg",
            caption="../report/reliability.rst",
            category="{study}",
            labels={"figure": "Reliability diagrams"},
        ),
        sensitivity=report(
            "results/{study}/figures/sensitivity.svg",
            caption="../report/sensitivity.rst",
            category="{study}",
            labels={"figure": "Sensitivity to the target prior"},
        ),
    log:
        "results/{study}/logs/write_report.log",
    benchmark:
        "results/{study}/benchmarks/write_report.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: canonical(
            {
                "study": w.study,
                "config": PLAN.studies[w.study].model_dump(mode="json"),
            }
        ),
        words=lambda w: caption_words(PLAN.studies[w.study]),
        code=PLAN.code("write_report.py"),
    script:
        "../scripts/write_report.py"


rule write_tables:
    input:
        scores="results/{study}/scores.parquet",
    output:
        latex="results/{study}/tables/scores.tex",
        markdown="results/{study}/tables/scores.md",
        folds="results/{study}/tables/folds.md",
        folds_latex="results/{study}/tables/folds.tex",
    log:
        "results/{study}/logs/write_tables.log",
    benchmark:
        "results/{study}/benchmarks/write_tables.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("write_tables.py"),
    script:
        "../scripts/write_tables.py"
