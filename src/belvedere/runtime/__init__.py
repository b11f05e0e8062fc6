"""What any program needs: files, folders, streams, processes, threads, sockets. Nothing here knows images or models."""
