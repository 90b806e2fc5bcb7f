"""From a cache to a trained network: the loop, its schedule, its validation and the folder of a run."""
