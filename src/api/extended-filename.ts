// The `filename*` of a form's file (RFC 5987), which stands beside or in place of `filename` and says the name in UTF-8. The form
// parser takes whichever comes last, or the plain one. Pure: it is shown the form's bytes as they arrive and keeps the first few.

/** Room for all members before the file and its own header; where it is not enough, the plain name counts. */
const MAX_SEEN_BYTES = 64 * 1024;

const END_OF_HEADER = Buffer.from("\r\n\r\n");

/** Watches a form go by until the header of its first file has been seen. */
export class ExtendedFilename {
  /** Null: there is none, or it is broken. */
  name: string | null = null;
  readonly #delimiter: Buffer | null;
  #seen: Buffer = Buffer.alloc(0);
  #isDone = false;

  constructor(contentType: string | undefined) {
    const [, quoted, plain] = /\bboundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType ?? "") ?? [];
    const boundary = quoted ?? plain;
    this.#delimiter = boundary === undefined ? null : Buffer.from(`--${boundary}`, "latin1");
  }

  see(chunk: Buffer): void {
    if (this.#isDone || this.#delimiter === null) return;
    // The first file's header lies in the first bytes of whichever chunk completes it.
    this.#seen = Buffer.concat([this.#seen, chunk.subarray(0, MAX_SEEN_BYTES - this.#seen.length)]);
    for (const header of headersOf(this.#seen, this.#delimiter)) {
      const disposition = dispositionOf(header);
      if (!disposition.has("filename") && !disposition.has("filename*")) continue;
      this.name = extendedName(disposition.get("filename*") ?? "");
      this.#isDone = true;
      break;
    }
    if (this.#seen.length >= MAX_SEEN_BYTES) this.#isDone = true;
    if (this.#isDone) this.#seen = Buffer.alloc(0);
  }
}

/** The headers of the parts that have begun. */
function* headersOf(form: Buffer, delimiter: Buffer): Generator<string> {
  let start = form.indexOf(delimiter);
  while (start !== -1) {
    const end = form.indexOf(END_OF_HEADER, start);
    if (end === -1) return;
    yield form.toString("latin1", start + delimiter.length, end);
    start = form.indexOf(delimiter, end);
  }
}

/** The parameters of a part's Content-Disposition, in small letters; what looks like one inside quotes is text. */
function dispositionOf(header: string): Map<string, string> {
  const [, disposition = ""] = /^content-disposition:(.*)/im.exec(header) ?? [];
  const parameters = disposition.matchAll(/;\s*([^\s;="]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)(?:"|$)|([^;]*))/g);
  return new Map(
    Array.from(parameters, ([, name = "", quoted, plain = ""]) => [
      name.toLowerCase(),
      quoted ?? plain.trim(),
    ]),
  );
}

function extendedName(value: string): string | null {
  const [, charset = "", encoded = ""] = /^([\w.:-]+)'[^']*'([^;"\s]*)/.exec(value) ?? [];
  if (encoded === "") return null;
  const bytes = Buffer.from(
    encoded.replaceAll(/%([0-9a-f]{2})/gi, (_all, hex: string) => String.fromCharCode(parseInt(hex, 16))),
    "latin1",
  );
  if (/^iso-8859-1$/i.test(charset)) return bytes.toString("latin1");
  try {
    return /^utf-?8$/i.test(charset) ? new TextDecoder("utf-8", { fatal: true }).decode(bytes) : null;
  } catch {
    return null; // percent signs that are no UTF-8
  }
}
