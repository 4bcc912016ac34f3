// The page /docs: an OpenAPI document of ours as HTML, with a style of its own and no script. Pure. How one schema reads,
// documentation-schemas.ts knows.
import type { JsonSchema, OpenApiDocument, OpenApiOperation, OpenApiParameter } from "../wire/openapi.ts";
import { membersTable, typeText } from "./documentation-schemas.ts";
import { escaped, formatted } from "../wire/html-text.ts";

/** Stands in examples for the address that the page was asked at. */
export const ORIGIN = "{origin}";

export const STYLE = `
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d8dee4; --ground: #ffffff; --panel: #f6f8fa;
  --link: #0b5cad; --get: #0b6e4f; --post: #8a4b00; --delete: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #9aa4af; --line: #343b43; --ground: #14171a;
  --panel: #1d2125; --link: #7ab7ff; --get: #63d2a1; --post: #f0b35c; --delete: #ff8a80; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; color: var(--text); background: var(--ground); font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif;
  display: grid; grid-template-columns: 18rem minmax(0, 1fr); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.875em; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1.25rem; border-right: 1px solid var(--line);
  background: var(--panel); font-size: 0.875rem; }
nav h2 { margin: 1.25rem 0 0.25rem; font-size: 0.75rem; letter-spacing: 0.05em; text-transform: uppercase; color: var(--soft); }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: block; padding: 0.15rem 0; color: var(--text); }
main { padding: 2rem 3rem 6rem; max-width: 64rem; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; }
h2 { margin: 3.5rem 0 0; font-size: 1.5rem; line-height: 1.3; }
h3 { margin: 0; font-size: 1.15rem; line-height: 1.4; }
h4 { margin: 1.5rem 0 0.4rem; font-size: 0.8rem; letter-spacing: 0.05em; text-transform: uppercase; color: var(--soft); }
article { margin-top: 1.75rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
p { margin: 0.6rem 0; max-width: 44rem; }
.address { margin: 0.35rem 0 0; overflow-wrap: anywhere; }
.address code { font-size: 0.95rem; }
.method { font-weight: 700; margin-right: 0.5rem; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
.soft { color: var(--soft); }
table { width: 100%; border-collapse: collapse; font-size: 0.925rem; }
th, td { padding: 0.45rem 0.9rem 0.45rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
td:first-child { width: 30%; overflow-wrap: anywhere; }
td td:first-child { width: 34%; }
td p { margin: 0.2rem 0 0; }
.required { display: block; color: var(--soft); font-size: 0.8rem; }
pre { margin: 0; padding: 0.9rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--panel); line-height: 1.5; }
details { margin-top: 0.35rem; }
summary { cursor: pointer; color: var(--link); }
details > table { margin: 0.25rem 0 0.5rem 0; border-left: 2px solid var(--line); }
details > table td, details > table th { padding-left: 0.8rem; }
@media (max-width: 60rem) { body { display: block; } nav { position: static; height: auto; max-height: 40vh; border-right: 0; border-bottom: 1px solid var(--line); }
  main { padding: 1.5rem 1.25rem 4rem; } }
@media print { nav { display: none; } body { display: block; } }
`;

interface Entry {
  method: string;
  path: string;
  operation: OpenApiOperation;
}

export function documentationPage(document: OpenApiDocument): string {
  const { info, tags, components } = document;
  const entries = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
  const groups = tags
    .map(({ name }) => ({ name, entries: entries.filter(({ operation }) => operation.tags.includes(name)) }))
    .filter((group) => group.entries.length > 0);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(info.title)} ${escaped(info.version)}: the API</title>
<style>${STYLE}</style>
</head>
<body>
<nav aria-label="Operations">
<a href="#top"><strong>${escaped(info.title)}</strong> <span class="soft">${escaped(info.version)}</span></a>
${groups.map(navigationGroup).join("\n")}
<h2><a href="#headers">Headers</a></h2>
<h2><a href="#schemas">Schemas</a></h2>
</nav>
<main id="top">
<h1>The API of this server</h1>
<p>${formatted(info.description)}</p>
<p>Send keys as <code>Authorization: Bearer …</code>. Every error is <code>{"error": {"message", "type", "param", "code"}}</code>, with all four members. For programs there is <a href="/openapi.json">openapi.json</a>, in the form of OpenAPI ${escaped(document.openapi)}.</p>
${groups.map((group) => `<section>\n<h2>${escaped(group.name)}</h2>\n${group.entries.map((entry) => article(entry, document)).join("\n")}\n</section>`).join("\n")}
<section id="headers">
<h2>Headers of requests</h2>
<p>Each may be left out. The last one is for requests that create or change something.</p>
${parametersTable(Object.values(components.parameters))}
</section>
<section id="schemas">
<h2>Schemas</h2>
${Object.entries(components.schemas)
  .map(([name, schema]) => schemaArticle(name, schema))
  .join("\n")}
</section>
</main>
</body>
</html>
`;
}

const navigationGroup = ({ name, entries }: { name: string; entries: Entry[] }) =>
  `<h2>${escaped(name)}</h2>\n<ul>${entries
    .map(({ operation }) => `<li><a href="#${operation.operationId}">${escaped(operation.summary)}</a></li>`)
    .join("")}</ul>`;

function article({ method, path, operation }: Entry, { components: { schemas } }: OpenApiDocument): string {
  const { operationId, summary, description, requestBody, responses } = operation;
  const parameters = ownParameters(operation);
  const [type = "", media] = Object.entries(requestBody?.content ?? {})[0] ?? [];
  const body = media === undefined ? null : resolved(media.schema, schemas);
  const errors = Object.entries(responses).filter(([status]) => status !== "200");
  return `<article id="${operationId}">
<h3><a href="#${operationId}">${escaped(summary)}</a></h3>
<p class="address"><code><span class="method ${method}">${method.toUpperCase()}</span>${escaped(path)}</code></p>
${description
  .split("\n\n")
  .map((text) => `<p>${formatted(text)}</p>`)
  .join("\n")}
${parameters.length === 0 ? "" : `<h4>Parameters</h4>\n${parametersTable(parameters)}`}
${body === null ? "" : `<h4>Body <span class="soft">${escaped(type)}</span></h4>\n${membersTable(body)}`}
<h4>Example</h4>
<pre><code>${escaped(exampleText({ method, path, operation }))}</code></pre>
<h4>Answer</h4>
<p>${Object.entries(responses["200"]?.content ?? {})
    .map(([contentType, { schema }]) => answerText(contentType, schema))
    .join("; ")}.</p>
<details><summary>Errors: ${errors.map(([status]) => status).join(", ")}</summary>
<table><tbody>${errors.map(([status, each]) => `<tr><td>${status}</td><td>${escaped(each.description)}</td></tr>`).join("")}</tbody></table></details>
</article>`;
}

function schemaArticle(name: string, schema: JsonSchema): string {
  const table = membersTable(schema);
  return `<article id="schema-${name}">
<h3><a href="#schema-${name}">${escaped(name)}</a></h3>
${table === "" ? `<p>${typeText(schema)}</p>` : table}
</article>`;
}

function answerText(contentType: string, schema: JsonSchema): string {
  const type = `<code>${escaped(contentType)}</code>`;
  if (contentType === "application/json") return `${typeText(schema)} as ${type}`;
  return contentType === "text/event-stream" ? `in a stream, events of ${typeText(schema)} as ${type}` : type;
}

/** Without headers, which many operations have in common and the page tells once. */
function ownParameters({ parameters = [] }: OpenApiOperation): OpenApiParameter[] {
  return parameters.flatMap((each) => ("$ref" in each ? [] : [each]));
}

function parametersTable(parameters: readonly OpenApiParameter[]): string {
  const properties = Object.fromEntries(
    parameters.map(({ name, description, schema }) => [
      name,
      description === undefined ? schema : { ...schema, description },
    ]),
  );
  const required = parameters.filter((each) => each.required).map(({ name }) => name);
  return membersTable({ type: "object", properties, required });
}

/** A command that can be pasted into a shell, but for its ids. */
function exampleText({ method, path, operation }: Entry): string {
  const [type = "", media] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const search = ownParameters(operation)
    .filter((each) => each.example !== undefined)
    .map(({ name, example }) => `${name}=${encodeURIComponent(String(example))}`);
  const url = ORIGIN + path + (search.length === 0 ? "" : `?${search.join("&")}`);
  const lines = [
    method === "get" ? `curl "${url}"` : `curl -X ${method.toUpperCase()} "${url}"`,
    ...(operation.security === undefined ? ['-H "Authorization: Bearer $TUNESMITH_API_KEY"'] : []),
  ];
  if (type === "application/json") {
    const text = JSON.stringify(media?.example, null, 2).replaceAll("'", "'\\''");
    lines.push('-H "Content-Type: application/json"', `-d '${text}'`);
  } else if (type === "multipart/form-data") {
    for (const [name, value] of Object.entries((media?.example ?? {}) as Record<string, unknown>)) {
      lines.push(`-F "${name}=${String(value)}"`);
    }
  }
  return lines.join(" \\\n  ");
}

/** The schema itself where this is a reference to one. */
function resolved(schema: JsonSchema, schemas: Readonly<Record<string, JsonSchema>>): JsonSchema {
  const name = typeof schema["$ref"] === "string" ? (schema["$ref"].split("/").at(-1) ?? "") : null;
  return name === null ? schema : (schemas[name] ?? {});
}
