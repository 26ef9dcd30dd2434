"""CaSSLe's augmentations (Fini et al. 2022), which SpeedOSSL's experiments share.

Cubic crop, colours, gray, blur, solarised, mirrored, in this order. The two views of
Barlow Twins and BYOL are blurred and solarised with different chances. Small images
are not blurred. The order of the colour operations is random, as torchvision's.
"""

from ocssl_jax.augment import ops
from ocssl_jax.augment.sets import RATIO, SMALL
from ocssl_jax.augment.transforms import (
    Transform,
    color_jitter,
    fixed,
    gaussian_blur,
    maybe,
    random_resized_crop,
)

STRONG = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
MILD = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


def view(
    image_size: int,
    *,
    smallest: float,
    jitter: dict[str, float],
    blur: float,
    solarize: float,
) -> list[Transform]:
    """One view's transforms.

    Args:
      image_size: pixels a side.
      smallest: crop, as a share of the area.
      jitter: strength of the colours.
      blur: chance of a blur of 0.1 to 2 pixels.
      solarize: chance of solarisation.
    """
    blurred = maybe(blur, gaussian_blur(kernel=23, sigma=(0.1, 2.0)))
    return [
        random_resized_crop(scale=(smallest, 1.0), ratio=RATIO, kernel=ops.cubic),
        maybe(0.8, color_jitter(**jitter)),
        maybe(0.2, fixed(ops.grayscale)),
        *([blurred] if blur and image_size > SMALL else []),
        *([maybe(solarize, fixed(ops.solarize))] if solarize else []),
        maybe(0.5, fixed(ops.flip)),
    ]


def simclr(image_size: int) -> list[Transform]:
    """For SimCLR: strong colours, the same for both views."""
    return view(image_size, smallest=0.08, jitter=STRONG, blur=0.5, solarize=0.0)


def twins(image_size: int) -> tuple[list[Transform], list[Transform]]:
    """For Barlow Twins and BYOL: the second view solarised, the first blurred."""
    return (
        view(image_size, smallest=0.08, jitter=MILD, blur=1.0, solarize=0.0),
        view(image_size, smallest=0.08, jitter=MILD, blur=0.1, solarize=0.2),
    )


def vicreg(image_size: int) -> list[Transform]:
    """For VICReg: no crop below a fifth of the image."""
    return view(image_size, smallest=0.2, jitter=MILD, blur=0.5, solarize=0.1)
