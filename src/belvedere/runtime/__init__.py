"""Files, folders, streams, threads and sockets; independent of images and models."""
