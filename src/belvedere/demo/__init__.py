"""The whole job on synthetic scenes."""
