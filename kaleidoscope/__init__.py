"""Makes a large image data set from a small one, once, with the lineage of every image."""
