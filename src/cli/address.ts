// Ids and names from the command line as parts of an address. An empty one or a dot would lead to another address: a list, or
// the one above.
import { InvalidRequest } from "../errors.ts";
import { inAddress } from "../wire/model-names.ts";

/** `what` names it for the message. Throws InvalidRequest where it cannot be one. */
export function addressPart(what: "an id" | "a model's name" | "an alias", given: string): string {
  if (given.trim() === "" || given === "." || given === "..")
    throw new InvalidRequest(
      `Expected ${what}, found "${given}". ${given.trim() === "" ? "Is the variable set that it should come from?" : "It would lead to another address."}`,
    );
  return inAddress(given);
}
