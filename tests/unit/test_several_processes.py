"""Several processes train one network as one does, on CPU over gloo; one log, one error, one result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import toy_job
from serflow import launch, preemption
from serflow.config.families.text_classifier import TextClassifierConfig
from serflow.errors import UserError
from serflow.nets import quantisation
from serflow.systems import saved

SCRIPTS = Path(launch.__file__).parents[1]
SYSTEMS = ("still_speech", "still_text", "still_text_in_4_bits")
# Weights in 4 bits are not sharded.
TOGETHER = [
    ("still_speech", "ddp"),
    ("still_speech", "fsdp"),
    ("still_text", "ddp"),
    ("still_text", "fsdp"),
    ("still_text_in_4_bits", "ddp"),
]


def finish(process: subprocess.Popen, seconds: float = 180) -> str:
    """Wait for a job that is to succeed."""
    _, said = process.communicate(timeout=seconds)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {name: toy_job.make_model(name, base / name) for name in SYSTEMS}


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory) -> dict[str, Path]:
    """What one process makes of the systems."""
    base = tmp_path_factory.mktemp("alone")
    for name in SYSTEMS:
        job = toy_job.start(base / name, models[name], name)
        job.join(180)
        assert job.exitcode == 0
    return {name: base / name for name in SYSTEMS}


@pytest.fixture(scope="module")
def together(models, tmp_path_factory) -> dict[tuple[str, str], Path]:
    """What two processes make of them, by system and kind."""
    base = tmp_path_factory.mktemp("together")
    found = {}
    for name, kind in TOGETHER:
        found[name, kind] = base / f"{name}-{kind}"
        finish(toy_job.start_together(found[name, kind], models[name], name, kind))
    return found


@pytest.mark.parametrize(("name", "kind"), TOGETHER)
def test_two_processes_give_the_loss_curve_of_one(alone, together, name, kind):
    """Crops, augmentation of whole batches, accumulation, balanced sampling, class weights, batch
    normalisation and the concordance of a batch all have to be those of the whole batch."""
    one = json.loads((alone[name] / "losses").read_text())
    two = json.loads((together[name, kind] / "losses").read_text())
    assert two["train"] == pytest.approx(one["train"], abs=1e-4)
    assert two["dev"] == pytest.approx(one["dev"], abs=1e-4)
    assert len(set(one["train"])) == 3


@pytest.mark.parametrize(("name", "kind"), TOGETHER)
def test_predictions_of_two_processes_are_those_of_one(together, name, kind, models, tmp_path):
    """Each predicts its share of the utterances; a row in another's place would be silent."""
    folder = together[name, kind]
    system = saved.load(folder / "system", [str(models[name])])
    _, _, test = toy_job.examples(name, tmp_path)
    predicted = system.predict(test.without_labels())
    assert np.load(folder / "posteriors.npy") == pytest.approx(predicted.log_proba, abs=1e-6)
    if predicted.attributes is not None:
        assert np.load(folder / "attributes.npy") == pytest.approx(predicted.attributes, abs=1e-6)


@pytest.mark.parametrize(("name", "kind"), TOGETHER[2:])
def test_two_processes_learn_what_one_does(alone, together, name, kind):
    # Of text: a bias before batch normalisation moves by rounding errors that Adam makes steps of.
    one = np.load(alone[name] / "posteriors.npy")
    two = np.load(together[name, kind] / "posteriors.npy")
    assert two == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "signal_name"),
    [("still_speech", "ddp", "SIGTERM"), ("still_text", "fsdp", "SIGUSR1")],
)
def test_asked_to_end_all_save_one_step_and_a_retry_gives_the_same_bits(
    models, together, tmp_path, name, kind, signal_name
):
    """The launcher alone is told, as by a batch system; one process that went on would hang all."""
    folder = tmp_path / "cut"
    job = toy_job.start_together(folder, models[name], name, kind, pause_at=9)
    deadline = time.monotonic() + 120
    while not (folder / "paused-9").exists():
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(getattr(signal, signal_name))
    _, said = job.communicate(timeout=120)
    assert job.returncode == preemption.EXIT_CODE, said
    log = (folder / "log").read_text()
    assert f"Preempted: received {signal_name}; saved step" in log
    finish(toy_job.start_together(folder, models[name], name, kind))
    assert int((folder / "resumed").read_text()) > toy_job.STEPS_PER_EPOCH
    for file in ("losses", "posteriors.npy"):
        assert (folder / file).read_bytes() == (together[name, kind] / file).read_bytes(), file


# How processes are started and end, without a network.

WORKER = """
import json, os, signal, sys, time
from types import SimpleNamespace
from serflow import job, launch
from serflow.errors import UserError
def main(smk, settings):
    {body}
smk = SimpleNamespace(rule="train_fold", params={{}}, log=[])
job.run(main, smk)
"""


def launched(body: str, processes: int = 2) -> None:
    launch.run([sys.executable, "-c", WORKER.format(body=body)], processes, 1)


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS))


def test_the_error_of_one_process_is_the_jobs_and_the_others_are_stopped(environment):
    """Without that the others wait an hour for a process that is gone."""
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^no such row$"):
        launched("if launch.rank(): raise UserError('no such row')\n    time.sleep(60)")
    assert time.monotonic() - start < 30


def test_of_several_errors_the_first_is_shown_once(environment, capfd):
    with pytest.raises(SystemExit, match="1"):
        launched("time.sleep(launch.rank() * 0.5); raise ValueError(f'in {launch.rank()}')")
    said = capfd.readouterr().err
    assert said.count("Traceback") == 1
    assert "ValueError: in 0" in said


def test_a_killed_process_is_named_with_what_to_do(environment):
    with pytest.raises(UserError, match=r"process 2 of 2.*SIGKILL.*more memory"):
        launched(
            "os.kill(os.getpid(), signal.SIGKILL) if launch.rank() else None\n    time.sleep(60)"
        )


def test_the_first_process_alone_prints(environment, capfd):
    launched("print('said by', launch.rank(), flush=True)")
    assert capfd.readouterr().out == "said by 0\n"


def test_without_enough_gpus_the_job_says_how_many_it_sees(monkeypatch):
    from serflow.nets import ranks

    for key, value in (("RANK", "0"), ("WORLD_SIZE", "4"), (launch.MEETING, "nowhere")):
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"asks for 4 GPUs.*and 1 are visible"):
        ranks.join()


def test_weights_in_4_bits_go_to_the_gpu_of_their_process(monkeypatch):
    """On the first GPU all processes' LLaMA-2 70B would meet, and training elsewhere be refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert quantisation.loading_arguments()["device_map"] == {"": 1}


# The second process alone has heard of it yet.
NOTICE = """
import os, signal
from types import SimpleNamespace
from transformers import TrainerControl
from serflow import preemption
from serflow.training import callbacks
from serflow.nets import ranks
ranks.join()
preemption.watch()
notice = callbacks.Notice(steps_per_epoch=10)
with preemption.saving_later():
    for step in 1, 2:
        control = notice.on_step_end(None, SimpleNamespace(global_step=step), TrainerControl())
        assert control.should_save == (step == 2)
        if ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
assert notice.given == "received SIGUSR1", notice.given
"""


def test_all_know_why_the_job_ends_whoever_is_told_first(environment):
    """The first process writes the log: told later than another, it has no reason of its own."""
    launch.run([sys.executable, "-c", NOTICE], 2, 1)


BATCH_NORM = """
import sys, torch
from serflow.nets import ranks
ranks.join()
torch.manual_seed(0)
values, weights = torch.randn(7, 5), torch.randn(7, 5)
def run(net, rows):
    x = values[rows].clone().requires_grad_()
    (net(x) * weights[rows]).sum().backward()
    return x.grad, net.weight.grad, net.running_mean, net.running_var
expected = run(torch.nn.BatchNorm1d(5), list(range(7)))
net = torch.nn.BatchNorm1d(5)
ranks.share_batch_statistics(net)
rows = ranks.share(list(range(7)))
found = run(net, rows)
torch.testing.assert_close(found[0], expected[0][rows])
total = torch.from_numpy(ranks.summed(found[1].double().numpy())).float()
torch.testing.assert_close(total, expected[1])
torch.testing.assert_close(found[2:], expected[2:])
"""


def test_batch_normalisation_over_processes_is_that_of_the_whole_batch(environment):
    """Shares of 4 and 3 rows: a mean of their means would be wrong."""
    launch.run([sys.executable, "-c", BATCH_NORM], 2, 1)


def settings(**changes):
    block = {"model": "m", "adaptation": "full", "gpus": 2, "resources": "multi-gpu"}
    training = {"batch_size": 8} | changes.pop("training", {})
    return TextClassifierConfig.model_validate(
        {"family": "text_classifier", "training": training} | block | changes
    )


def test_a_batch_that_the_gpus_cannot_share_is_refused_before_any_job():
    with pytest.raises(ValueError, match=r"batch_size is 9, which 2 GPUs cannot share evenly"):
        settings(training={"batch_size": 9})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus": 1, "resources": "gpu-large"}, "gpus is 1"),
        (
            {
                "quantisation": "nf4",
                "adaptation": "lora",
                "lora": {"target_modules": ["q_proj"]},
            },
            "4 bits cannot be sharded",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_before_any_job(changes, words):
    with pytest.raises(ValueError, match=words):
        settings(training={"distributed": "fsdp"}, **changes)


def test_workers_stop_with_the_job_that_started_them(environment, tmp_path):
    """A killed job whose processes train on would hold its GPUs, and write beside its retry."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    tmp_path /= "pids"
    tmp_path.mkdir()
    body = f"open({str(tmp_path)!r} + f'/{{launch.rank()}}', 'w').write(str(os.getpid()))\n    time.sleep(60)"
    code = (
        "import sys; from serflow import launch\n"
        f"launch.run([sys.executable, '-c', {WORKER.format(body=body)!r}], 2, 1)"
    )
    job = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(scratch)})
    while len(list(tmp_path.iterdir())) < 2 or not all(f.read_text() for f in tmp_path.iterdir()):
        assert job.poll() is None
        time.sleep(0.02)
    pids = [int(file.read_text()) for file in tmp_path.iterdir()]
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() and not defunct(pid) for pid in pids):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def defunct(pid: int) -> bool:
    """Whether a process has ended and nobody has asked for its end yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
