"""Writes small data sets exactly as tensorflow-datasets prepares its own."""

import tensorflow_datasets as tfds
from PIL import Image


def prepare_pictures(data_dir, name, *, names, **splits):
    """Prepares `<data_dir>/<name>/1.0.0`, array_record, with TFDS's own writer.

    Args:
      data_dir: TFDS's data folder.
      name: of a data set, or of a data set and a config: 'domainnet/real'.
      names: of the classes, by label.
      **splits: rows (array [h w 3] uint8, label) of each.
    """
    dataset, _, config = name.partition("/")
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=list(names)),
    }

    class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for i, (image, label) in enumerate(splits[split]):
                yield i, {"image": Image.fromarray(image), "label": label}

    builder = Pictures(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
