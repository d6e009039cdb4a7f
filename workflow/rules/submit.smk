# What a study hands in to a challenge: systems trained once more, on all that has a label, predict
# what has none. train_fold does both, as fold 'final'.


rule assign_final:
    input:
        utterances="results/{study}/utterances.parquet",
        corpora=PLAN.per_corpus("results/corpora/{corpus}/utterances.parquet"),
    output:
        utterances="results/{study}/final_utterances.parquet",
        folds="results/{study}/final_folds.parquet",
    log:
        "results/{study}/logs/assign_final.log",
    benchmark:
        "results/{study}/benchmarks/assign_final.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "keep"),
        code=PLAN.code("assign_final.py"),
    script:
        "../scripts/assign_final.py"


rule write_submission:
    input:
        utterances="results/{study}/final_utterances.parquet",
        final=lambda w: PLAN.finals(w.study),
    output:
        "results/{study}/submission/results.csv",
    log:
        "results/{study}/logs/write_submission.log",
    benchmark:
        "results/{study}/benchmarks/write_submission.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.submission(w.study),
        code=PLAN.code("write_submission.py"),
    script:
        "../scripts/write_submission.py"
