"""Dashboards show the numbers of the log, once each, whoever resumes the run."""

import json
import struct
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from kill_config import get_config
from tiny import tiny_config

from ocssl_jax import build, writers
from ocssl_jax.boards import boards
from ocssl_jax.course import Course
from ocssl_jax.data.arrivals import Schedule
from ocssl_jax.errors import UsageError
from ocssl_jax.writers import History

BATCHES = 6


def course(config):
    rows = np.zeros((BATCHES, 2), np.int32)
    experience = np.repeat([0, 1], BATCHES // 2)
    mask = np.ones((BATCHES, 2), bool)
    fields = {"index": rows, "mask": mask, "experience": experience}
    given = {n: fields.get(n) for n in Schedule._fields}
    return Course(Schedule(**given), config, chunk=1)


def log(folder, config, first, stop):
    """Write stream batches after `first` up to `stop` as a run does; its records."""
    shown = boards(folder, config, step=first)
    history = History(folder, course(config), step=first, boards=shown)
    seen = [[{"loss": 1 / step}, {"loss": 3 / step}] for step in range(first + 1, stop)]
    history.append(first, [*seen, [{"loss": 0.5}, {"loss": 1.0}]], rate=7.0)
    history.close()
    return writers.read(folder / "metrics.jsonl")


def config_with(**fields):
    config = tiny_config()
    config.log.update({"every": 1} | fields)
    return config


def events(folder):
    """(step, name, number) of all event files; what a later file voids is left out."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            if event.HasField("session_log"):
                found = [e for e in found if e[0] < event.step]
            for value in event.summary.value:
                found.append((event.step, value.tag, value.simple_value))
    return found


def test_tensorboard_has_every_number_of_the_log_once(tmp_path):
    config = config_with(tensorboard=True)
    log(tmp_path, config, 0, 4)
    time.sleep(1.1)  # its files are named by the second
    records = log(tmp_path, config, 3, 6)  # killed after batch 4, saved at batch 3
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    shown = {(step, name): value for step, name, value in events(tmp_path)}
    assert len(shown) == len(events(tmp_path))
    for record in records:
        for name in ("loss", "samples_seen", "experience"):
            assert shown[record["step"], name] == pytest.approx(record[name])
        assert shown[record["step"], "images_per_s"] == 7.0
    assert len(shown) == 4 * BATCHES


def test_weights_and_biases_has_one_run_a_workdir(tmp_path, monkeypatch):
    begun, told = [], []

    def init(**given):
        begun.append(given)
        add = lambda values, step: told.append((step, values["loss"]))
        return SimpleNamespace(log=add, finish=lambda: told.append("finished"))

    fake = SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = config_with(wandb=True)
    records = log(tmp_path / "a", config, 0, 3) and log(tmp_path / "a", config, 3, 6)
    assert told == [
        *((r["step"], r["loss"]) for r in records[:3]),
        "finished",
        *((r["step"], r["loss"]) for r in records[3:]),
        "finished",
    ]
    log(tmp_path / "b", config, 0, 1)
    ids = [given["id"] for given in begun]
    assert ids[0] == ids[1] != ids[2]
    assert begun[0]["dir"] == str(tmp_path / "a") and begun[0]["name"] == "a"
    assert begun[0]["config"]["log"]["wandb"] is True and begun[0]["resume"] == "allow"


def records_in(file):
    """The records of an offline file: a header, then parts of 32 kB blocks."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:  # no room for another header
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


@pytest.mark.timeout(120)
def test_weights_and_biases_keeps_it_all_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    records = log(tmp_path, config_with(wandb=True), 0, 4)
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    shown = []
    for data in records_in(file):
        record = Record.FromString(data)
        if record.HasField("history"):
            items = record.history.item
            named = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in items}
            shown.append((named["_step"], named["loss"], named["images_per_s"]))
    assert shown == [(r["step"], pytest.approx(r["loss"]), 7.0) for r in records]


def test_without_wandb_it_says_what_to_install(monkeypatch):
    config = get_config()
    config.log.wandb = True
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'ocssl_jax\[wandb\]'"):
        build.check_names(config)
