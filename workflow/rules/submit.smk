# What a study hands in to a challenge. Who predicts what has no label is either trained once more, on
# all that has one (train_fold does both, as fold 'final'), or is the system of the study's one fold.


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


rule select_hidden:
    input:
        PLAN.per_corpus("results/corpora/{corpus}/utterances.parquet"),
    output:
        utterances="results/{study}/hidden_utterances.parquet",
        folds="results/{study}/hidden_folds.parquet",
    log:
        "results/{study}/logs/select_hidden.log",
    benchmark:
        "results/{study}/benchmarks/select_hidden.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.settings(w.study, "keep"),
        code=PLAN.code("select_hidden.py"),
    script:
        "../scripts/select_hidden.py"


rule predict_hidden:
    input:
        unpack(PLAN.hidden_inputs),
    output:
        directory("results/{study}/seed-{seed}/systems/{system}/hidden"),
    log:
        "results/{study}/logs/predict_hidden/{system}-seed-{seed}.log",
    benchmark:
        "results/{study}/benchmarks/predict_hidden.{system}-seed-{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: PLAN.threads(PLAN.scoring_need)
    resources:
        **PLAN.asks(PLAN.scoring_need),
    params:
        settings=PLAN.system_settings,
        code=lambda w: PLAN.code(
            "predict_hidden.py", f"serflow.systems.{PLAN.system(w.study, w.system).family}"
        ),
    script:
        "../scripts/predict_hidden.py"


rule write_submission:
    input:
        unpack(PLAN.submission_inputs),
    output:
        "results/{study}/submission/{file}.csv",
    log:
        "results/{study}/logs/write_submission/{file}.log",
    benchmark:
        "results/{study}/benchmarks/write_submission.{file}.tsv"
    wildcard_constraints:
        file="[a-z]+",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=PLAN.submission_settings,
        code=PLAN.code("write_submission.py"),
    script:
        "../scripts/write_submission.py"
