"""Generate text from a model: requests, the decoder's compiled loops, sampling, real words."""
