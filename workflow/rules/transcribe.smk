# Canary ASR: shards by a stable hash of the utterance id, joined into one table per corpus.


rule transcribe_shard:
    input:
        samples="results/corpora/{corpus}/audio.i16",
        index="results/corpora/{corpus}/audio.parquet",
        model=lambda w: PLAN.model_file(PLAN.asr[w.asr].model),
    output:
        "results/corpora/{corpus}/transcripts/{asr}/shard-{shard}-of-{shards}.parquet",
    log:
        "results/corpora/{corpus}/logs/transcribe_shard/{asr}-{shard}-of-{shards}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/transcribe_shard.{asr}-{shard}-of-{shards}.tsv"
    conda:
        "../../envs/asr.yaml"
    threads: 1
    resources:
        gpu=lambda w: int(PLAN.asr[w.asr].resources == "gpu"),
        mem_mb=lambda w, attempt: 16_000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        settings=lambda w: canonical(
            PLAN.asr[w.asr].model_dump(mode="json", exclude={"resources", "shards"})
        ),
        code=lambda w: PLAN.code("transcribe_shard.py", f"serflow.asr.{PLAN.asr[w.asr].engine}"),
    script:
        "../scripts/transcribe_shard.py"


rule join_transcripts:
    input:
        utterances="results/corpora/{corpus}/utterances.parquet",
        shards=lambda w: [
            f"results/corpora/{w.corpus}/transcripts/{w.asr}/shard-{shard}-of-{PLAN.asr[w.asr].shards}.parquet"
            for shard in range(PLAN.asr[w.asr].shards)
        ],
    output:
        "results/corpora/{corpus}/transcripts/{asr}.parquet",
    log:
        "results/corpora/{corpus}/logs/join_transcripts/{asr}.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/join_transcripts.{asr}.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=PLAN.code("join_transcripts.py"),
    script:
        "../scripts/join_transcripts.py"
