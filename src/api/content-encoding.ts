// The header Content-Encoding. Bodies are read as they come: one that says it is compressed is refused, for it would be taken for
// what it is not, and a label that is wrong would be ignored.
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest } from "../errors.ts";

/** The code of this refusal, whose status is 415. */
export const UNSUPPORTED_ENCODING = "unsupported_content_encoding";

/** Throws InvalidRequest for a body in any encoding but `identity`, which is none. */
export function checkContentEncoding(request: FastifyRequest, reply: FastifyReply): void {
  const {
    "content-encoding": given = "",
    "content-length": length,
    "transfer-encoding": chunks,
  } = request.headers;
  const hasBody = chunks !== undefined || Number(length ?? 0) > 0;
  const encodings = given.split(",").map((each) => each.trim().toLowerCase());
  if (!hasBody || encodings.every((each) => each === "" || each === "identity")) return;
  void reply.header("accept-encoding", "identity");
  throw new InvalidRequest(
    `Unsupported 'Content-Encoding': '${given.slice(0, 80)}'. Bodies are read as they are sent: send this one uncompressed, without the header.`,
    { code: UNSUPPORTED_ENCODING },
  );
}
