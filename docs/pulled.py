"""What pages of the site take from the source, so that it stands in one place.

A line of a page that is one of these is replaced when the site is built:

  {{ docstring ocssl_jax.strategies.climb }}   a module's docstring, as it is
  {{ config split_cifar100 }}                  the same of a config, folded up
  {{ settings strategy climb }}                fields a factory reads, with defaults
  {{ measured "Small CIFAR-100" | climb | er }}   rows of a table in RESULTS.md
  {{ file RESULTS.md }}                        a whole file of the project

and links out of docs/ lead to the page that holds the file, or are plain text.
"""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOLDERS = {  # files of the project that are pages, or parts of one
    "RESULTS.md": "results.md",
    "README.md": "index.md",
    "CONTRIBUTING.md": "guides/own_strategy.md",
}
CALL = re.compile(r"^\{\{ (\w+) (.*?) \}\}$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(((?!https?:|#)[^)#\s]+)(#[^)\s]*)?\)")


def read(page: str, text: list[str]) -> None:
    """Pull into `text`, the one string of a page, `guides/resume` say; Sphinx calls."""
    whole = CALL.sub(lambda call: PULL[call[1]](call[2]), text[0])
    text[0] = LINK.sub(lambda link: _link(link, page), whole)


def docstring(module: str) -> str:
    """The docstring of `a.b.c`, read without importing it."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text()))
    if not text:
        raise ValueError(f"{path} has no docstring")
    return f"```text\n{text}\n```"


def config(name: str) -> str:
    """The docstring of configs/<name>.py, folded up."""
    text = docstring(f"configs.{name}")
    head = f"<details><summary><code>configs/{name}.py</code></summary>"
    return f"{head}\n\n{text}\n\n</details>"


def settings(words: str) -> str:
    """Fields of the config that the factory `group name` reads, with their defaults."""
    from configs import default
    from ocssl_jax.methods import METHODS
    from ocssl_jax.strategies import STRATEGIES

    group, name = words.split()
    factory = {"strategy": STRATEGIES, "method": METHODS}[group][name]
    shared = default.get_config()[group]
    own = shared.get(name, {})
    lines = []
    for field, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if field in own:
            lines += _flags(f"{group}.{name}.{field}", own[field])
        elif field in shared:
            lines += _flags(f"{group}.{field}", shared[field])
    return "```text\n" + "\n".join(lines or ["none"]) + "\n```"


def _flags(field: str, value: object) -> list[str]:
    if hasattr(value, "items"):
        return [line for k, v in value.items() for line in _flags(f"{field}.{k}", v)]
    return [f"--config.{field}={value}"]


def measured(words: str) -> str:
    """Rows, by their first cell, of the tables under a heading of RESULTS.md."""
    title, *names = (part.strip().strip('"') for part in words.split("|"))
    parts = re.split(r"^## ", (ROOT / "RESULTS.md").read_text(), flags=re.MULTILINE)
    [section] = [part for part in parts if part.startswith(title)]
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE):
        head, rule, *rows = table.splitlines()
        kept = [row for row in rows if row.split("|")[1].strip() in names]
        found += ["\n".join([head, rule, *kept])] if kept else []
    if not found:
        raise ValueError(f"RESULTS.md has no row {names} under {title!r}")
    return "\n\n".join(found)


def file(name: str) -> str:
    """A file of the project without its first heading's mark, as a page."""
    return (ROOT / name).read_text()


def _link(link: re.Match, page: str) -> str:
    """The link, relative to the page, or its words where no page holds its target."""
    words, target, anchor = link[1], link[2], link[3] or ""
    docs, up = ROOT / "docs", "../" * page.count("/")
    pulled = (ROOT / target).resolve()  # of a file that was pulled in from the root
    own = (docs / page).parent.joinpath(target).resolve()
    for place in (own, pulled):
        if not place.exists():
            continue
        if place.is_relative_to(docs) and place.is_file():
            return f"[{words}]({up}{place.relative_to(docs)}{anchor})"
        if place.is_relative_to(ROOT) and str(place.relative_to(ROOT)) in HOLDERS:
            holder = HOLDERS[str(place.relative_to(ROOT))]
            return f"[{words}]({up}{holder})"
        return words
    raise ValueError(f"{page} links to {target}, which does not exist")


PULL: dict[str, Callable[[str], str]] = {
    f.__name__: f for f in (docstring, config, settings, measured, file)
}
