"""Learners on the image towers of a CLIP."""

from tiny import merges, tiny_config

from ocssl_jax.clip.architecture import ARCHITECTURES
from ocssl_jax.learning import make_learning

NAMES = ("ash", "bee", "cod", "doe")
SIDE = ARCHITECTURES["micro"].image_size


def config_of(folder, backbone="clip_micro", **fields):
    """A config of CLIP in bfloat16, trained as CLIP is."""
    architecture = {"clip_micro": "micro", "clip_vit_b16": "ViT-B-16"}[backbone]
    return tiny_config(
        **{
            "backbone__name": backbone,
            "backbone__width": 0,
            "method__name": "clip",
            "method__clip__merges": str(
                merges(folder, ARCHITECTURES[architecture].vocabulary)
            ),
            "strategy__name": "none",
            "augment__name": "none",
            "precision": "bfloat16",
            "passes": 1,
            "optimizer__name": "adamw",
            "optimizer__learning_rate": 1e-3,
            "optimizer__weight_decay": 0.1,
            **fields,
        }
    )


def learning_of(config, *, side=SIDE, names=NAMES, images=12, **more):
    """The functions of a learner of coloured images."""
    return make_learning(
        config,
        shape=(side, side, 3),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_names=names,
        train_images=images,
        **more,
    )
