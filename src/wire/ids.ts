// The formats of object ids, by OpenAI's habit: a prefix and random characters. Ids are opaque to clients, but people write
// regular expressions for them, so the lengths and alphabets are kept. Randomness is the operating system's.
import { randomBytes } from "node:crypto";

const ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** Without the look-alikes 0, O, I and l. */
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const HEX = "0123456789abcdef";

const FORMATS = {
  file: { prefix: "file-", alphabet: BASE58, length: 22 },
  job: { prefix: "ftjob-", alphabet: ALPHANUMERIC, length: 24 },
  event: { prefix: "ftevent-", alphabet: ALPHANUMERIC, length: 24 },
  checkpoint: { prefix: "ftckpt_", alphabet: ALPHANUMERIC, length: 24 },
  chatCompletion: { prefix: "chatcmpl-", alphabet: ALPHANUMERIC, length: 29 },
  completion: { prefix: "cmpl-", alphabet: ALPHANUMERIC, length: 29 },
  response: { prefix: "resp_", alphabet: HEX, length: 48 },
  /** A message among a response's items, of input or output. */
  responseMessage: { prefix: "msg_", alphabet: HEX, length: 48 },
  /** A function call or its output among a response's items; the two share a `call_id`. */
  functionCall: { prefix: "fc_", alphabet: HEX, length: 48 },
  toolCall: { prefix: "call_", alphabet: ALPHANUMERIC, length: 24 },
  request: { prefix: "req_", alphabet: HEX, length: 32 },
  batch: { prefix: "batch_", alphabet: HEX, length: 32 },
  /** One line's result in a batch's output file. */
  batchRequest: { prefix: "batch_req_", alphabet: HEX, length: 32 },
  upload: { prefix: "upload_", alphabet: HEX, length: 32 },
  uploadPart: { prefix: "part_", alphabet: HEX, length: 32 },
  webhook: { prefix: "webhook_", alphabet: HEX, length: 32 },
  webhookEvent: { prefix: "evt_", alphabet: HEX, length: 32 },
  /** One event on its way to one webhook. */
  webhookDelivery: { prefix: "wh_", alphabet: HEX, length: 32 },
  project: { prefix: "proj_", alphabet: ALPHANUMERIC, length: 24 },
  apiKey: { prefix: "key_", alphabet: ALPHANUMERIC, length: 24 },
  /** The secret a client sends; 48 characters hold 285 bits, so its hash needs no salt and no slow function. */
  apiKeySecret: { prefix: "sk-tunesmith-", alphabet: ALPHANUMERIC, length: 48 },
  aliasMove: { prefix: "move_", alphabet: ALPHANUMERIC, length: 24 },
  aliasComparison: { prefix: "cmp_", alphabet: ALPHANUMERIC, length: 24 },
  checkpointPermission: { prefix: "cp_", alphabet: ALPHANUMERIC, length: 24 },
  /** The last part of a fine-tuned model's name; the rest of the name is built in model-names.ts. */
  model: { prefix: "", alphabet: ALPHANUMERIC, length: 8 },
} as const;

/** The project of a server on which nobody has made projects: every object belongs to one. */
export const DEFAULT_PROJECT = "proj_default00000000000000000";

export type IdKind = keyof typeof FORMATS;

/** A new random id of the given kind. */
export function newId(kind: IdKind): string {
  const { prefix, alphabet, length } = FORMATS[kind];
  return prefix + randomText(alphabet, length);
}

/** Whether a text could be an id of this kind; a text that could not is never looked up, on disk least of all. */
export function isId(kind: IdKind, text: string): boolean {
  const { prefix, alphabet, length } = FORMATS[kind];
  if (!text.startsWith(prefix) || text.length !== prefix.length + length) return false;
  return [...text.slice(prefix.length)].every((character) => alphabet.includes(character));
}

/** Uniform characters: bytes beyond the largest multiple of the alphabet's size are thrown away, or some letters would come more often. */
function randomText(alphabet: string, length: number): string {
  const fairLimit = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(length)) {
      if (byte < fairLimit && text.length < length) text += alphabet.charAt(byte % alphabet.length);
    }
  }
  return text;
}
