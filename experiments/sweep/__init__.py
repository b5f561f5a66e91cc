"""Many trainings over a grid of variants, rates, batch sizes and seeds, in parallel processes."""
