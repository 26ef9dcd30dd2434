"""The report: numbers in words equal the inputs, pictures hold what they claim."""

import base64
import re

import numpy as np
import pytest
from matplotlib.image import imread

from ocssl_jax import metrics
from ocssl_jax.accuracy import Record, hold
from ocssl_jax.report import (
    Group,
    Sheet,
    flat_sheet,
    grouped_sheet,
    held,
    losses,
    memory,
    pictures,
    table,
    write_report,
)
from ocssl_jax.report.features import Seen
from ocssl_jax.report.timing import timing

SIZES = [5, 10, 15]
PICTURES = tuple(
    f"{name}.png"
    for name in (
        *("accuracy", "matrix", "forgetting", "losses", "memory"),
        *("map", "neighbours", "held"),
    )
)


def records(seed, probe, shift=0.0):
    rng = np.random.default_rng(seed)
    return [
        Record(seed, probe, j, i, float(rng.uniform(20, 60)) + shift)
        for j in range(3)
        for i in range(3)
    ]


def history(n=12):
    return [
        {
            "step": i + 1,
            "experience": 3 * i // n,
            "loss": 2.0 + 1 / (i + 1),
            "loss_align": 0.5,
            "learning_rate": 0.1,
            "memory_images": 10.0 * i,
            "threshold": None if i == 0 else 0.2,
            "novelty": 0.1,
            "note": "no number",
            "per_seed": {"loss": [2.0, 2.0 + 2 / (i + 1)]},
        }
        for i in range(n)
    ]


def clusters(n=24, classes=3):
    """Test images of so many classes, each near a corner of its own."""
    rng = np.random.default_rng(1)
    label = np.arange(n) % classes
    feature = 0.1 * rng.normal(size=(n, classes + 2)).astype(np.float32)
    feature[np.arange(n), label] += 1
    image = np.broadcast_to(label[:, None, None, None], (n, 8, 8, 1)).astype(np.uint8)
    return Seen(image, feature, label, label // 2, [f"class {i}" for i in range(9)])


def inputs(**changes):
    own = [*records(0, "linear"), *records(1, "linear"), *records(0, "knn")]
    baselines = {"random": hold(records(2, "linear", -15)[:3], experiences=3)}
    numbers = lambda rows: metrics.summarise(rows, probe="linear", sizes=SIZES)
    summary = {
        "strategy": "climb",
        "method": "simclr",
        "dataset": "<b>pets & co</b>",
        "seeds": [0, 1],
        "fidelity": "paper",
        "probe": "linear",
        "probes": {"knn": metrics.summarise(own, probe="knn", sizes=SIZES)},
        "test_sizes": SIZES,
        "metrics": numbers(own),
        "baselines": {name: numbers(rows) for name, rows in baselines.items()},
        "time": {"train_s": 1834.5},
        "throughput": {"stream_images_per_s": 24.5},
        "steps": 4500,
    }
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)
    return {
        "summary": summary,
        "accuracy": own,
        "history": history(),
        "baselines_accuracy": baselines,
        "sheet": flat_sheet(images, name="reservoir", capacity=10),
        "seen": clusters(),
        "config": {"stream": {"dataset": "</pre><script>alert(1)</script>"}},
    } | changes


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    index = write_report(tmp_path_factory.mktemp("run") / "report", **inputs())
    return index.parent, index.read_text(encoding="utf-8")


def test_the_folder_holds_its_pictures_and_a_page(report):
    folder, _ = report
    assert sorted(p.name for p in folder.iterdir()) == sorted([*PICTURES, "index.html"])
    for name in PICTURES:
        height, width, _ = imread(folder / name).shape
        assert 150 < height < 4000 and 600 <= width < 3000, (name, width, height)


def test_the_page_embeds_the_very_pictures_and_refers_to_nothing_outside(report):
    folder, html = report
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    files = {(folder / name).read_bytes() for name in PICTURES}
    assert {base64.b64decode(text) for text in embedded} == files
    prose = re.sub(r"base64,[^\"]+", "", html)
    assert not re.search(r"https?:|//|<link|<script|@import|url\(", prose)


def test_the_page_shows_the_numbers_of_the_summary(report):
    _, html = report
    given = inputs()["summary"]
    rows = re.findall(r"<tr class.*?</tr>", html)
    shown = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    expected = {
        "climb": given["metrics"],
        "climb, knn probe": given["probes"]["knn"],
        "random encoder": given["baselines"]["random"],
    }
    assert [row[0] for row in shown] == list(expected)
    for name, *cells in shown:
        for metric, text in zip(metrics.METRICS, cells, strict=True):
            value = expected[name][metric]
            known = [value["mean"]] + (
                [value["std"]] if value["std"] is not None else []
            )
            assert [float(t) for t in text.split(" ± ")] == pytest.approx(
                known, abs=0.0051
            )
    cards = re.findall(r'<div class="card">.*?</div>', html)
    random = given["baselines"]["random"]
    for name, card in zip(metrics.METRICS, cards, strict=True):
        assert f"<em>random encoder</em> {random[name]['mean']:.2f}</p>" in card
    assert "1,834.5 s" in html and "24.5 images/s" in html and "4,500" in html


def test_the_page_escapes_what_it_is_given(report):
    _, html = report
    assert "&lt;b&gt;pets &amp; co&lt;/b&gt;" in html and "<b>pets" not in html
    assert "<script>" not in html


def test_the_same_input_gives_the_same_bytes(report, tmp_path):
    folder, html = report
    again = write_report(tmp_path, **inputs())
    assert again.read_text(encoding="utf-8") == html
    for name in PICTURES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_run_without_probes_logs_and_memory_is_reported_all_the_same(tmp_path):
    summary = {"strategy": "er", "metrics": {}, "baselines": {}}
    empty = {
        "accuracy": [],
        "history": [],
        "baselines_accuracy": {},
        "sheet": None,
        "seen": None,
    }
    index = write_report(tmp_path, **inputs(summary=summary, **empty))
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert "not probed" in index.read_text(encoding="utf-8")


def test_a_single_experience_and_a_run_with_gaps_can_be_drawn(tmp_path):
    one = [Record(0, "knn", 0, 0, 50.0)]
    gaps = [r for r in records(0, "linear") if r.after_experience != 1]
    for name, rows, sizes in (("one", one, [4]), ("gaps", gaps, SIZES)):
        folder, probe = tmp_path / name, rows[0].probe
        summary = {
            "test_sizes": sizes,
            "metrics": metrics.summarise(rows, probe=probe, sizes=sizes),
        }
        write_report(folder, **inputs(summary=summary, accuracy=rows))
        assert (folder / "matrix.png").stat().st_size > 1000


def drawn(monkeypatch, draw):
    """The axes of a picture, caught instead of written to a file."""
    caught = []
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: caught.append(self))
    draw()
    return caught[0].axes


def test_accuracy_lines_are_the_joint_and_the_seen_accuracy(monkeypatch, tmp_path):
    rows = [*records(0, "linear"), *records(1, "linear")]
    baselines = {"none": records(3, "linear"), "other": records(4, "knn")}
    (axes,) = drawn(
        monkeypatch,
        lambda: pictures.accuracy_picture(
            tmp_path / "x", records=rows, sizes=SIZES, baselines=baselines
        ),
    )
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert set(lines) == {"all classes", "tasks seen so far", "no strategy"}
    found = pictures.matrices(rows, "linear", 3)
    joint = np.mean([metrics.overall(m, SIZES) for m in found], axis=0)
    seen = np.mean([metrics.seen(m) for m in found], axis=0)
    np.testing.assert_allclose(lines["all classes"], np.c_[[1, 2, 3], joint])
    np.testing.assert_allclose(lines["tasks seen so far"][:, 1], seen)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    std = np.std([metrics.overall(m, SIZES) for m in found], axis=0, ddof=1)
    assert band.max() == pytest.approx((joint + std).max())


def test_what_was_asked_about_tasks_met_alone_is_drawn_over_these(
    monkeypatch, tmp_path
):
    """A classifier, and the baseline beside it; the last point alone is of all."""
    met = lambda seed: [
        r for r in records(seed, "classifier") if r.task <= r.after_experience
    ]
    (axes,) = drawn(
        monkeypatch,
        lambda: pictures.accuracy_picture(
            tmp_path / "x",
            records=[*met(0), *met(1)],
            sizes=SIZES,
            baselines={"zero_shot": met(3)},
        ),
    )
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert set(lines) == {"tasks seen so far", "zero-shot"}
    (found,) = pictures.matrices(met(3), "classifier", 3)
    np.testing.assert_allclose(lines["zero-shot"], metrics.seen(found))


def test_matrix_cells_are_the_mean_over_seeds(monkeypatch, tmp_path):
    rows = [*records(0, "linear"), *records(1, "linear")]
    axes, _ = drawn(
        monkeypatch,
        lambda: pictures.matrix_picture(
            tmp_path / "x", records=rows, probe="linear", n_tasks=3
        ),
    )
    mean = pictures.matrices(rows, "linear", 3).mean(axis=0)
    np.testing.assert_allclose(axes.images[0].get_array(), mean)
    assert [t.get_text() for t in axes.texts] == [f"{v:.0f}" for v in mean.ravel()]


def test_losses_are_found_by_name_and_seeds_are_preferred_to_their_mean():
    rows = history()
    assert losses.loss_names(rows) == ["loss", "loss_align"]
    steps, values = losses.series(rows, "loss")
    assert steps.tolist() == list(range(1, 13))
    np.testing.assert_allclose(values[:, 1], 2 + 2 / steps)
    np.testing.assert_allclose(losses.series(rows, "loss_align")[1], 0.5)


def test_the_memory_over_the_stream_is_what_the_log_tells(monkeypatch, tmp_path):
    path = tmp_path / "x"
    axes = drawn(monkeypatch, lambda: held.held_picture(path, history=history()))
    assert [a.get_ylabel() for a in axes] == ["images held", "distance", "share new"]
    lines = [{k.get_label(): k.get_xydata() for k in a.lines} for a in axes]
    want = np.c_[np.arange(1, 13), 10.0 * np.arange(12)]
    np.testing.assert_allclose(lines[0]["all"], want)
    assert lines[1]["threshold"][0].tolist() == [2, 0.2]  # unknown before
    halves = [{"step": 3, "ltm_centroids": 4, "stm_centroids": 5}]
    assert held.told(halves) == [
        ("centroids", {"ltm_centroids": "LTM", "stm_centroids": "STM"})
    ]
    assert not held.told([{"step": 1, "loss": 1.0}])


def test_time_is_split_into_parts_that_add_up():
    time = {"train_s": 60.0, "compile_s": 30.0, "total_s": 100.0}
    rows = re.findall(r"<tr>(.*?)</tr>", timing({"time": time}))
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row)[:3] for row in rows]
    assert cells == [
        ["learning", "60.0 s", "60 %"],
        ["compiling", "30.0 s", "30 %"],
        ["reading, saving", "10.0 s", "10 %"],
        ["in all", "100.0 s", ""],
    ]
    assert timing({}) == ""


def test_running_mean_shortens_its_window_at_the_ends():
    got = losses.running_mean(np.array([0.0, 3.0, 6.0, 9.0]), 3)
    np.testing.assert_allclose(got, [1.5, 3.0, 6.0, 7.5])


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64, 96, 224])
def test_tiles_of_all_data_sets_are_of_about_one_size(side):
    image = np.full((side, side, 3), 7, np.uint8)
    h, w, c = memory.tile(image).shape
    assert h == w and 40 <= h <= 80 and c == 3
    assert (memory.tile(image) == 7).all()


def test_small_tiles_repeat_pixels_and_large_ones_average_them():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    big = memory.tile(image)
    np.testing.assert_array_equal(big[::7, ::7, 1], image[:, :, 0])
    checked = np.indices((128, 128)).sum(axis=0)[:, :, None] % 2 * 200
    np.testing.assert_array_equal(memory.tile(checked.astype(np.uint8)), 100)


def gray(n, value=0):
    return np.full((n, 8, 8, 1), value, np.uint8)


def test_a_sheet_of_centroids_names_blocks_and_counts_images():
    group = np.array([5, 0, 5, 2])
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones_like(
        gray(4) + 1
    )
    blocks = {"LTM": range(2), "STM": range(2, 6)}
    sheet = grouped_sheet(
        images, group, name="CLIMB", noun="centroid", capacity=8, blocks=blocks
    )
    assert sheet.caption == "CLIMB: 4 of 8 images (50 %) in 3 centroids"
    titles = ["LTM 1 · 1 image", "STM 1 · 1 image", "STM 4 · 2 images"]
    assert [g.title for g in sheet.groups] == titles
    assert sheet.groups[2].images[:, 0, 0, 0].tolist() == [0, 2]
    words = [line.words for line in memory.page(sheet) if line.words]
    assert words == ["LTM · 1 centroid · 1 image", "STM · 2 centroids · 3 images"]


def test_a_flat_sheet_is_in_the_order_asked_for():
    images = np.arange(3, dtype=np.uint8)[:, None, None, None]
    sheet = flat_sheet(images, name="fifo", capacity=4, order=[2, 0, 1], by="class")
    assert sheet.groups[0].images.ravel().tolist() == [1, 2, 0]
    assert sheet.caption == "fifo: 3 of 4 images (75 %), ordered by class"


def test_what_does_not_fit_on_the_page_is_counted():
    many = [Group(f"g{i}", gray(25), "LTM") for i in range(memory.LINES + 83)]
    lines = memory.page(Sheet("", many, "centroid"))
    assert lines[-1].words == "and 83 more centroids"
    assert len(lines[1].cells[0].tiles) == memory.COLUMNS
    assert lines[1].cells[0].rest == "+ 5"
    lone = memory.page(flat_sheet(gray(1000), name="m", capacity=1000))
    shown = sum(len(cell.tiles) for line in lone for cell in line.cells)
    assert lone[-1].words == f"and {1000 - shown} more images"


def test_small_groups_share_a_line_and_none_is_lost():
    many = [Group(f"g{i}", gray(1 + i % 2), "STM") for i in range(31)]
    lines = memory.page(Sheet("", many, "centroid"))
    titles = [cell.title for line in lines for cell in line.cells]
    assert titles == [g.title for g in many]
    assert len(lines) < 20


@pytest.mark.parametrize("groups", [[], [Group("", gray(0))]])
def test_an_empty_memory_says_so(groups):
    assert memory.page(Sheet("", groups, "memory"))[0].words == "The memory is empty."


def test_pixels_of_the_memory_are_on_the_page(tmp_path):
    """Five images of five greys: the picture holds each grey a tile's area of times."""
    greys = np.array([11, 51, 91, 131, 171], np.uint8)
    images = greys[:, None, None, None] * np.ones((5, 8, 8, 1), np.uint8)
    sheet = grouped_sheet(
        images,
        np.array([0, 0, 1, 1, 1]),
        name="CLIMB",
        noun="centroid",
        capacity=9,
        blocks={"LTM": [0], "STM": [1]},
    )
    memory.memory_picture(tmp_path / "memory.png", sheet=sheet)
    page = (imread(tmp_path / "memory.png")[:, :, :3] * 255).round().astype(int)
    for grey in greys:
        assert (page == grey).all(axis=2).sum() >= 56 * 56


def test_other_images_are_refused_in_words(tmp_path):
    sheet = Sheet("", [Group("", np.zeros((2, 8, 8, 3), np.float32))], "memory")
    with pytest.raises(ValueError, match="uint8 images"):
        memory.memory_picture(tmp_path / "x.png", sheet=sheet)


def test_the_table_is_aligned_and_shows_the_numbers():
    full = {"mean": 38.523, "std": 0.405}
    alone = {"mean": 7.0, "std": None}
    text = table(
        [
            ("climb", {"FA": full, "CA": full, "CA_seen": full, "forgetting": alone}),
            ("a|b", {"FA": {"mean": -0.001}, "CA": {"mean": None, "std": None}}),
        ]
    )
    head, rule, first, second = text.splitlines()
    assert len({len(line) for line in (head, rule, first, second)}) == 1
    cells = lambda line: [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert cells(head) == ["strategy", *metrics.METRICS]
    assert cells(first) == ["climb", *["38.52 ± 0.41"] * 3, "7.00"]
    assert cells(second) == [r"a\|b", "0.00", "-", "-", "-"]
