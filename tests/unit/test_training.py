"""Batches, checkpoints, resuming, class weights: training is exact and drops nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_models
import toy_job
from serflow import preemption
from serflow.batching import ALIKE, Batches, Draw, alike, balanced_rows, count_batches
from serflow.config.families.training import TrainingSettings
from serflow.errors import UserError
from serflow.nets.losses import weighted_cross_entropy
from serflow.systems.text_inputs import TokenInputs
from serflow.targets import Targets
from serflow.training import checkpoints
from serflow.training.fit import class_weights, fit_network
from serflow.training.inference import outputs
from serflow.training.interface import Dev
from serflow.training.setup import seed_everything
from toy_examples import context

LENGTHS = np.random.default_rng(0).lognormal(1.0, 0.5, 203)


def batches(n: int = 203, size: int = 16, seed: int = 1, **how) -> Batches:
    labels = np.arange(n) % 4
    return Batches(labels, lambda draws: LENGTHS[[d.row for d in draws]], size, seed, **how)


def rows(sampler: Batches, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [[draw.row for draw in batch] for batch in sampler]


@pytest.mark.parametrize("bucketed", [True, False])
def test_an_epoch_holds_every_utterance_once_and_repeats_for_its_seed(bucketed):
    sampler = batches(bucketed=bucketed)
    epoch = rows(sampler, 3)
    assert len(epoch) == len(sampler)
    assert sorted(row for batch in epoch for row in batch) == list(range(203))
    assert rows(batches(bucketed=bucketed), 3) == epoch
    assert rows(batches(bucketed=bucketed, seed=2), 3) != epoch
    other = {frozenset(batch) for batch in rows(sampler, 4)}
    assert other != {frozenset(batch) for batch in epoch}, "other neighbours in another epoch"


@pytest.mark.parametrize("n", [2, 3, 4, 5, 17, 33, 49, 203])
@pytest.mark.parametrize("size", [2, 3, 16])
def test_no_batch_holds_one_example_and_sizes_differ_by_one(n, size):
    """Batch normalisation fails on one example, and dropping it would be silent."""
    sizes = [len(batch) for batch in rows(batches(n, size), 0)]
    assert sum(sizes) == n
    assert min(sizes) >= 2
    assert max(sizes) <= max(size, 3)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == count_batches(n, size)


def test_bucketed_batches_waste_little_padding():
    def waste(epoch):
        padded = sum(len(batch) * LENGTHS[batch].max() for batch in epoch)
        return padded / LENGTHS.sum()

    assert waste(rows(batches(bucketed=True), 0)) < 1.2
    assert waste(rows(batches(bucketed=False), 0)) > 1.7


@pytest.mark.parametrize("lengths", [LENGTHS, [5.0], [0.0, 0.0, 9.0], [1, 1, 1, 1, 1, 30.0]])
def test_free_batches_hold_every_utterance_once_and_none_is_padded_far(lengths):
    """One long utterance padded all of its batch."""
    lengths = np.asarray(lengths, dtype=np.float64)
    batches = alike(lengths, 4)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert 0 < len(batch) <= 4
        assert lengths[batch].max() <= ALIKE * lengths[batch].min()


def test_the_order_of_batches_does_not_follow_length():
    means = [LENGTHS[batch].mean() for batch in rows(batches(), 0)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_balanced_sampling_draws_all_classes_equally_and_repeats_no_row_too_early():
    labels = np.repeat([0, 1, 3], [90, 7, 3])
    drawn = balanced_rows(labels, np.random.default_rng(0))
    counts = Counter(labels[drawn].tolist())
    assert len(drawn) == 100
    assert sorted(counts.values()) == [33, 33, 34]
    rare = Counter(drawn[labels[drawn] == 1].tolist())
    assert len(rare) == 7
    assert max(rare.values()) - min(rare.values()) <= 1


def test_inverse_class_weights_average_to_one_over_the_training_rows():
    labels = np.repeat([0, 2], [30, 10])
    found = class_weights(labels, 3, "inverse")
    assert found == pytest.approx([40 / 60, 0, 2])
    assert found[labels].mean() == pytest.approx(1)
    assert class_weights(labels, 3, "none") is None


@pytest.fixture
def sealed(tmp_path) -> Path:
    for step in (10, 20):
        folder = checkpoints.path_of(tmp_path, step)
        folder.mkdir()
        (folder / "weights").write_text("w" * step)
        checkpoints.seal(folder, "run")
    return tmp_path


def test_a_checkpoint_that_a_kill_cut_short_is_passed_over_and_removed(sealed):
    assert checkpoints.newest(sealed, "run") == sealed / "checkpoint-20"
    (sealed / "checkpoint-30").mkdir()  # never sealed
    (sealed / "checkpoint-30" / "weights").write_text("w")
    (sealed / "checkpoint-20" / "weights").write_text("w")  # cut
    assert checkpoints.newest(sealed, "run") == sealed / "checkpoint-10"
    assert [item.name for item in sealed.iterdir()] == ["checkpoint-10"]


def test_a_checkpoint_of_other_settings_is_not_resumed(sealed):
    assert checkpoints.newest(sealed, "another run") is None


def test_pruning_keeps_the_newest_two_and_the_best(sealed):
    for step in (30, 40):
        checkpoints.path_of(sealed, step).mkdir()
    checkpoints.prune(sealed, best=10)
    assert {f.name for f in sealed.iterdir()} == {f"checkpoint-{n}" for n in (10, 30, 40)}


# A network small enough to train thousands of steps a minute.


class Bag(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.dropout = torch.nn.Dropout(0.2)
        self.norm = torch.nn.BatchNorm1d(8)
        self.output = torch.nn.Linear(8, 3)

    def forward(self, inputs, mask):
        words = self.embedding(inputs) * mask.unsqueeze(-1)
        return self.output(self.norm(self.dropout(words.sum(1))))


def toy(n: int = 40) -> tuple[TokenInputs, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    texts = [
        [int(label) + 1, *rng.integers(5, 20, rng.integers(1, 9)).tolist()] for label in labels
    ]
    return TokenInputs(texts, pad_id=0, max_tokens=512), labels


def train(folder: Path, seed: int = 1, dev: bool = False, **settings):
    where = context(folder, seed)
    seed_everything(where)
    net, (inputs, labels) = Bag(), toy()
    targets = Targets(labels, 3, np.empty((len(labels), 0)))
    score = Dev(lambda: outputs(net, net, inputs, 8), targets)
    chosen = TrainingSettings(**{"epochs": 4, "batch_size": 8, "learning_rate": 0.01} | settings)
    fitted = fit_network(net, inputs, targets, chosen, where, score if dev else None)
    return fitted, outputs(net, net, inputs, 8)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    _, first = train(tmp_path / "a")
    _, again = train(tmp_path / "b")
    _, other = train(tmp_path / "c", seed=2)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_the_facts_describe_the_run(tmp_path):
    fitted, scores = train(tmp_path, accumulation=2, class_weights="inverse")
    facts = fitted.facts
    assert facts["steps"] == 4 * math.ceil(5 / 2)
    assert facts["chosen_epoch"] == facts["epochs"] == 4
    assert len(facts["loss_history"]) == 4
    assert facts["loss_history"][0] > facts["loss_history"][-1] == facts["train_loss"]
    assert facts["trainable_parameters"] == facts["total_parameters"] == 20 * 8 + 16 + 27
    assert fitted.prior == pytest.approx([1 / 3] * 3)
    json.dumps(facts)
    assert scores.shape == (40, 3)
    assert scores.dtype == np.float64


def test_accumulated_batches_give_the_gradient_of_one_large_batch():
    """Unequal micro-batches must weigh by their examples, class weights included."""
    labels = torch.tensor([0, 0, 0, 1, 2])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([1.0, 2.0, 3.0])
    whole = weighted_cross_entropy(logits, labels, weight, 5)
    parts = [
        weighted_cross_entropy(logits[i], labels[i], weight, 5) for i in (range(2), range(2, 5))
    ]
    assert whole == pytest.approx(float(sum(parts)))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_every_optimizer_and_schedule_learns(tmp_path, optimizer, schedule):
    fitted, _ = train(tmp_path, optimizer=optimizer, schedule=schedule, weight_decay=0.01)
    assert fitted.facts["loss_history"][-1] < fitted.facts["loss_history"][0]


def test_adam_couples_weight_decay_and_adamw_does_not(tmp_path):
    _, coupled = train(tmp_path / "a", optimizer="adam", weight_decay=0.1)
    _, decoupled = train(tmp_path / "b", optimizer="adamw", weight_decay=0.1)
    assert coupled.tobytes() != decoupled.tobytes()


def test_the_best_epoch_is_chosen_on_dev_and_its_weights_predict(tmp_path):
    # A learning rate that wrecks the network after it has learnt.
    fitted, scores = train(
        tmp_path, dev=True, select="best", epochs=6, learning_rate=0.5, schedule="constant"
    )
    history = fitted.facts["dev_history"]
    assert len(history) == 6
    assert fitted.facts["chosen_epoch"] == 1 + int(np.argmax(history)) < 6
    from sklearn.metrics import f1_score

    found = f1_score(toy()[1], scores.argmax(1), average="macro")
    assert found == pytest.approx(max(history))


def test_the_best_epoch_needs_dev_rows(tmp_path):
    with pytest.raises(UserError, match="no dev rows"):
        train(tmp_path, select="best")


def test_a_diverging_loss_is_an_error_and_no_posterior(tmp_path):
    with pytest.raises(UserError, match=r"training loss is (nan|inf)"):
        train(tmp_path, learning_rate=1e30, weight_decay=1e8)


def test_a_finished_run_resumes_to_the_same_bits(tmp_path):
    """A job killed after training, before its posteriors were written."""
    _, first = train(tmp_path)
    fitted, again = train(tmp_path)
    assert len(fitted.facts["loss_history"]) == 4
    assert first.tobytes() == again.tobytes()


def test_progress_is_one_readable_line_an_epoch_in_a_log(tmp_path, capsys):
    train(tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 4
    assert "epoch 4.0/4: 100%" in lines[-1]
    assert "loss" in lines[-1]
    assert "\r" not in "".join(lines)


def test_predictions_come_in_the_given_order_whatever_the_batches():
    torch.manual_seed(0)
    net, (inputs, _) = Bag(), toy()
    one = outputs(net, net, inputs, 1)
    many = outputs(net, net, inputs, 7)
    assert np.allclose(one, many, atol=1e-5)
    alone = inputs.collate([inputs.item(Draw(0, 5, 5))])
    with torch.no_grad():
        expected = net(**alone).numpy()
    assert np.allclose(one[5], expected[0], atol=1e-5)


def test_killed_at_any_moment_training_ends_with_the_same_posteriors_bit_for_bit(tmp_path):
    """LoRA, crops, augmentation, dropout, batch norm, accumulation, balanced sampling and best epoch at once."""
    model = tiny_models.w2v_bert(tmp_path / "model")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = toy_job.start(whole, model)
    # Killed while the first epoch's checkpoint is being written, and between two later ones.
    for epoch, delay in ((1, 0.0), (4, 0.03)):
        job = toy_job.start(cut, model)
        wait_for_checkpoint(cut / "checkpoints" / "phase-1", epoch * toy_job.STEPS_PER_EPOCH, job)
        time.sleep(delay)
        job.kill()
        job.join()
        assert not (cut / "posteriors.npy").exists(), "the kill came too late to test anything"
    last = toy_job.start(cut, model)
    for job in (last, undisturbed):
        job.join(60)
        assert job.exitcode == 0
    assert (whole / "resumed").read_text() == "None"
    assert int((cut / "resumed").read_text()) >= 3 * toy_job.STEPS_PER_EPOCH
    assert (cut / "posteriors.npy").read_bytes() == (whole / "posteriors.npy").read_bytes()


# Batches are fetched two a step, six an epoch, and one ahead.
@pytest.mark.parametrize(
    ("name", "stops"),
    [
        # In the second of two micro-batches; at an epoch's last step, before it is scored; in the
        # last epoch.
        ("speech_classifier", [(4, "SIGUSR1"), (2, "SIGTERM"), (12, "SIGUSR1"), (13, "SIGTERM")]),
        # In the first phase, and in the second.
        ("two_phases", [(8, "SIGTERM"), (11, "SIGUSR1")]),
        ("text_classifier", [(3, "SIGUSR1"), (5, "SIGTERM")]),
        ("prompted_lm", [(3, "SIGTERM"), (5, "SIGUSR1")]),
    ],
)
def test_asked_to_end_a_job_saves_its_next_step_and_a_retry_gives_the_same_bits(
    name, stops, tmp_path
):
    """Preempted an hour into an epoch, or at the time limit, a job must lose no more than a step."""
    model = toy_job.make_model(name, tmp_path / "model")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = toy_job.start(whole, model, name)
    for batch, signal_name in stops:
        job = toy_job.start(cut, model, name, pause_at=batch)
        wait_for(cut / f"paused-{batch}", job)
        os.kill(job.pid, getattr(signal, signal_name))
        job.join(60)
        said = (cut / "log").read_text().splitlines()[-1]
        assert job.exitcode == preemption.EXIT_CODE, said
        assert said.startswith(f"Preempted: received {signal_name}; saved step")
        assert not (cut / "posteriors.npy").exists()
    last = toy_job.start(cut, model, name)
    for job in (last, undisturbed):
        job.join(60)
        assert job.exitcode == 0
    assert (whole / "resumed").read_text() == "None"
    assert (cut / "resumed").read_text() != "None"
    assert (cut / "losses").read_text() == (whole / "losses").read_text()
    assert (cut / "posteriors.npy").read_bytes() == (whole / "posteriors.npy").read_bytes()


def wait_for(file: Path, job: BaseProcess) -> None:
    """Return once the job has written a file."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert job.is_alive(), "the job ended before its pause"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for_checkpoint(folder: Path, step: int, job: BaseProcess) -> None:
    """Return the moment that the folder of a checkpoint at or after `step` appears."""
    deadline = time.monotonic() + 60
    while max((checkpoints._step(f) for f in folder.glob("checkpoint-*")), default=0) < step:
        assert job.is_alive(), "the job ended before its checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.001)
