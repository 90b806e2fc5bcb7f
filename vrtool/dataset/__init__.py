"""From libraries of audio to training examples: discovery, the spectrogram cache, augmentation, batches."""
