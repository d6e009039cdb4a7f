# One job per system, fold and seed: train, then write what it predicts of the dev and test rows, and
# the trained system itself, for those that read its embeddings.


# A frozen encoder hears each corpus once, whatever is trained on top of it.
rule extract_layer_means:
    input:
        samples="results/corpora/{corpus}/audio.i16",
        index="results/corpora/{corpus}/audio.parquet",
        model=lambda w: PLAN.model_file(PLAN.encoders()[w.encoder]),
    output:
        means="results/corpora/{corpus}/layer_means/{encoder}.npy",
        ids="results/corpora/{corpus}/layer_means/{encoder}.parquet",
    log:
        "results/corpora/{corpus}/logs/extract_layer_means/{encoder}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/extract_layer_means.{encoder}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: PLAN.threads(PLAN.encoder_need)
    resources:
        **PLAN.asks(PLAN.encoder_need),
    params:
        code=PLAN.code("extract_layer_means.py"),
    script:
        "../scripts/extract_layer_means.py"


rule train_fold:
    input:
        unpack(PLAN.fold_inputs),
        # Nothing trains on folds that leak. Only the order counts: a reason that is worded anew
        # must not train anew.
        audit=ancient("results/{study}/audit.parquet"),
    output:
        directory("results/{study}/seed-{seed}/systems/{system}/fold-{fold}"),
    log:
        "results/{study}/logs/train_fold/{system}-seed-{seed}-fold-{fold}.log",
    benchmark:
        "results/{study}/benchmarks/train_fold.{system}-seed-{seed}-fold-{fold}.tsv"
    wildcard_constraints:
        study=f"(?!{PLAN.grid_folds()}){PLAN.of_class('gpu-small')}{STUDY}",
    conda:
        "../../envs/train.yaml"
    threads: PLAN.threads(PLAN.training_need)
    resources:
        **PLAN.asks(PLAN.training_need),
    params:
        settings=PLAN.system_settings,
        code=lambda w: PLAN.code(
            "train_fold.py", f"serflow.systems.{PLAN.system(w.study, w.system).family}"
        ),
    script:
        "../scripts/train_fold.py"


# Arrays are of one rule and of like jobs: there each class of resources has a rule of its own.
if "train_fold" in PLAN.cluster.arrays:

    use rule train_fold as train_fold_gpu_large with:
        wildcard_constraints:
            study=f"(?!{PLAN.grid_folds()}){PLAN.of_class('gpu-large')}{STUDY}",

    use rule train_fold as train_fold_multi_gpu with:
        wildcard_constraints:
            study=f"(?!{PLAN.grid_folds()}){PLAN.of_class('multi-gpu')}{STUDY}",

    use rule train_fold as train_fold_cpu_small with:
        wildcard_constraints:
            study=f"(?!{PLAN.grid_folds()}){PLAN.of_class('cpu-small')}{STUDY}",

    use rule train_fold as train_fold_cpu_audio with:
        wildcard_constraints:
            study=f"(?!{PLAN.grid_folds()}){PLAN.of_class('cpu-audio')}{STUDY}",


rule embed_fold:
    input:
        unpack(PLAN.embedding_inputs),
    output:
        "results/{study}/seed-{seed}/systems/{system}/embeddings-{fold}.parquet",
    log:
        "results/{study}/logs/embed_fold/{system}-seed-{seed}-fold-{fold}.log",
    benchmark:
        "results/{study}/benchmarks/embed_fold.{system}-seed-{seed}-fold-{fold}.tsv"
    wildcard_constraints:
        fold=r"\d+|final|hidden",
    conda:
        "../../envs/train.yaml"
    threads: PLAN.threads(PLAN.scoring_need)
    resources:
        **PLAN.asks(PLAN.scoring_need),
    params:
        code=lambda w: PLAN.code(
            "embed_fold.py", f"serflow.systems.{PLAN.system(w.study, w.system).family}"
        ),
    script:
        "../scripts/embed_fold.py"
