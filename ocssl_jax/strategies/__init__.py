"""What continual learning adds to the plain step, by name.

`STRATEGIES[name]` is a factory; each of its keyword arguments is read from the field of
that name in `config.strategy.<name>` or, failing that, in `config.strategy`.
"""

from collections.abc import Callable

from ocssl_jax.strategies.ae import ae
from ocssl_jax.strategies.ae_mir import ae_mir
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.cassle import cassle, cassle_r
from ocssl_jax.strategies.cla import cla_b, cla_e, cla_r
from ocssl_jax.strategies.climb import climb
from ocssl_jax.strategies.co2l import co2l
from ocssl_jax.strategies.der import der
from ocssl_jax.strategies.er import er
from ocssl_jax.strategies.er_mir import er_mir
from ocssl_jax.strategies.ewc import ewc
from ocssl_jax.strategies.foster import foster
from ocssl_jax.strategies.gem import gem
from ocssl_jax.strategies.gen import gen
from ocssl_jax.strategies.gen_mir import gen_mir
from ocssl_jax.strategies.icarl import icarl
from ocssl_jax.strategies.lump import lump
from ocssl_jax.strategies.minred import minred
from ocssl_jax.strategies.none import none
from ocssl_jax.strategies.osiris_r import osiris_r
from ocssl_jax.strategies.rals import rals
from ocssl_jax.strategies.scale import scale

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "none": none,
    "er": er,
    "lump": lump,
    "cla_r": cla_r,
    "cla_e": cla_e,
    "cla_b": cla_b,
    "cassle": cassle,
    "cassle_r": cassle_r,
    "climb": climb,
    "minred": minred,
    "osiris_r": osiris_r,
    "scale": scale,
    "rals": rals,
    "er_mir": er_mir,
    "gem": gem,
    "icarl": icarl,
    "ewc": ewc,
    "co2l": co2l,
    "foster": foster,
    "der": der,
    "gen": gen,
    "gen_mir": gen_mir,
    "ae": ae,
    "ae_mir": ae_mir,
}

# Strategies that may read `stream.boundary`; every other one is task-free, ER unless
# it is asked for `past_only`.
BOUNDARY_AWARE = frozenset(
    {
        "cassle",
        "cassle_r",
        "co2l",
        "foster",
        "der",
        "er_mir",
        "ewc",
        "gem",
        "icarl",
        "gen",
        "gen_mir",
        "ae",
        "ae_mir",
    }
)

# Strategies whose losses are a classifier's: of `method.name=supervised`, some of
# clip too, or of it alone (`pairs.POOLED`).
SUPERVISED = frozenset(
    {
        "er_mir",
        "ewc",
        "gem",
        "icarl",
        "co2l",
        "foster",
        "der",
        "gen",
        "gen_mir",
        "ae",
        "ae_mir",
    }
)

# Strategies whose dearest work is not due with every stream batch, but in a branch of
# the step: at boundaries, or in an experience's last epoch.
RARE = frozenset({"ewc", "icarl", "ae", "ae_mir"})

# Strategies whose network has a last block for each task (`backbones.grown`).
GROWING = frozenset({"der"})

__all__ = [
    "BOUNDARY_AWARE",
    "GROWING",
    "RARE",
    "STRATEGIES",
    "SUPERVISED",
    "Strategy",
    "chain",
]
