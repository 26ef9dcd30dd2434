"""CLA (continual latent alignment): align the present to what a teacher remembers.

x <- replay(R) + stream(b)
L = L_ssl(x) + omega * mean over aligned rows and views of criterion(a(z), t)

         aligned rows    t                                               memory
CLA-R    the replayed    what was stored with the image, f               FIFO
CLA-E    the replayed    the projection by an EMA of the learner         FIFO
CLA-B    all, no R       the projection by an EMA of the learner         none

after each pass:   f <- alpha f + (1 - alpha) mean over views of z, of replayed rows
                   EMA <- tau EMA + (1 - tau) params
after the passes:  stream rows enter the memory with the mean of their last z
"""

from ocssl_jax.strategies.align import align
from ocssl_jax.strategies.base import Strategy, chain
from ocssl_jax.strategies.replay import plain_replay
from ocssl_jax.strategies.spaces import space_of
from ocssl_jax.strategies.teachers import PARTS, ema, stored


def cla_r(
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
) -> Strategy:
    """CLA-R: alignment of replayed rows to the features stored with them.

    Args:
      memory: 'fifo' (the paper's choice) or 'reservoir'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: alpha of the stored features; after k passes a feature first f0 is
        alpha^k f0 + (1 - alpha) sum over i = 1..k of alpha^(k-i) f_i.
      align_on: 'projection' or 'feature', what is stored and aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
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
            stored(),
            rows="replay",
            on=align_on,
            criterion=align_criterion,
            weight=align_weight,
            hidden=align_hidden,
            use_aligner=use_aligner,
            train_head=True,
        ),
    )


def cla_e(
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
    ema_decay: float,
) -> Strategy:
    """CLA-E: alignment of replayed rows to the EMA of encoder and projector.

    Args:
      memory: 'fifo' (the papers' choice) or 'reservoir'.
      memory_size: images kept, N.
      replay_size: replayed rows a pass, R; replay starts once more than R are held.
      feature_decay: of the features kept beside the images, which CLA-E does not use.
      align_on: 'projection' or 'feature', what is aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
      ema_decay: tau of the teacher.
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
            ema(ema_decay, parts=PARTS),
            rows="replay",
            on=align_on,
            criterion=align_criterion,
            weight=align_weight,
            hidden=align_hidden,
            use_aligner=use_aligner,
            train_head=True,
        ),
    )


def cla_b(
    *,
    align_on: str,
    align_criterion: str,
    align_weight: float,
    align_hidden: int,
    use_aligner: bool,
    ema_decay: float,
) -> Strategy:
    """CLA-B: no memory; alignment of the stream's rows to the EMA of the learner.

    Args:
      align_on: 'projection' or 'feature', what is aligned.
      align_criterion: 'cosine', 'mse' or 'ssl', the method's own objective.
      align_weight: omega.
      align_hidden: width of the alignment head's hidden layer.
      use_aligner: whether there is a head a; without one z itself is aligned.
      ema_decay: tau of the teacher.
    """
    return align(
        ema(ema_decay, parts=PARTS),
        rows="all",
        on=align_on,
        criterion=align_criterion,
        weight=align_weight,
        hidden=align_hidden,
        use_aligner=use_aligner,
        train_head=True,
    )
