"""Parts of the search for near duplicates that training and audit share."""
