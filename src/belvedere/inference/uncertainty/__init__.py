"""How far a prediction can be trusted: temperature scaling, conformal prediction sets, out-of-distribution score."""
