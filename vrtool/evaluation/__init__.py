"""How good stems are, in numbers: against true stems, beside the mixture as it is and the best mask there can be."""
