"""Temperature scaling, conformal prediction sets and out-of-distribution scores, fitted on held-out images."""
