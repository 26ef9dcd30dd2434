"""How a program ends: nobody may read it any more, and threads may hang."""

import errno
import io
import os
import subprocess
import sys

import pytest
from processes import ROOT

from ocssl_jax.unread import Unread

MANY = """
import sys
from ocssl_jax.commandline import program
def main():
    for i in range(5000):
        print("words", i)
        print("words", i, file=sys.stderr)
    open(sys.argv[1], "w").close()
program(main)
"""
HANGING = """
import sys, threading
from ocssl_jax.commandline import fail, leave, program
def main():
    threading.Thread(target=threading.Event().wait).start()
    leave(1, "it", "the disk failed")
program(main)
"""


def test_a_program_outlives_its_readers(tmp_path):
    args = [sys.executable, "-c", MANY, str(tmp_path / "done")]
    process = subprocess.Popen(
        args, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").exists()


def test_a_failure_waits_for_no_thread():
    args = [sys.executable, "-c", HANGING]
    ended = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert (ended.stdout, ended.stderr) == ("", "it: the disk failed\n")


def test_names_that_are_no_text_are_escaped():
    code = (
        "from ocssl_jax.commandline import program\n"
        "program(lambda: print('\\udcff \\xb1'))"
    )
    args = [sys.executable, "-c", code]
    for encoding, said in (("utf-8", "\\udcff \xb1\n"), ("ascii", "\\udcff \\xb1\n")):
        env = os.environ | {"PYTHONIOENCODING": encoding}
        ended = subprocess.run(args, cwd=ROOT, capture_output=True, env=env, timeout=60)
        assert (ended.returncode, ended.stdout.decode()) == (0, said), ended.stderr


class Full(io.StringIO):
    """A file on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_below_the_words_is_told():
    stream = Unread(Full())
    assert stream.write("words") == 5 and stream.getvalue() == "words"
    with pytest.raises(OSError, match="No space left"):
        stream.flush()
