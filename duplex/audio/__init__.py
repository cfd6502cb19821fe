"""Audio in and out of the models: sample formats, resampling, voice activity, filterbank features."""
