// Why the server could not listen, as an error for whoever starts it.
import type { Config } from "../config.ts";
import { Conflict, InvalidRequest, messageOf } from "../errors.ts";

/** What listening threw, as what it means for the settings of address and port; anything else unchanged. */
export function asListeningError(error: unknown, { host, port }: Pick<Config, "host" | "port">): unknown {
  const code = error instanceof Error && "code" in error ? error.code : null;
  const details = (param: string) => ({ param, cause: error });
  switch (code) {
    case "EADDRINUSE":
      return new Conflict(
        `Another program listens on port ${port} of ${host} already. End that one, or choose another port with --port or TUNESMITH_PORT (0 takes a free one).`,
        details("port"),
      );
    case "EACCES":
    case "EPERM":
      return new InvalidRequest(
        `This user may not listen on port ${port}. Choose one from 1024 up with --port or TUNESMITH_PORT.`,
        details("port"),
      );
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EINVAL":
      return new InvalidRequest(
        `"${host}" is no address of this machine (${messageOf(error)}). Choose one with --host or TUNESMITH_HOST: 127.0.0.1 for this machine alone, 0.0.0.0 for all its addresses.`,
        details("host"),
      );
    default:
      return error;
  }
}
