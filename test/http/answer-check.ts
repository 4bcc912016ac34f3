// Holds every answer of a test server to the table of operations: its members are those of the operation's schema and no others,
// events of streams included, and every error is the envelope. So each HTTP test checks shapes besides what it is about.
import { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import type { FastifyInstance } from "fastify";
import type { z } from "zod";
import { errorEnvelope } from "../../src/wire/error.ts";

/** Why a value is not what a schema says, or null. A schema reads what it knows, so what it does not give back is a stranger. */
function answerFault(schema: z.ZodType, value: unknown): string | null {
  const { success, data, error } = schema.safeParse(value);
  if (!success) return error.message;
  if (isDeepStrictEqual(data, value)) return null;
  return `has members that the schema does not know: ${JSON.stringify(value).slice(0, 2000)}`;
}

/** Watches the answers of an application that has not begun to answer yet. Gives the list that faults are added to. */
export function watchAnswers(app: FastifyInstance): string[] {
  const faults: string[] = [];
  app.addHook("onSend", async (request, reply, payload) => {
    const { operation = null } = request.routeOptions.config;
    const where = `${request.method} ${request.url.slice(0, 100)} (${reply.statusCode})`;
    const judge = (schema: z.ZodType, text: string) => {
      const fault = answerFault(schema, JSON.parse(text));
      if (fault !== null) faults.push(`${where}: ${fault}`);
    };
    if (reply.statusCode >= 400) {
      if (typeof payload === "string") {
        judge(errorEnvelope, payload);
        // What a value is called in JavaScript, where a message forgot to say it in words; unless the request has said it.
        const [name = null] = /\bundefined\b|\[object \w+\]/.exec(payload) ?? [];
        const { body } = request;
        const sent = request.url + JSON.stringify(body instanceof Readable ? null : (body ?? null));
        if (name !== null && !sent.includes(name)) faults.push(`${where}: ${payload}`);
      } else if (request.method !== "HEAD") faults.push(`${where}: is no JSON`);
      return payload;
    }
    if (operation === null || request.method === "HEAD") return payload;
    if (payload instanceof Readable && operation.events !== undefined) {
      return Readable.from(watched(payload, operation.events, judge), { objectMode: false });
    }
    if (typeof payload === "string" && typeof operation.answer !== "string") judge(operation.answer, payload);
    return payload;
  });
  return faults;
}

async function* watched(
  stream: Readable,
  schema: z.ZodType,
  judge: (schema: z.ZodType, text: string) => void,
): AsyncGenerator<Buffer> {
  let text = "";
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    text += chunk.toString();
    yield chunk;
  }
  for (const [, data = ""] of text.matchAll(/^data: (.*)$/gm)) {
    if (data !== "[DONE]") judge(data.startsWith('{"error"') ? errorEnvelope : schema, data);
  }
}
