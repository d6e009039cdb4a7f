# Audio: decoded once into one packed store per corpus; functionals and fingerprints from there.


rule pack_audio:
    input:
        listing="results/corpora/{corpus}/listing.parquet",
        source=lambda w: PLAN.corpus_source(w.corpus),
    output:
        samples="results/corpora/{corpus}/audio.i16",
        index="results/corpora/{corpus}/audio.parquet",
        utterances="results/corpora/{corpus}/utterances.parquet",
        skipped="results/corpora/{corpus}/skipped.parquet",
    log:
        "results/corpora/{corpus}/logs/pack_audio.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/pack_audio.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: PLAN.threads(PLAN.audio_need)
    resources:
        **PLAN.asks(PLAN.audio_need),
    params:
        settings=lambda w: canonical(
            {
                "folder": PLAN.corpus_folder(w.corpus),
                "bad_audio": PLAN.corpora[w.corpus].bad_audio,
                # Of its own: an equal listing would hide a replaced recording.
                "files": PLAN.corpus_listing(w.corpus),
            }
        ),
        code=PLAN.code("pack_audio.py"),
    script:
        "../scripts/pack_audio.py"


rule extract_functionals:
    input:
        samples="results/corpora/{corpus}/audio.i16",
        index="results/corpora/{corpus}/audio.parquet",
    output:
        "results/corpora/{corpus}/functionals.parquet",
    log:
        "results/corpora/{corpus}/logs/extract_functionals.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/extract_functionals.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: PLAN.threads(PLAN.audio_need)
    resources:
        **PLAN.asks(PLAN.audio_need),
    params:
        code=PLAN.code("extract_functionals.py"),
    script:
        "../scripts/extract_functionals.py"


rule extract_fingerprints:
    input:
        samples="results/corpora/{corpus}/audio.i16",
        index="results/corpora/{corpus}/audio.parquet",
    output:
        "results/corpora/{corpus}/fingerprints.parquet",
    log:
        "results/corpora/{corpus}/logs/extract_fingerprints.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/extract_fingerprints.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: PLAN.threads(PLAN.audio_need)
    resources:
        **PLAN.asks(PLAN.audio_need),
    params:
        code=PLAN.code("extract_fingerprints.py"),
    script:
        "../scripts/extract_fingerprints.py"
