import numpy as np

from belvedere.images.heatmap import overlay, relative


def test_evidence_shows_where_it_is() -> None:
    pixels = np.full((60, 90, 3), 120, np.uint8)
    evidence = np.zeros((2, 3), np.float32)
    evidence[1, 2] = 1

    shown = overlay(pixels, evidence)

    assert shown.shape == pixels.shape
    assert shown.dtype == np.uint8
    strong, weak = shown[50, 80].astype(int), shown[5, 5].astype(int)
    assert strong[0] - strong[2] > 80  # warm
    assert np.ptp(weak) < 20  # grey


def test_relative_evidence_is_a_share_of_each_place() -> None:
    evidence = np.random.default_rng(0).normal(0, 5, (4, 3, 2)).astype(np.float32)

    shares = relative(evidence)

    assert shares.shape == evidence.shape
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-6)
    assert (shares.argmax(0) == evidence.argmax(0)).all()
