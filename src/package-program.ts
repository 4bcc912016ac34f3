// Files of this package that run as processes of their own: TypeScript through tsx in a checkout, JavaScript in a built package.
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

/** An entry file and the options of node in front of it. */
export interface Program {
  entry: string;
  nodeOptions: readonly string[];
}

/** `path`: below src, without extension ("training/trainer"). */
export function packageProgram(path: string): Program {
  const inSource = import.meta.url.endsWith(".ts");
  const entry = fileURLToPath(new URL(`./${path}.${inSource ? "ts" : "js"}`, import.meta.url));
  if (!inSource) return { entry, nodeOptions: [] };
  // Resolved here, not by the child: `--import tsx` looks from the working directory, which may be anywhere.
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  return { entry, nodeOptions: ["--import", tsx] };
}
