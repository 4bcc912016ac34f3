// `tunesmith export` and `tunesmith verify`: a fine-tuned model's files in a folder of this machine, and the check of such a folder
// against its certificate, which needs no server.
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { InvalidRequest, Unavailable } from "../errors.ts";
import { unpackInto } from "../export/archive.ts";
import { verifyExport } from "../export/verify.ts";
import type { ExportCertificate } from "../wire/export.ts";
import { addressPart } from "./address.ts";
import { formatCount, formatPairs, printAnswer, printNote, type CommandContext } from "./terminal.ts";
import { EXIT, type Terminal } from "./terminal.ts";

/** Puts the export at a folder that is not there yet or empty. What the server sends is checked before anything has that name. */
export async function exportModel(
  context: CommandContext,
  model: string,
  options: { format: string; precision?: string; out: string },
): Promise<void> {
  const directory = folderNamed(options.out);
  const path = addressPart("a model's name", model);
  await requireFree(directory);
  printNote(
    context,
    "The server makes the files and compares them with the trained model; this may take minutes.",
  );
  const query = new URLSearchParams({
    format: options.format,
    ...(options.precision === undefined ? {} : { precision: options.precision }),
  });
  const answer = await context.client.download(`/tunesmith/models/${path}/export?${query.toString()}`);
  const incoming = join(dirname(directory), `.${basename(directory)}.${process.pid}.incoming`);
  await mkdir(incoming, { recursive: true });
  let certificate: ExportCertificate;
  try {
    const archive = Readable.fromWeb(answer.body ?? new Blob([]).stream());
    await unpackInto(incoming, archive, { signal: context.terminal.signal });
    const verified = await verifyExport(incoming, context.terminal.signal);
    if (verified.faults.length > 0)
      throw new Unavailable(
        `What arrived is not what was sent: ${verified.faults.join(" ")} Export the model again.`,
      );
    certificate = verified.certificate;
    await rmdir(directory).catch(() => undefined);
    await rename(incoming, directory);
  } catch (error) {
    await rm(incoming, { recursive: true, force: true });
    throw error;
  }
  printAnswer(context, { directory, certificate }, () => `${directory}\n${summaryOf(certificate)}`);
}

/** An empty name would be the folder one is in. */
function folderNamed(path: string): string {
  if (path === "") throw new InvalidRequest("Expected the name of a folder, found an empty one.");
  return resolve(path);
}

/** Throws InvalidRequest where the folder holds anything, or is none. */
async function requireFree(directory: string): Promise<void> {
  let found: string[];
  try {
    found = await readdir(directory);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return;
    throw new InvalidRequest(`${directory} is no folder. Name one that is not there yet.`, { cause: error });
  }
  if (found.length === 0) return;
  throw new InvalidRequest(
    `${directory} is not empty: it has ${found.length === 1 ? "1 entry" : `${found.length} entries`}. Name a folder that is not there yet, so that nothing is overwritten.`,
  );
}

/** Exit code 1 when a file is missing, too much or changed. */
export async function verify(directory: string, terminal: Terminal, json: boolean): Promise<number> {
  const folder = folderNamed(directory);
  const { certificate, faults } = await verifyExport(folder, terminal.signal);
  const { model, format, precision } = certificate;
  const text =
    faults.length === 0
      ? `All ${certificate.files.length} files are those of the certificate.\n${summaryOf(certificate)}`
      : `Not what the certificate says:\n${faults.map((fault) => `  ${fault}\n`).join("")}`;
  const answer = {
    directory: folder,
    verified: faults.length === 0,
    faults,
    model,
    format,
    precision,
  };
  terminal.stdout.write(json ? `${JSON.stringify(answer)}\n` : text);
  return faults.length === 0 ? EXIT.success : EXIT.failure;
}

function summaryOf({ model, format, precision, files, distance }: ExportCertificate): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return formatPairs([
    ["model", model],
    ["format", precision === null ? format : `${format}, ${precision}`],
    ["files", `${files.length}, ${formatCount(bytes)} bytes`],
    [
      "greedy tokens equal",
      `${distance.equal_tokens} of ${distance.tokens}, over ${distance.prompts} prompts`,
    ],
    ["largest logit difference", shortNumber(distance.max_logit_difference)],
    ["mean KL divergence", `${shortNumber(distance.mean_kl)} nats a token`],
  ]);
}

const shortNumber = (value: number): string => (value === 0 ? "0" : value.toPrecision(2));
