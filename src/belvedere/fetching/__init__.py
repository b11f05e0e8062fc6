"""Downloads datasets and unpacks them into folders that `load_dataset` reads; imported by the command `fetch` only."""
