"""Asked to end at any moment, once or often, a program says so and exits with 0."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import (
    ROOT,
    TIMEOUT,
    command,
    finish,
    saved,
    signalled,
    start,
    steps_logged,
)

from ocssl_jax import signals
from ocssl_jax.errors import Interrupted
from ocssl_jax.stop import Stop

KINDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PROGRAMS = {
    "launch": [str(ROOT / "launch.py")],
    "sweep": ["-m", "ocssl_jax.sweep", "configs/quickstart.py", "--grid=passes=1,2"],
    "evaluate": ["-m", "ocssl_jax.evaluate", "nowhere"],
}


def listens(process: subprocess.Popen, kind: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(x for x in status.splitlines() if x.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (kind - 1) & 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("launch", signal.SIGTERM),
        *(
            pytest.param(name, kind, marks=pytest.mark.slow)
            for name in PROGRAMS
            for kind in KINDS
        ),
    ],
)
def test_while_python_still_imports(tmp_path, name, kind):
    args = [sys.executable, *PROGRAMS[name]]
    if name != "evaluate":
        args.append(f"--workdir={tmp_path / 'run'}")
    process = subprocess.Popen(
        args, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while not listens(process, signal.SIGHUP):  # the last to be heard
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(kind)
        said, complained = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert (said, complained) == ("", f"{signals.UNSAVED}\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_asked_again_and_again(tmp_path):
    """A signal every few milliseconds from the second batch to the very end."""
    args = command(tmp_path, tmp_path / "run", "--config.checkpoint.every=100")
    process = start(args)
    while steps_logged(tmp_path / "run") < 2:
        assert process.poll() is None
        time.sleep(0.002)
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        for kind in KINDS:
            process.send_signal(kind)
        time.sleep(0.003)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    lines = [x for x in output.splitlines() if not x.startswith("climb: ")]
    assert lines[0] == "stopping as soon as everything is saved"
    assert lines[1].endswith("repeat the command to go on") and len(lines) == 2
    assert saved(tmp_path / "run") == steps_logged(tmp_path / "run") < 12


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_terminal_that_goes_away(tmp_path):
    """SIGHUP saves as the others do; a pipe that nobody reads any more ends nothing."""
    folder = tmp_path / "run"
    args = command(tmp_path, folder, "--config.checkpoint.every=100")
    code, output = signalled(args, lambda: steps_logged(folder) >= 2, signal.SIGHUP)
    assert code == 0 and "repeat the command to go on" in output
    assert saved(folder) == steps_logged(folder) >= 2
    process = start(args)
    process.stdout.close()
    assert process.wait(timeout=TIMEOUT) == 0
    assert (folder / "summary.json").exists()
    assert "| climb" in finish(args)


@pytest.fixture
def handlers():
    """What this process does about signals is put back afterwards."""
    before = {kind: signal.getsignal(kind) for kind in KINDS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_hears_every_kind_and_forgets_none(handlers, kind, capfd):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with Stop() as stop:
        assert not stop.seen()
        for _ in range(3):
            os.kill(os.getpid(), kind)
        assert stop.seen()
        with pytest.raises(Interrupted, match="stopped here"):
            stop.check("here")
        with pytest.raises(Interrupted, match="stopped there"):
            list(stop.among([1, 2], "there"))
    assert capfd.readouterr().err == "stopping as soon as everything is saved\n"


def test_nohup_is_left_alone(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.end_at_once()
    signals.interrupt()
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.asked
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_stop_gives_back_what_it_took(handlers):
    """A notebook that was interrupted can be again; a program of ours is leaving."""
    own = lambda *_: None
    for mine, then in ((own, own), (signals.interrupted, signal.SIG_IGN)):
        signal.signal(signal.SIGTERM, mine)
        with Stop():
            pass
        assert signal.getsignal(signal.SIGTERM) == mine
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked and signal.getsignal(signal.SIGTERM) == then


def test_only_a_program_of_ours_has_its_handlers_changed(handlers):
    own = lambda *_: None
    signal.signal(signal.SIGTERM, own)
    signals.interrupt()
    assert signal.getsignal(signal.SIGTERM) == own
    signals.end_at_once()
    signals.interrupt()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # heard once, it is on its way out
