"""Version of Belvedere."""

VERSION = "0.2.0"
