"""The augmentation sets of the OCSSL references, each a list read top to bottom.

The references undo the stored normalisation first; here images are uint8 until now, so
a set starts on [0, 1]. For the same reason their `NaN -> 0` and their clamp to [0, 1]
before the jitter of `common` have nothing to do, and are left out.
"""

from ocssl_jax.augment import ops
from ocssl_jax.augment.transforms import (
    Transform,
    color_jitter,
    fixed,
    gaussian_blur,
    maybe,
    random_resized_crop,
)

RATIO = (3 / 4, 4 / 3)  # width / height of every crop
SMALL = 64  # up to this size an image is not blurred, and crops keep a fifth of it


def simclr(image_size: int) -> list[Transform]:
    """SimCLR (Chen et al. 2020) as the CLA code base sets it for its methods."""
    small = image_size <= SMALL
    blur = maybe(0.2, gaussian_blur(kernel=5, sigma=(0.1, 2.0)))
    return [
        random_resized_crop(scale=(0.2 if small else 0.08, 1.0), ratio=RATIO),
        maybe(0.5, fixed(ops.flip)),
        maybe(0.8, color_jitter(brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2)),
        maybe(0.2, fixed(ops.grayscale)),
        *([] if small else [blur]),
    ]


def common(image_size: int) -> list[Transform]:
    """The set that the references share among methods for a fair comparison.

    Barlow Twins' own set is the same once it works on [0, 1]: the references jitter
    normalised pixels there, clamped to [0, 1]. So is BYOL's, which lacks the crop.
    """
    del image_size  # the same at every size
    return [
        random_resized_crop(scale=(0.2, 1.0), ratio=RATIO),
        maybe(0.5, fixed(ops.flip)),
        maybe(0.8, color_jitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)),
        maybe(0.2, fixed(ops.grayscale)),
    ]


def simsiam(image_size: int) -> list[Transform]:
    """SimSiam (Chen & He 2021) as the references set it, without blur at any size.

    They mirror last, which changes nothing, and jitter clamped normalised pixels, which
    is mended here.
    """
    del image_size
    return [
        random_resized_crop(scale=(0.2, 1.0), ratio=RATIO),
        maybe(0.5, fixed(ops.flip)),
        maybe(0.8, color_jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)),
        maybe(0.2, fixed(ops.grayscale)),
    ]


def clip(image_size: int) -> list[Transform]:
    """For fine-tuning CLIP: nearly the whole image, mirrored or not.

    Our own choice; the paper of `ocssl_jax.clip` says nothing of augmentation.
    """
    del image_size
    return [
        random_resized_crop(scale=(0.9, 1.0), ratio=RATIO),
        maybe(0.5, fixed(ops.flip)),
    ]


def crop_flip(image_size: int) -> list[Transform]:
    """What classifiers on frozen encoders are trained with, by CaSSLe and solo-learn.

    Bilinear crops, torchvision's default, of 8 % of the image or more at every size.
    """
    del image_size
    return [
        random_resized_crop(scale=(0.08, 1.0), ratio=RATIO),
        maybe(0.5, fixed(ops.flip)),
    ]


def glyphs(image_size: int) -> list[Transform]:
    """For signs, which a mirror turns into others: closer crops, light, no flip.

    Our own set for digits; no paper of the suite works on them with SSL.
    """
    del image_size
    return [
        random_resized_crop(scale=(0.4, 1.0), ratio=RATIO),
        maybe(0.8, color_jitter(brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0)),
    ]


def none(image_size: int) -> list[Transform]:
    """No augmentation: all views are the same."""
    del image_size
    return []
