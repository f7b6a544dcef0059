"""What feeds a training: the images of a manifest's rows, from a folder or from S3.

>>> import kaleidoscope as kd
>>> from kaleidoscope.loaders import iter_images
>>> rows = kd.read_manifest("s3://bucket/augmented")
>>> for image, row in iter_images("s3://bucket/augmented", rows):
...     print(image.shape, row.label)

The loaders of a framework stand in a module each, so that none of them needs another's:
:mod:`kaleidoscope.loaders.torch`, :mod:`kaleidoscope.loaders.webdataset` and
:mod:`kaleidoscope.loaders.huggingface`. Install ``kaleidoscope[torch]``, ``[webdataset]`` or
``[huggingface]`` for them.

All take the place that a run wrote to and rows of its manifest: all of them, or those that a query
or a split left. Rows of sources that failed have no image and are passed over.
"""

from kaleidoscope.loaders.plain import iter_images, iter_masks
from kaleidoscope.loaders.sampling import BalancedSampler, balanced_weights

__all__ = ["BalancedSampler", "balanced_weights", "iter_images", "iter_masks"]
