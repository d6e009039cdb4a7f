"""What the captions of `snakemake --report` say of a study.

Imported by the Snakefile, so nothing here imports pandas or matplotlib.
"""

from __future__ import annotations

import re

from serflow.config.study import StudyConfig
from serflow.report.formats import listing

ESTIMATED = {
    "em": "estimated on the test rows of each fold without their labels (EM)",
    "bbse": "estimated on the test rows of each fold from the confusions on dev rows (BBSE)",
}


def caption_words(config: StudyConfig) -> dict[str, str]:
    """Texts for the templates in `workflow/report`, escaped for reStructuredText.

    Names are sorted: the order of keys in a study's file changes nothing, so no job depends on it.
    """
    target = config.prior.target
    intervals = config.intervals
    curves = [
        f"{name}: {'dev rows' if fusion.fit_on == 'dev' else 'test rows of the other parts'}"
        for name, fusion in sorted(config.fusions.items())
        if hasattr(fusion, "objective") and len(fusion.systems) == 2
    ]
    words = {
        "title": config.title,
        "systems": listing(sorted(config.systems)),
        "fusions": listing(sorted(config.fusions)) or "none",
        "seeds": ", ".join(map(str, config.seeds)) if len(config.seeds) > 1 else "",
        "interval": f"95% bootstrap over {intervals.unit}s, {intervals.resamples} resamples",
        "target": ESTIMATED.get(target, target)
        if isinstance(target, str)
        else ", ".join(f"{name} {share:g}" for name, share in sorted(target.items())),
        "curves": "; ".join(curves),
    }
    return {key: re.sub(r"([\\`*_|<>])", r"\\\1", text) for key, text in words.items()}
