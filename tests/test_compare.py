"""Runs side by side: what is pooled, what is refused, and that no number changes."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imread

from configs import default
from ocssl_jax import accuracy, dotted, metrics, settings
from ocssl_jax.accuracy import Record, hold
from ocssl_jax.report import runs
from ocssl_jax.report.__main__ import main
from ocssl_jax.report.compare import lines
from ocssl_jax.report.compare_picture import comparison_picture, courses

FOUR = ["FA", "CA", "CA_seen", "forgetting"]


def records(seeds, tasks, level, probe="linear"):
    """Accuracies that rise over the stream, with some noise of each seed."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, tasks])
        for j in range(tasks):
            noise = rng.normal(0, 2, tasks) + rng.normal(0, 2)
            values = level + 12 * (j / tasks) ** 0.5 + noise
            found += [Record(seed, probe, j, i, v) for i, v in enumerate(values)]
    return found


def fake_run(folder, *, seeds=(0, 1), tasks=4, level=30.0, finished=True, **fields):
    """Write the files of the contract, as a run with these results would."""
    config = default.get_config()
    config.seeds, config.stream.tasks = tuple(seeds), tasks
    for name, value in fields.items():
        dotted.put(config, name.replace("__", "."), value)
    folder.mkdir(parents=True)
    written = {"config": settings.as_json(config), "overrides": {}}
    (folder / "config.json").write_text(json.dumps(written))
    rows = records(seeds, tasks, level)
    if not finished:
        rows = [r for r in rows if r.after_experience < tasks // 2]
    accuracy.write(folder / "accuracy.csv", rows)
    sizes = [10 * (1 + i % 3) for i in range(tasks)]
    if finished:
        flat = hold(records(seeds, 1, level), experiences=tasks)
        whole = [r._replace(task=i) for r in flat for i in range(tasks)]
        write_random(folder, whole)
        summary = {
            "strategy": config.strategy.name,
            "seeds": list(seeds),
            "probe": "linear",
            "test_sizes": sizes,
            "metrics": metrics.summarise(rows, probe="linear", sizes=sizes),
            "baselines": {
                "random": metrics.summarise(whole, probe="linear", sizes=sizes)
            },
            "time": {"total_s": 100.0 + 50 * len(seeds)},
        }
        summary["probes"] = {"linear": summary["metrics"]}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_random(folder, rows):
    accuracy.write(folder / "baselines" / "random" / "accuracy.csv", rows)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())["metrics"]


@pytest.fixture
def compare(capsys):
    """Calls the command; what it prints, or the one line of a refusal."""

    def call(*args, code=0):
        try:
            main([str(arg) for arg in args])
            ended = 0
        except SystemExit as left:
            ended = left.code
        said = capsys.readouterr()
        assert ended == code, said
        if code:
            (line,) = said.err.splitlines()
            return line
        return said.out

    return call


def parsed(text, which=-1):
    """The Markdown tables of a text: dicts by heading; `which` one."""
    blocks = re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE)
    cells = lambda line: [c.strip() for c in line.strip().strip("|").split("|")]
    head, _, *body = blocks[which].strip().splitlines()
    return [dict(zip(cells(head), cells(line), strict=True)) for line in body]


def test_a_run_is_quoted_from_its_summary(compare, tmp_path):
    folder = fake_run(tmp_path / "er", strategy__name="er")
    text = compare(folder)
    assert text.startswith("**cifar100, 4 tasks**")
    (row,) = parsed(text)
    assert row["strategy"] == "er"
    assert row["seeds"] == "2" and row["time (s)"] == "200"
    for name, value in summary_of(folder).items():
        if name in FOUR:
            assert row[name] == f"{value['mean']:.2f} ± {value['std']:.2f}"


def test_runs_that_differ_in_seeds_alone_are_one_line(compare, tmp_path):
    a = fake_run(tmp_path / "a", seeds=(0, 1))
    b = fake_run(tmp_path / "b", seeds=(5,), log__every=3, baselines=("random",))
    c = fake_run(tmp_path / "c", seeds=(2,), passes=4)
    out = tmp_path / "out"
    compare(a, b, c, "--out", out)
    pooled, alone = csv.DictReader((out / "report.csv").read_text().splitlines())
    assert pooled["seeds"] == "0 1 5" and pooled["runs"] == "2"
    for name in FOUR:
        values = [v for f in (a, b) for v in summary_of(f)[name]["per_seed"]]
        assert float(pooled[f"{name}_mean"]) == pytest.approx(np.mean(values))
        assert float(pooled[f"{name}_std"]) == pytest.approx(np.std(values, ddof=1))
        assert float(alone[f"{name}_mean"]) == summary_of(c)[name]["mean"]
        assert alone[f"{name}_std"] == ""  # one seed has no spread
    assert float(pooled["time_s"]) == (200 + 150) / 2
    assert (pooled["label"], alone["label"]) == ("climb (passes=3)", "climb (passes=4)")


def test_a_seed_that_is_there_twice_is_refused(compare, tmp_path):
    a = fake_run(tmp_path / "a", seeds=(0, 1))
    b = fake_run(tmp_path / "b", seeds=(1, 2))
    line = compare(a, b, code=2)
    assert "seed 1 of climb" in line and str(a) in line and str(b) in line
    assert len(parsed(compare(a, a, tmp_path / "b" / ".." / "a"))) == 1


def test_several_numbers_of_tasks_make_the_papers_table(compare, tmp_path):
    folders = {
        (strategy, tasks): fake_run(
            tmp_path / f"{strategy}{tasks}",
            strategy__name=strategy,
            tasks=tasks,
            # Tuned for each number of tasks: still one row a strategy.
            optimizer__learning_rate=0.3 if tasks == 4 else 0.1,
        )
        for strategy, tasks in (("climb", 4), ("climb", 10), ("none", 10))
    }
    text = compare(*folders.values())
    rows = parsed(text, 0)
    assert list(rows[0]) == ["strategy", "CA4", "FA4", "CA10", "FA10"]
    assert [row["strategy"] for row in rows] == ["climb", "no strategy"]
    value = summary_of(folders["climb", 10])["FA"]
    assert rows[0]["FA10"] == f"{value['mean']:.2f} ± {value['std']:.2f}"
    assert rows[1]["CA4"] == "-"
    assert [len(parsed(text, i)) for i in (1, 2)] == [1, 2]  # all of 4, all of 10
    other = parsed(compare(*folders.values(), "--metrics", "forgetting"), 0)
    assert list(other[0]) == ["strategy", "forgetting4", "forgetting10"]


def test_the_papers_table_tells_who_has_fewer_seeds(compare, tmp_path):
    def papers(name, *seeds):
        return [
            fake_run(
                tmp_path / f"{name}{tasks}",
                seeds=own,
                tasks=tasks,
                strategy__name=name,
            )
            for tasks, own in zip((4, 10), seeds, strict=True)
        ]

    same = [*papers("climb", (0, 1), (0, 1)), *papers("none", (0, 1), (0, 1))]
    assert "seeds" not in parsed(compare(*same), 0)[0]
    few = papers("er", (0,), (0, 1))
    rows = parsed(compare(*same, *few), 0)
    assert [row["seeds"] for row in rows] == ["2", "2", "1, 2"]


def test_a_strategy_run_with_several_settings_has_a_row_each(compare, tmp_path):
    folders = [
        fake_run(
            tmp_path / f"{rate}-{tasks}", tasks=tasks, optimizer__learning_rate=rate
        )
        for rate, tasks in ((0.1, 4), (0.3, 4), (0.1, 10))
    ]
    rows = parsed(compare(*folders), 0)
    assert [row["strategy"] for row in rows] == [
        "climb (learning_rate=0.1)",
        "climb (learning_rate=0.3)",
    ]
    assert rows[0]["FA10"] != "-" and rows[1]["FA10"] == "-"


def test_each_data_set_and_kind_of_stream_has_its_own_table(compare, tmp_path):
    folders = [
        fake_run(tmp_path / f"{kind}{tasks}", tasks=tasks, stream__kind=kind)
        for kind in ("class", "irregular")
        for tasks in (4, 10)
    ]
    text = compare(*folders)
    titles = re.findall(r"^\*\*(.*)\*\*$", text, flags=re.MULTILINE)
    assert titles == [
        "cifar100",
        "cifar100, irregular",
        "cifar100, 4 tasks",
        "cifar100, 10 tasks",
        "cifar100, irregular, 4 tasks",
        "cifar100, irregular, 10 tasks",
    ]


def test_labels_name_the_method_where_there_are_several(tmp_path):
    a = fake_run(tmp_path / "a")
    b = fake_run(tmp_path / "b", method__name="byol")
    found = lines(runs.find([a, b]), "linear")
    assert [row.label for row in found] == ["climb · simclr", "climb · byol"]


def test_labels_that_would_say_too_much_name_the_folder(tmp_path):
    a = fake_run(tmp_path / "a")
    more = {f"optimizer__{k}": 0.5 for k in ("learning_rate", "momentum", "divisor")}
    b = fake_run(tmp_path / "b", **more, passes=1, precision="bfloat16")
    found = lines(runs.find([a, b]), "linear")
    assert [row.label for row in found] == [f"climb ({a})", f"climb ({b})"]


def test_unfinished_runs_are_marked_and_kept_apart(compare, tmp_path):
    done = fake_run(tmp_path / "done", seeds=(0,))
    part = fake_run(tmp_path / "part", seeds=(1,), finished=False)
    fresh = fake_run(tmp_path / "fresh", seeds=(2,), finished=False, passes=1)
    (fresh / "accuracy.csv").unlink()
    other = fake_run(tmp_path / "other", seeds=(0,), tasks=10)
    text = compare(done, part, fresh, other)
    rows = parsed(text, 1)
    assert [row["strategy"] for row in rows] == [
        "climb (passes=3)",
        "climb (passes=3), unfinished: 2 experiences probed",
        "climb (passes=1), unfinished: 0 experiences probed",
    ]
    measured = [r.accuracy for r in records((1,), 4, 30.0) if r.after_experience == 1]
    assert float(rows[1]["FA"]) == pytest.approx(np.mean(measured), abs=0.006)
    assert rows[2]["FA"] == "-" and "tasks weighed alike" in text
    assert len(parsed(text, 0)) == 1  # the papers' layout has finished runs only


def test_a_run_that_broke_down_says_why_in_one_line(compare, tmp_path):
    why = "loss_ssl is nan at stream batch 7, seed 0; the last good checkpoint is 5."
    going = fake_run(tmp_path / "going", finished=False, seeds=(1,))
    broken = fake_run(tmp_path / "broken", finished=False, seeds=(0,))
    (broken / "failed.json").write_text(json.dumps({"reason": why}))
    text = compare(going, broken, "--out", tmp_path / "out")
    assert [row["strategy"] for row in parsed(text)] == [
        "climb, unfinished: 2 experiences probed",
        "climb, broke down: 2 experiences probed",
    ]
    (line,) = [line for line in text.splitlines() if why in line]
    assert line == f"{broken} broke down: {why}"
    assert line in (tmp_path / "out" / "index.html").read_text()
    done = fake_run(tmp_path / "done", seeds=(0,))  # whatever lay there before
    (done / "failed.json").write_text(json.dumps({"reason": why}))
    assert why not in compare(done)


def test_the_probe_that_stands_for_a_run_is_shown(compare, tmp_path):
    asked = {"probe__names": ("linear",), "probe__scopes": ("separate", "joint")}
    done = fake_run(tmp_path / "done", **asked)
    part = fake_run(tmp_path / "part", finished=False, seeds=(5,), **asked)
    for folder, seeds in ((done, (0, 1)), (part, (5,))):
        other = records(seeds, 4, 80.0, probe="linear-separate")
        accuracy.write(
            folder / "accuracy.csv", other + accuracy.read(folder / "accuracy.csv")
        )
    for folders in ([done], [part, done]):
        text = compare(*folders)
        assert "Percent, linear probe" in text
        assert float(parsed(text)[0]["FA"].split()[0]) < 60
    assert "Percent, linear-separate probe" in compare(
        part, "--probe", "linear-separate"
    )


@pytest.mark.parametrize(
    ("fields", "label", "defined"),
    [
        ({"probe__scopes": ("upto",)}, "linear-upto", {"CA_seen"}),
        ({"probe__dataset": "mnist"}, "linear", {"CA", "FA"}),
        ({"probe__scopes": ("separate",)}, "linear-separate", set(FOUR)),
    ],
)
def test_an_unfinished_run_has_the_metrics_that_its_scope_defines(
    compare, tmp_path, fields, label, defined
):
    """Half of four tasks, of which scope `upto` has met two."""
    folder = fake_run(tmp_path / "run", finished=False, seeds=(0,), **fields)
    rows = [
        r._replace(probe=label)
        for r in accuracy.read(folder / "accuracy.csv")
        if (r.task <= r.after_experience or "upto" not in label)
        and not (r.task and "probe__dataset" in fields)
    ]
    accuracy.write(folder / "accuracy.csv", rows)
    (row,) = parsed(compare(folder))
    assert {name for name in FOUR if row[name] != "-"} == defined


def test_a_sweep_stands_for_its_points_and_baselines_are_runs(compare, tmp_path):
    sweep = tmp_path / "sweep"
    names = ["learning_rate=0.3", "learning_rate=0.1", "learning_rate=1"]
    for name in names[:2]:
        rate = float(name.split("=")[1])
        fake_run(sweep / name, optimizer__learning_rate=rate)
    points = [{"folder": name} for name in names]
    (sweep / "sweep.json").write_text(json.dumps({"points": points}))
    none = fake_run(sweep / names[0] / "baselines" / "none", strategy__name="none")
    random = sweep / names[0] / "baselines" / "random"
    rows = parsed(compare(sweep, none, random))
    assert [row["strategy"] for row in rows] == [
        "climb (learning_rate=0.3)",
        "climb (learning_rate=0.1)",
        "no strategy",
        "random encoder",
    ]
    own = json.loads((sweep / names[0] / "summary.json").read_text())
    value = own["baselines"]["random"]["FA"]
    assert rows[3]["FA"] == f"{value['mean']:.2f} ± {value['std']:.2f}"


def test_runs_of_older_versions_are_read(compare, tmp_path):
    """Fewer fields in the config, no probes or test sizes in the summary."""
    old, new = fake_run(tmp_path / "old"), fake_run(tmp_path / "new", seeds=(7,))
    written = json.loads((old / "config.json").read_text())
    del written["config"]["strategy"]["climb"], written["config"]["precision"]
    (old / "config.json").write_text(json.dumps(written))
    kept = json.loads((old / "summary.json").read_text())
    kept = {key: kept[key] for key in ("strategy", "seeds", "metrics")}
    (old / "summary.json").write_text(json.dumps(kept))
    rows = parsed(compare(old, new, "--out", tmp_path / "out"))
    # Results of two versions are never pooled unless their configs are the same.
    assert len(rows) == 2 and rows[0]["time (s)"] == "-"
    value = kept["metrics"]["FA"]
    assert rows[0]["FA"] == f"{value['mean']:.2f} ± {value['std']:.2f}"


def test_runs_on_other_images_are_other_runs(compare, tmp_path):
    """The config is the same but for the folder, which alone does not part runs."""
    dirs = ("x", "x", "y", "x")
    folders = [
        fake_run(tmp_path / str(i), seeds=(i,), stream__data_dir=where)
        for i, where in enumerate(dirs)
    ]
    for folder, data in zip(folders, ("one", "one", "two", "three"), strict=True):
        rewrite(folder / "config.json", data=data)
    rows = parsed(compare(*folders[:3]))
    assert [(row["strategy"], row["seeds"]) for row in rows] == [
        ("climb (data_dir=x)", "2"),
        ("climb (data_dir=y)", "1"),
    ]
    # One of an older version says nothing of its images.
    old = fake_run(tmp_path / "old", seeds=(7,), stream__data_dir="z")
    assert [row["seeds"] for row in parsed(compare(old, folders[0]))] == ["2"]
    rows = parsed(compare(*folders))  # the pictures in x have changed
    assert [row["strategy"] for row in rows] == [
        f"climb ({folder})" for folder in (folders[0], *folders[2:])
    ]


def test_a_run_probed_on_another_data_set_says_so(compare, tmp_path):
    folders = [
        fake_run(tmp_path / f"{name}{rate}", probe__dataset=name, passes=rate)
        for name, rate in (("", 1), ("mnist", 1), ("mnist", 2))
    ]
    rows = parsed(compare(*folders))
    assert [row["strategy"] for row in rows] == [
        "climb",
        "climb, probed on mnist (passes=1)",
        "climb, probed on mnist (passes=2)",
    ]
    assert parsed(compare(folders[1]))[0]["strategy"] == "climb, probed on mnist"


def test_what_is_no_run_is_left_out_of_several(tmp_path, capsys):
    run = fake_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    main([str(path) for path in sorted(tmp_path.iterdir())])
    said = capsys.readouterr()
    assert len(parsed(said.out)) == 1
    assert said.err.splitlines() == [
        f"ocssl_jax.report: {tmp_path / name} is no run, left out"
        for name in ("empty", "notes.txt")
    ]
    with pytest.raises(SystemExit):
        main([str(run), str(tmp_path / "mispelt")])
    assert "mispelt is no folder of a run" in capsys.readouterr().err


def test_a_finished_run_without_its_accuracies_is_quoted(compare, tmp_path):
    folder = fake_run(tmp_path / "run")
    (folder / "accuracy.csv").unlink()
    text = compare(folder, "--out", tmp_path / "out")
    value = summary_of(folder)["FA"]["mean"]
    assert float(parsed(text)[0]["FA"].split()[0]) == pytest.approx(value, abs=0.006)
    assert "Percent, linear probe" in text and "Not judged" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", '{"metrics": null}'),
        ("summary.json", '{"metrics": {"FA": {"per_seed": 3}}}'),
        ("summary.json", '{"metrics": {}, "probes": []}'),
        ("config.json", '{"config": {}}'),
        ("sweep.json", '{"points": [{}]}'),
        ("accuracy.csv", "seed,probe,after_experience,task,accuracy\n0,linear,0,4,9\n"),
        (
            "accuracy.csv",
            "seed,probe,after_experience,task,accuracy\n0,linear,-1,0,9\n",
        ),
    ],
)
def test_a_damaged_file_is_named(compare, tmp_path, name, text):
    folder = fake_run(tmp_path / "run")
    (folder / name).write_text(text)
    assert f"{folder / name} is damaged" in compare(folder, code=2)


def test_a_run_that_was_not_probed_is_named(compare, tmp_path):
    a = fake_run(tmp_path / "a")
    b = fake_run(tmp_path / "b", strategy__name="er")
    (b / "accuracy.csv").unlink()
    summary = json.loads((b / "summary.json").read_text()) | {"metrics": {}}
    del summary["probes"], summary["probe"]
    (b / "summary.json").write_text(json.dumps(summary))
    text = compare(a, b, "--out", tmp_path / "out")
    assert parsed(text)[1]["FA"] == "-"
    assert "Not judged by the linear probe: er." in text
    text = compare(b)
    assert parsed(text)[0]["CA"] == "-" and "Not judged by any probe: er." in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], "nowhere is no folder of a run"),
        (["."], "holds no config.json; did you mean"),
        (["empty"], "empty is no run: it holds no config.json"),
        (["run", "--probe", "knn"], "--probe must be one of linear, got 'knn'"),
        (["run", "--metrics", "CA,XX"], "FA, CA, CA_seen, forgetting"),
        (["run", "--out", "/proc/nowhere"], "/proc/nowhere cannot be written to"),
        (["run", "--outt", "x"], "--outt"),
        (["damaged"], "config.json is damaged"),
        ([], "workdir"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_wrong_input_gets_one_line(compare, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "run")
    for name in ("empty", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    assert words in compare(*args, code=2)


def test_the_same_call_may_be_repeated_over_what_it_wrote(compare, tmp_path):
    fake_run(tmp_path / "a")
    out = tmp_path / "compared"
    compare(*tmp_path.iterdir(), "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    compare(*sorted(tmp_path.iterdir()), "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(before) == [
        "cifar100-class-4.png",
        "index.html",
        "report.csv",
        "report.md",
    ]


@pytest.mark.parametrize(
    "out", ["a", "a/report", "a/baselines/random/new", "link/report", "sweep"]
)
def test_no_file_of_a_run_is_written_over(compare, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    report = fake_run(tmp_path / "a") / "report" / "index.html"
    report.parent.mkdir()
    report.write_text("its own")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text('{"points": []}')
    before = sorted(tmp_path.rglob("*"))
    line = compare("a", "--out", out, code=2)
    assert f"--out {out} lies in the folder of a run; choose another" in line
    assert report.read_text() == "its own" and sorted(tmp_path.rglob("*")) == before


def test_a_config_json_of_another_program_keeps_no_report_away(compare, tmp_path):
    (tmp_path / "config.json").write_text('{"theme": "dark"}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    out = tmp_path / "damaged" / "out"
    compare(fake_run(tmp_path / "runs" / "a"), "--out", out)
    assert (out / "index.html").exists()


def test_a_run_whose_name_is_no_text_is_compared(compare, tmp_path):
    folder = fake_run(tmp_path / os.fsdecode(b"er\xff"))
    out = tmp_path / "out"
    compare(folder, "--out", out)
    assert r"er\udcff" in (out / "report.csv").read_text()
    assert r"er\udcff" in (out / "index.html").read_text()


@pytest.fixture
def page(compare, tmp_path):
    a = fake_run(tmp_path / "a")
    b = fake_run(tmp_path / "b", level=20.0, strategy__name="<er>", tasks=10)
    text = compare(a, b, "--out", tmp_path / "out")
    return text, tmp_path / "out", [a, b]


def test_the_page_holds_the_tables_and_all_it_needs(page):
    text, out, folders = page
    html = (out / "index.html").read_text()
    shown = [re.findall(r"<td>(.*?)</td>", row) for row in html.split("<tr")]
    for row in (*parsed(text, 0), *parsed(text, 1)):
        cells = [c.replace("<", "&lt;").replace(">", "&gt;") for c in row.values()]
        assert cells in shown
    assert (out / "report.md").read_text().strip() in text
    prose = re.sub(r"base64,[^\"]+", "", html)
    assert not re.search(r"https?:|//|<link|<script|@import|url\(|<er>", prose)
    assert html.count("data:image/png;base64,") == 2
    for path in out.glob("*.png"):
        height, width, _ = imread(path).shape
        assert 300 < height < 1500 and 600 < width < 2000
    assert all(str(folder) in html for folder in folders)


def test_the_page_leads_to_the_reports_and_says_where_the_time_went(compare, tmp_path):
    a = fake_run(tmp_path / "runs" / "a #1")
    b = fake_run(tmp_path / "b", strategy__name="er")
    (a / "report").mkdir()
    (a / "report" / "index.html").write_text("of its own")
    times = {"train_s": 61.4, "probe_s": 1234.0, "total_s": 1300.0}
    rewrite(a / "summary.json", time=times)
    compare(a, b, "--out", tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text()
    (link,) = re.findall(r'<a href="(.*?)">', html)
    assert link == "../runs/a%20%231/report/index.html"
    assert (tmp_path / "out" / unquote(link)).read_text() == "of its own"
    cells = [re.findall(r"<td>(.*?)</td>", row)[-4:] for row in html.split("<tr")]
    assert ["61", "1,234", "-", "1,300"] in cells and ["-", "-", "-", "200"] in cells


def test_the_csv_parses_back_to_the_summaries(page):
    _, out, folders = page
    rows = list(csv.DictReader((out / "report.csv").read_text().splitlines()))
    for row, folder in zip(rows, folders, strict=True):
        for name in FOUR:
            value = summary_of(folder)[name]
            assert float(row[f"{name}_mean"]) == pytest.approx(value["mean"], rel=1e-12)
            assert float(row[f"{name}_std"]) == pytest.approx(value["std"], rel=1e-12)
        assert row["finished"] == "true" and row["folders"] == str(folder)
    assert [row["tasks"] for row in rows] == ["4", "10"]


def test_curves_are_the_joint_accuracies_of_all_seeds(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    a = fake_run(tmp_path / "a", seeds=(0, 1))
    b = fake_run(tmp_path / "b", seeds=(2,))
    (row,) = lines(runs.find([a, b]), "linear")
    sizes = [10, 20, 30, 10]
    table = {
        (r.seed, r.after_experience, r.task): r.accuracy
        for r in records((0, 1, 2), 4, 30.0)
    }
    expected = [
        [
            np.average([table[s, j, i] for i in range(4)], weights=sizes)
            for j in range(4)
        ]
        for s in (0, 1, 2)
    ]
    np.testing.assert_allclose(courses(row, "linear"), expected)
    caught = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: caught.append(self))
    comparison_picture(tmp_path / "x", rows=[row], probe="linear")
    (line,) = caught[0].axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), np.mean(expected, axis=0))
    band = caught[0].axes[0].collections[0].get_paths()[0].vertices[:, 1]
    top = np.mean(expected, axis=0) + np.std(expected, axis=0, ddof=1)
    assert band.max() == pytest.approx(top.max())


def test_help_is_answered_without_jax():
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        "try: runpy.run_module(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as left: print('CODE', left.code, 'jax' in sys.modules)"
    )
    for module in ("ocssl_jax.report", "ocssl_jax.sweep"):
        result = subprocess.run(
            [sys.executable, "-c", code.replace("sys.argv[0]", repr(module))],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert "CODE 0 False" in result.stdout, result.stderr
        assert f"python -m {module}" in result.stdout


def test_runs_of_clip_are_called_by_their_objective(tmp_path):
    clip = {"method__name": "clip", "strategy__name": "none"}
    given = {
        "gcl": {"method__clip__objective": "gcl", "stream__memory": 100},
        "more": {"method__clip__objective": "gcl", "stream__memory": 400},
        "gdro": {"method__clip__objective": "gdro"},
        "ewc": {"strategy__name": "ewc"},
        "zero": {"stream__known": 4},
    }
    found = [
        runs.read(fake_run(tmp_path / name, **(clip | fields)))
        for name, fields in given.items()
    ]
    labels = [line.label for line in lines(found, "linear")]
    assert labels == [
        "GCL (memory=100)",
        "GCL (memory=400)",
        "group DRO",
        "ewc",
        "zero-shot",
    ]
