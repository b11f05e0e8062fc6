"""What changed between the test images of a run and new images."""
