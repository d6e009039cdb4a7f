# Pretrained models: fetched once, on a machine that reaches the hub; and the demo's tiny ones.


rule fetch_model:
    output:
        "results/models/hub/{model}/model.json",
    log:
        "results/models/hub/{model}.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        settings=lambda w: canonical({"model": PLAN.hub_models()[f"hub/{w.model}"]}),
        code=PLAN.code("fetch_model.py"),
    script:
        "../scripts/fetch_model.py"


# Once, and not into the temporary folder of every job.
rule unpack_model:
    input:
        lambda w: PLAN.nemo_archives()[f"nemo/{w.model}"],
    output:
        "results/models/nemo/{model}/model.json",
    log:
        "results/models/nemo/{model}.log",
    localrule: True
    conda:
        "../../envs/asr.yaml"
    params:
        code=PLAN.code("unpack_model.py"),
    script:
        "../scripts/unpack_model.py"


rule fetch_sonar:
    output:
        "results/models/sonar-eng/model.json",
    log:
        "results/models/sonar-eng.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        settings=PLAN.sonar(),
        code=PLAN.code("fetch_sonar.py"),
    script:
        "../scripts/fetch_sonar.py"


rule make_tiny_encoder:
    output:
        "results/models/tiny-w2v-bert/model.json",
    log:
        "results/models/tiny-w2v-bert.log",
    benchmark:
        "results/models/benchmarks/make_tiny_encoder.tsv"
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        code=PLAN.code("make_tiny_encoder.py"),
    script:
        "../scripts/make_tiny_encoder.py"


rule make_demo_language_model:
    input:
        utterances="results/corpora/demo/utterances.parquet",
    output:
        "results/models/demo-llama/model.json",
    log:
        "results/models/demo-llama.log",
    benchmark:
        "results/models/benchmarks/make_demo_language_model.tsv"
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        code=PLAN.code("make_demo_language_model.py"),
    script:
        "../scripts/make_demo_language_model.py"


rule make_demo_canary:
    input:
        utterances="results/corpora/demo/utterances.parquet",
        samples="results/corpora/demo/audio.i16",
        index="results/corpora/demo/audio.parquet",
    output:
        "results/models/demo-canary/model.nemo",
    log:
        "results/models/demo-canary.log",
    benchmark:
        "results/models/benchmarks/make_demo_canary.tsv"
    localrule: True
    conda:
        "../../envs/asr.yaml"
    params:
        code=PLAN.code("make_demo_canary.py"),
    script:
        "../scripts/make_demo_canary.py"
