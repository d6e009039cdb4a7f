# Corpora: from file names and annotations to one checked listing of utterances each.


rule synthesise_demo_corpus:
    output:
        directory("results/corpora/{corpus}/source"),
    log:
        "results/corpora/{corpus}/logs/synthesise_demo_corpus.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/synthesise_demo_corpus.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    params:
        settings=lambda w: canonical({"seed": PLAN.corpora[w.corpus].seed}),
        code=PLAN.code("synthesise_demo_corpus.py"),
    script:
        "../scripts/synthesise_demo_corpus.py"


# A local rule: the machine where Snakemake runs has internet, compute nodes need none.
rule download_corpus:
    output:
        folder=directory("results/corpora/{corpus}/download"),
        record="results/corpora/{corpus}/download.json",
    log:
        "results/corpora/{corpus}/logs/download_corpus.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/download_corpus.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: PLAN.download(w.corpus),
        code=PLAN.code("download_corpus.py"),
    script:
        "../scripts/download_corpus.py"


rule list_utterances:
    input:
        lambda w: PLAN.corpus_source(w.corpus),
    output:
        listing="results/corpora/{corpus}/listing.parquet",
        votes="results/corpora/{corpus}/votes.parquet",
    log:
        "results/corpora/{corpus}/logs/list_utterances.log",
    benchmark:
        "results/corpora/{corpus}/benchmarks/list_utterances.tsv"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        settings=lambda w: canonical(
            {
                "corpus": w.corpus,
                "source": PLAN.corpora[w.corpus].source,
                "folder": PLAN.corpus_folder(w.corpus),
                "reading": PLAN.corpora[w.corpus].reading(w.corpus),
                "files": PLAN.corpus_listing(w.corpus),
            }
        ),
        code=lambda w: PLAN.code(
            "list_utterances.py", f"serflow.corpora.{PLAN.corpora[w.corpus].source}"
        ),
    script:
        "../scripts/list_utterances.py"
