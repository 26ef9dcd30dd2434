"""CaSSLe (Fini et al. 2022): align to the learner as the last experience left it.

at each boundary:  teacher <- params
CaSSLe:    x <- stream(b);               L = L_ssl(x) + omega * mean over all rows
CaSSLe-R:  x <- replay(R) + stream(b);   L = L_ssl(x) + omega * mean over replayed rows
                                         and views of criterion(a(z), t)

where t is the teacher's projection of the same view. Nothing is aligned during the
first experience. The paper's distillation loss is the method's own
(`align_criterion='ssl'`); comparisons of online learners use the cosine, the default.
The only strategies of this family that are told of boundaries.
"""

from ocssl_jax.strategies.align import align
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import plain_replay
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import frozen


def cassle(
    *,
    align_on: str,
    align_criterion: str,
    align_weight: float,
    align_hidden: int,
    use_aligner: bool,
    skip_first: bool,
) -> Strategy:
    """CaSSLe: no memory; every row of the stream is aligned.

    Args:
      align_on: 'projection' or 'feature', what is aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
      skip_first: align nothing during the first experience; the released code aligns
        to the initial weights there.
    """
    return align(
        frozen(skip_first=skip_first),
        rows="all",
        on=align_on,
        criterion=align_criterion,
        weight=align_weight,
        hidden=align_hidden,
        use_aligner=use_aligner,
        train_head=True,
    )


def cassle_r(
    *,
    memory: str,
    memory_size: int,
    replay_size: int,
    feature_decay: float,
    align_on: str,
    align_criterion: str,
    align_weight: float,
    align_hidden: int,
    use_aligner: bool,
    skip_first: bool,
) -> Strategy:
    """CaSSLe-R: reservoir replay, whose rows alone are aligned.

    Args:
      memory: 'reservoir' (the default) or 'fifo'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which are not used.
      align_on: 'projection' or 'feature', what is aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
      skip_first: align nothing during the first experience; the released code aligns
        to the initial weights there.
    """
    return chain(
        plain_replay(
            memory,
            memory_size,
            replay_size,
            feature_decay=feature_decay,
            space=space_of(align_on),
        ),
        align(
            frozen(skip_first=skip_first),
            rows="replay",
            on=align_on,
            criterion=align_criterion,
            weight=align_weight,
            hidden=align_hidden,
            use_aligner=use_aligner,
            train_head=True,
        ),
    )
