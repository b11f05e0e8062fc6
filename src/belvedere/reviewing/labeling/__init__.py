"""Labels a folder of images on a page: `pool` and `labels` are the data, `probe`, `order` and `estimate` the method."""
