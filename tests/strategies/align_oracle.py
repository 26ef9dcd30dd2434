"""Alignment stepped again in plain Python, from a record of what each pass drew."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tiny import SHAPE, tiny_config, tiny_learning

from ocssl_jax.core import Batch
from ocssl_jax.strategies import STRATEGIES, Strategy, chain

VIEWS = 2


class Record(NamedTuple):
    """What the passes trained on, pass by pass."""

    i: Any  # [], passes so far
    views: Any  # [t v n h w c]
    mask: Any  # [t n]
    id: Any  # [t n]
    stored: Any  # [t r s], the target that CLA-R is to use
    z: Any  # [t n d], mean over views


def recorder(passes, *, n, replayed, width):
    """A strategy that changes nothing and keeps a `Record` as its state."""

    def init(key, learner, stream):
        del key
        d = jax.eval_shape(learner.embed, stream.image).shape[1]
        views = jnp.zeros((passes, VIEWS, n, *SHAPE))
        mask, ids = jnp.zeros((passes, n), bool), jnp.zeros((passes, n), jnp.int32)
        stored = jnp.zeros((passes, replayed, width))
        z = jnp.zeros((passes, n, d))
        return (), Record(jnp.zeros((), jnp.int32), views, mask, ids, stored, z)

    def update(state, learner, batch, out):
        del learner
        i, put = state.i, lambda old, x: old.at[state.i].set(x)
        stored = put(state.stored, batch.stored) if replayed else state.stored
        return Record(
            i + 1,
            put(state.views, batch.views),
            put(state.mask, batch.mask),
            put(state.id, batch.items["id"]),
            stored,
            put(state.z, out.z.mean(axis=0)),
        )

    return Strategy(init=init, update=update)


def recorded(monkeypatch, batches, *, passes, replayed, width, **fields):
    """Train on `batches`: learning, config, states after each batch, metrics, record.

    The strategy's own state and parameters are the first of their pairs. `replayed`
    rows, none if it has no memory, have stored features of `width`.
    """
    fields["passes"] = passes
    if replayed:
        fields["strategy__replay_size"] = replayed
    name, n = fields["strategy__name"], replayed + batches[0].mask.shape[0]
    last = recorder(passes * len(batches), n=n, replayed=replayed, width=width)
    factory = STRATEGIES[name]
    with_record = functools.wraps(factory)(lambda **kw: chain(factory(**kw), last))
    monkeypatch.setitem(STRATEGIES, name, with_record)
    learning = tiny_learning(**fields)
    step, metrics = jax.jit(learning.step), []
    states = [learning.init(jax.random.key(0), batches[0])]
    for batch in batches:
        state, seen = step(states[-1], batch)
        states.append(state)
        metrics.append(jax.device_get(seen))
    record = jax.device_get(states[-1].strategy[1])
    return learning, tiny_config(**fields), states, metrics, record


def head(params, y, known):
    """The alignment head, a linear layer, batch norm over the known rows, another."""
    count = jnp.maximum(jnp.sum(known), 1)
    x = y @ params["linear1"]["kernel"]
    mean = (known[:, None] * x).sum(0, keepdims=True) / count
    var = (known[:, None] * (x - mean) ** 2).sum(0, keepdims=True) / count
    x = (x - mean) / jnp.sqrt(var + 1e-5)
    x = x * params["norm1"]["scale"][None] + params["norm1"]["bias"][None]
    second = params["linear2"]
    return jnp.maximum(x, 0) @ second["kernel"] + second["bias"][None]


def distance(name, p, t, known):
    """Per row; `ssl` is NT-Xent at temperature 0.5 over the known rows alone."""
    p, t = (jnp.where(known[:, None], x, 1.0) for x in (p, t))
    if name == "mse":
        return ((p - t) ** 2).mean(axis=1)
    p, t = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (p, t))
    if name == "cosine":
        return -(p * t).sum(axis=1)
    u, real = jnp.concatenate([p, t]), jnp.tile(known, 2)
    s = jnp.exp(u @ u.T / 0.5) * real[None] * (1 - jnp.eye(len(u)))
    terms = jnp.log(s.sum(axis=1) + 1e-9) - jnp.tile((p * t).sum(axis=1), 2) / 0.5
    return terms.reshape(2, -1).mean(axis=0)


class Oracle:
    """One learner with a dict for a memory of features and a list for a loop."""

    def __init__(self, learning, config, start, kind, *, rows, head):
        """`kind` is the teacher's; the first `rows` of a pass are aligned."""
        self.method, self.config, self.kind, self.rows = (
            learning.method,
            config,
            kind,
            rows,
        )
        self.model = start.model
        self.params = {"method": start.params["method"], "head": head}
        self.velocity = jax.tree.map(jnp.zeros_like, self.params)
        self.teacher = self.params["method"]
        self.past = not config.strategy.cassle.skip_first
        self.features, self.losses = {}, []
        self.updated = jax.jit(self.update)
        self.encoded = jax.jit(self.encode)

    def space(self, out):
        return out.e if self.config.strategy.align_on == "feature" else out.z

    def encode(self, params, x, mask):
        return self.space(
            self.method.forward(params, self.model, x, train=True, mask=mask)
        )

    def objective(self, params, views, mask, target, known):
        batch = Batch(views, mask, {})
        out = self.method.loss(params["method"], self.model, batch, None)
        y, s = self.space(out), self.config.strategy
        p = y[:, : self.rows].reshape(len(known), -1)
        if s.use_aligner:
            p = head(params["head"], p, known)
        rows = distance(s.align_criterion, p, target, known)
        align = s.align_weight * jnp.sum(rows * known) / jnp.maximum(jnp.sum(known), 1)
        return jnp.sum(out.loss * mask) / jnp.sum(mask) + align, (y, align)

    def update(self, params, velocity, teacher, *batch):
        grads, (y, align) = jax.grad(self.objective, has_aux=True)(params, *batch)
        o, tau = self.config.optimizer, self.config.strategy.ema_decay
        velocity = jax.tree.map(
            lambda v, g, p: o.momentum * v + g + o.weight_decay * p,
            velocity,
            grads,
            params,
        )
        params = jax.tree.map(lambda p, v: p - o.learning_rate * v, params, velocity)
        teacher = jax.tree.map(
            lambda t, p: tau * t + (1 - tau) * p, teacher, params["method"]
        )
        return params, velocity, teacher, y.mean(axis=0), align

    def one_pass(self, views, mask, ids):
        """An update; the features [n d] of its rows, averaged over views."""
        known = np.tile(mask[: self.rows], VIEWS)
        x = views[:, : self.rows].reshape(len(known), *SHAPE)
        if self.kind == "stored" and known.any():
            kept = [self.features[i] for i in ids[: self.rows]]
            target = np.tile(kept, (VIEWS, 1))
        else:
            target = self.encoded(self.teacher, x, known)
        if self.kind == "frozen":
            known = known & self.past
        self.params, self.velocity, moved, y, align = self.updated(
            self.params, self.velocity, self.teacher, views, mask, target, known
        )
        if self.kind == "ema":
            self.teacher = moved
        self.losses.append(float(align))
        return np.asarray(y)

    def batch(self, record, t, *, replayed, boundary):
        """The passes of stream batch `t`, then its rows enter the memory."""
        if boundary and self.kind == "frozen":
            self.teacher, self.past = self.params["method"], self.past or t > 0
        passes = self.config.passes
        for i in range(t * passes, (t + 1) * passes):
            mask, ids = record.mask[i], record.id[i]
            again = np.flatnonzero(mask[:replayed])
            for j in again if self.kind == "stored" else ():
                kept = self.features[ids[j]]
                np.testing.assert_allclose(record.stored[i, j], kept, atol=2e-5)
            y = self.one_pass(record.views[i], mask, ids)
            for j in again:
                self.features[ids[j]] = 0.5 * self.features[ids[j]] + 0.5 * y[j]
        for j in range(replayed, len(mask)):
            if mask[j]:
                self.features[ids[j]] = y[j]
