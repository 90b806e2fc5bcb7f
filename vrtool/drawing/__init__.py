"""Spectrograms as pictures: of a few seconds for a page, or of a whole song with axes."""
