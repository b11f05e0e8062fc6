"""The frozen records that pass between packages."""
