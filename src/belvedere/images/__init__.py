"""Image files to pixels and back; the only owner of decoders."""
