// The streams of random numbers of one run. Each is a function of the recipe's seed, its number here and where it is used, so
// none shares numbers with another. The order of the examples is (seed, epoch), in data/batches.

/** The second number of a stream, behind the seed. */
export const STREAM = { dropout: 1, validation: 2, initialAdapter: 3 } as const;
