// Thrown inside a job when a write finds that the lease is gone: the job was cancelled or another worker has taken it.

/** Nothing is to be settled: the row now belongs to somebody else. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
  constructor() {
    super("The job's lease is no longer held by this worker.");
  }
}
