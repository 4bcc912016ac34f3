// Examples as the training loop asks for them: by their places in the file, when it needs them. It knows no encoding.

export interface Examples<Example> {
  readonly count: number;
  /** Those at the given places, in the order asked for. */
  at(places: readonly number[]): Promise<Example[]>;
}

/** Examples that are all there. */
export function listed<Example>(examples: readonly Example[]): Examples<Example> {
  return {
    count: examples.length,
    at: (places) => Promise.resolve(places.map((place) => examples[place] as Example)),
  };
}

/** The places of all examples, in file order. */
export function allPlaces({ count }: Examples<unknown>): number[] {
  return Array.from({ length: count }, (_, place) => place);
}
