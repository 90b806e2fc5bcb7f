"""Audio as arrays: files to waveforms and back, spectrograms, alignment; nothing of networks or caches."""
