"""Finding the best few steps of a trained model: sampler, times and noise for each number of evaluations."""
