"""Audit what train, dev and test share, and refuse folds that leak."""

from pathlib import Path

from serflow import job
from serflow.acoustics.fingerprints import FINGERPRINTS
from serflow.config.study import CONTRAST
from serflow.errors import UserError
from serflow.leakage.audit import AUDIT, audit, refuse_failed, refuse_unknown_speakers
from serflow.leakage.duplicates import near_duplicates
from serflow.tables import FOLDS, UTTERANCES


def main(smk, settings):
    options = dict(settings["audit"])
    utterances = UTTERANCES.read(smk.input.utterances)
    train_only = settings["labels"]["train_only"]
    near = None
    if options.pop("near_duplicates"):
        tables = [FINGERPRINTS.read(path) for path in smk.input.fingerprints]
        mine = [table[table["utterance_id"].isin(utterances["utterance_id"])] for table in tables]
        near = near_duplicates(mine)
    folds = FOLDS.read(smk.input.folds)
    if settings["intervals"]["unit"] == "speaker":
        refuse_unknown_speakers(utterances, folds)
    findings = audit(utterances, folds, near=near, train_only=train_only, **options)
    listing = Path(smk.log[0]).with_suffix(".csv")
    listing.unlink(missing_ok=True)
    try:
        refuse_failed(findings, contrast=settings["study"].partition(CONTRAST)[2])
    except UserError as error:
        findings.to_csv(listing, index=False)
        raise UserError(f"{error}\nAll findings: {listing}") from None
    AUDIT.write(findings, smk.output.findings)


if __name__ == "__main__":
    job.run(main, snakemake)
