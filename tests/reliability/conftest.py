"""What the tests of signals ask of the place that they are started from."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def heard():
    """No signal is ignored: a shell's background has that for SIGINT, nohup for SIGHUP,
    and programs that are started here would go on ignoring it."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    deaf = [kind for kind in usual if signal.getsignal(kind) == signal.SIG_IGN]
    for kind in deaf:
        signal.signal(kind, usual[kind])
    yield
    for kind in deaf:
        signal.signal(kind, signal.SIG_IGN)
