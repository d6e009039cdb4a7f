# Speech to text: shards by a stable hash of the utterance id, joined into one table per corpus.


# A checkpoint: how many jobs there are depends on the hours of audio. Local and of a second.
checkpoint assign_shards:
    input:
        "results/corpora/{corpus}/utterances.parquet",
    output:
        directory("results/corpora/{corpus}/transcripts/{asr}/shards"),
    log:
        "results/corpora/{corpus}/logs/assign_shards/{asr}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/assign_shards.{asr}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.shards(w.asr),
        code=PLAN.code("assign_shards.py"),
    script:
        "../scripts/assign_shards.py"


# `ancient`: a job is due when its own utterances have changed, and its shard says whether they have.
rule transcribe_shard:
    input:
        shard="results/corpora/{corpus}/transcripts/{asr}/shards/{shard}-of-{shards}.parquet",
        samples=ancient("results/corpora/{corpus}/audio.i16"),
        index=ancient("results/corpora/{corpus}/audio.parquet"),
        model=lambda w: PLAN.recogniser(w.asr),
    output:
        "results/corpora/{corpus}/transcripts/{asr}/shard-{shard}-of-{shards}.parquet",
    log:
        "results/corpora/{corpus}/logs/transcribe_shard/{asr}-{shard}-of-{shards}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/transcribe_shard.{asr}-{shard}-of-{shards}.tsv"
    conda:
        "../../envs/asr.yaml"
    threads: PLAN.threads(PLAN.recogniser_need)
    resources:
        **PLAN.asks(PLAN.recogniser_need),
    params:
        settings=lambda w: PLAN.transcriber_settings(w.asr),
        code=lambda w: PLAN.code("transcribe_shard.py", f"serflow.asr.{PLAN.asr[w.asr].engine}"),
    script:
        "../scripts/transcribe_shard.py"


rule join_transcripts:
    input:
        utterances="results/corpora/{corpus}/utterances.parquet",
        skipped="results/corpora/{corpus}/skipped.parquet",
        shards=lambda w: PLAN.shard_outputs(checkpoints.assign_shards.get(**w).output[0]),
    output:
        "results/corpora/{corpus}/transcripts/{asr}.parquet",
    log:
        "results/corpora/{corpus}/logs/join_transcripts/{asr}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/join_transcripts.{asr}.tsv"
    wildcard_constraints:
        asr=PLAN.asr_names("canary", "whisper"),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("join_transcripts.py"),
    script:
        "../scripts/join_transcripts.py"


rule copy_reference_texts:
    input:
        "results/corpora/{corpus}/utterances.parquet",
    output:
        "results/corpora/{corpus}/transcripts/{asr}.parquet",
    log:
        "results/corpora/{corpus}/logs/copy_reference_texts/{asr}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/copy_reference_texts.{asr}.tsv"
    wildcard_constraints:
        asr=PLAN.asr_names("reference"),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: canonical({"name": w.asr}),
        code=PLAN.code("copy_reference_texts.py"),
    script:
        "../scripts/copy_reference_texts.py"
