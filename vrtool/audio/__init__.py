"""Audio as arrays: files to waveforms and back, spectrograms; nothing of networks or caches."""
