// Operations of OpenAI's that lie among those of this server and that it does not have. They answer 404 as every address that is
// not there, but say so: without this, some would be taken for an object's address, with a method that it does not have.
import type { FastifyInstance } from "fastify";
import { NotFound } from "../errors.ts";

const NOT_OFFERED = [
  {
    method: "POST",
    url: "/v1/responses/compact",
    advice:
      "Nothing is compacted here. Send fewer items, or go on from a response by 'previous_response_id'.",
  },
  {
    method: "GET",
    url: "/v1/fine_tuning/model_limits",
    advice:
      "Jobs have no limits here: each waits until the ones before it have ended. GET /v1/fine_tuning/jobs lists them.",
  },
] as const;

export function addNotOffered(app: FastifyInstance): void {
  for (const { method, url, advice } of NOT_OFFERED) {
    app.route({
      method,
      url,
      handler: async () => {
        throw new NotFound(`This server does not offer ${method} ${url}. ${advice}`, {
          code: "operation_not_offered",
        });
      },
    });
  }
}
