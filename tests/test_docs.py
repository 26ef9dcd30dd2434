"""The documentation: its site builds, its code runs, what its commands name exists."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import commandline
from launch import in_order
from ocssl_jax import settings
from ocssl_jax.commandline import configured
from ocssl_jax.methods import METHODS
from ocssl_jax.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the blocks call beside Python; none of it is run.
STUBS = ("python", "python3", "pip", "pre-commit", "srun", "gcloud", "sphinx-build")
STUB = """#!/bin/bash
printf '%s\\0' "$(basename "$0")" "$@" >> "$CALLS"
echo >> "$CALLS"
"""


def blocks(language):
    """Pages that have blocks of a language, each with all of them."""
    found = {
        str(page.relative_to(ROOT)): [b for kind, b in texts if kind == language]
        for page in PAGES
        for texts in [BLOCK.findall(page.read_text())]
    }
    return [pytest.param(texts, id=page) for page, texts in found.items() if texts]


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    html = (tmp_path / "site/strategies/climb.html").read_text()
    assert "each stream image meets the memory" in html  # of the module's docstring
    assert "--config.strategy.climb.ema_parts" in html
    assert "{{" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    fetched = re.findall(
        r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]*)"', html
    )
    assert fetched == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_on_a_page(name):
    pages = {p.stem: p.read_text() for p in ROOT.glob("docs/strategies/*.md")}
    assert any(f"{{{{ settings strategy {name} }}}}" in text for text in pages.values())
    assert f"`{name}`" in pages["index"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_on_the_page_of_methods(name):
    assert f"{{{{ settings method {name} }}}}" in (ROOT / "docs/methods.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("found", blocks("python"))
def test_python_blocks_run(found, tmp_path):
    """In a process of their own, since they compute more than other tests do."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(found)],
        cwd=tmp_path,  # some of them write
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("found", blocks("bash"))
def test_shell_blocks_call_what_there_is(found, tmp_path):
    """Each block goes through bash; launch.py's arguments must make a config."""
    for call in called("\n".join(found), tmp_path):
        if call[0] not in ("python", "python3"):
            continue
        program, *arguments = call[1:]
        if program == "launch.py":
            of_config = [a for a in in_order(call[1:]) if a.startswith("--config")]
            config, overrides = configured(of_config)
            settings.resolve(config, overrides)
        elif program == "-m" and arguments[0] not in ("pytest", "venv"):
            text = importlib.import_module(module_of(arguments[0])).__doc__
            if arguments[0].startswith("benchmarks."):
                text += commandline.parser.__doc__  # of what they share
            flags = {a.partition("=")[0] for a in arguments if a.startswith("--")}
            for flag in flags - {"--config.seeds"}:
                assert flag in text, f"{flag} of {arguments[0]}"


def module_of(name):
    """The module that `python -m name` runs."""
    package = (ROOT / Path(*name.split("."))).is_dir()
    return f"{name}.__main__" if package else name


def called(script, folder):
    """What `script` calls, as lists of arguments, nothing of it being run."""
    for name in STUBS:
        for place in (folder / "bin" / name, folder / ".venv/bin" / name):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(STUB)
            place.chmod(0o755)
    calls = folder / "calls"
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={"PATH": path, "CALLS": str(calls), "SHARED": "shared", "HOME": "home"},
        check=True,
        timeout=60,
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line.split("\0")[:-1] for line in lines]
