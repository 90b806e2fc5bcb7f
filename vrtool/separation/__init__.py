"""A trained network at work: songs in, vocals and instrumental out."""
