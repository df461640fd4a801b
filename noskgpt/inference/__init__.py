"""Text generation: the decoder's compiled loops, sampling, and the requests made of them."""
