"""Permuted streams, streams of a few images, and what an iid stream may be made of."""

import numpy as np
import pytest

from ocssl_jax.data import Dataset, benchmark, permuted, schedule

N, M, TASKS = 12, 5, 3


def dataset():
    rng = np.random.default_rng(0)
    image = lambda n: rng.integers(0, 256, (n, 4, 4, 2), np.uint8)
    label = lambda n: (np.arange(n) % 2).astype(np.int32)
    return Dataset(
        name="x",
        train_image=image(N),
        train_label=label(N),
        test_image=image(M),
        test_label=label(M),
        class_names=("a", "b"),
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        skipped=(),
    )


def bench(kind="permuted", **fields):
    data = permuted(dataset(), tasks=TASKS, seed=0)
    return benchmark(
        data.train_label,
        data.test_label,
        kind=kind,
        tasks=TASKS,
        seed=0,
        val_ratio=0.0,
        train_domain=data.train_domain,
        test_domain=data.test_domain,
        **fields,
    )


def test_each_order_holds_every_image_with_its_pixels_moved_alike():
    plain, data = dataset(), permuted(dataset(), tasks=TASKS, seed=0)
    assert data.train_image.shape == (TASKS * N, 4, 4, 2)
    every = data.train_image[np.arange(TASKS * N)].reshape(TASKS, N, 16, 2)
    pixels = plain.train_image.reshape(N, 16, 2)
    np.testing.assert_array_equal(every[0], pixels)  # the images' own order
    orders = [
        [np.flatnonzero((pixels == e[:, [i]]).all(axis=(0, 2)))[0] for i in range(16)]
        for e in every
    ]
    for t, order in enumerate(orders):
        assert sorted(order) == list(range(16))
        np.testing.assert_array_equal(every[t], pixels[:, order])
        test = data.test_image[np.arange(t * M, (t + 1) * M)].reshape(M, 16, 2)
        moved = plain.test_image.reshape(M, 16, 2)[:, order]
        np.testing.assert_array_equal(test, moved)  # the same for the test images
    assert orders[1] != orders[2]
    np.testing.assert_array_equal(data.train_label, np.tile(plain.train_label, TASKS))


def test_rows_are_read_in_any_shape_and_order():
    data = permuted(dataset(), tasks=TASKS, seed=0)
    every = data.train_image[np.arange(TASKS * N)]
    index = np.array([[30, 2], [17, 30], [0, 35]])
    np.testing.assert_array_equal(data.train_image[index], every[index])
    assert data.train_image[index].dtype == np.uint8
    assert data.train_image[np.zeros(0, int)].shape == (0, 4, 4, 2)


def test_other_seeds_are_other_orders_and_more_tasks_the_same_ones():
    read = lambda **how: permuted(dataset(), **how).train_image[np.arange(N, 2 * N)]
    assert not np.array_equal(read(tasks=2, seed=0), read(tasks=2, seed=1))
    np.testing.assert_array_equal(read(tasks=2, seed=0), read(tasks=9, seed=0))


def test_an_experience_is_an_order_with_all_classes():
    found = bench()
    for t in range(TASKS):
        np.testing.assert_array_equal(found.train[t], np.arange(t * N, (t + 1) * N))
        np.testing.assert_array_equal(found.test[t], np.arange(t * M, (t + 1) * M))
        assert sorted(found.classes[t]) == [0, 1]


def test_an_iid_stream_of_orders_mixes_all_of_them():
    found = bench("iid", iid_of="permuted")
    assert [len(part) for part in found.test] == [M] * TASKS  # judged order by order
    plan = schedule(found, key_seed=0, batch_size=4)
    assert sorted(plan.id.reshape(-1)) == list(range(TASKS * N))
    assert len(set(plan.id[:3].reshape(-1) // N)) > 1
    with pytest.raises(ValueError, match="iid_of must be one of class, domain"):
        bench("iid", iid_of="blurred")


def test_a_few_images_of_each_experience_arrive_drawn_by_each_run():
    plans = [
        schedule(bench(), key_seed=seed, batch_size=4, samples=8) for seed in (0, 1, 0)
    ]
    ids = [plan.id.reshape(-1) for plan in plans]
    for one in ids:
        assert np.bincount(one // N, minlength=TASKS).tolist() == [8] * TASKS
        assert len(set(one)) == 8 * TASKS
    assert set(ids[0]) != set(ids[1]) and set(ids[0]) == set(ids[2])


def test_later_epochs_bring_the_same_few_images():
    found = bench("iid", iid_of="permuted")
    plan = schedule(found, key_seed=0, batch_size=4, samples=8, epochs=3)
    first, *others = plan.id.reshape(3, -1)
    for other in others:
        assert sorted(other) == sorted(first) and list(other) != list(first)


def test_no_more_images_than_there_are():
    plan = schedule(bench(), key_seed=0, batch_size=4, samples=500)
    assert sorted(plan.id[plan.mask]) == list(range(TASKS * N))
