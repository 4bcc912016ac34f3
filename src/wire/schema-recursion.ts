// Schemas that refer to themselves, where that leads nowhere: round and round without a value in between, or to values that
// contain another one for ever.

type Json = Record<string, unknown>;

export interface RecursionFault {
  path: readonly string[];
  clause: string;
}

/** Null where every schema has a value that ends. The parts of `root` are known to be well formed. */
export function recursionFault(root: Json): RecursionFault | null {
  const named = new Map<string, { schema: Json; path: string[] }>();
  for (const key of ["$defs", "definitions"]) {
    for (const [name, schema] of Object.entries((root[key] ?? {}) as Record<string, Json>))
      named.set(`#/${key}/${name}`, { schema, path: [key, name] });
  }
  named.set("#", { schema: root, path: [] });
  for (const [name, { schema, path }] of named) {
    if (leadsTo(name, schema, named))
      return { path, clause: "refers to itself with no object or array in between" };
  }
  const finite = new Set<string>();
  for (let before = -1; before < finite.size;) {
    before = finite.size;
    for (const [name, { schema }] of named) if (canEnd(schema, finite)) finite.add(name);
  }
  for (const [name, { path }] of named) {
    if (!finite.has(name))
      return { path, clause: "has no value that ends: it requires a value that requires another, for ever" };
  }
  return null;
}

/** The schemas that a value of this one is directly one of. */
function directReferences(schema: Json): string[] {
  if (typeof schema["$ref"] === "string") return [schema["$ref"]];
  return Array.isArray(schema["anyOf"])
    ? schema["anyOf"].flatMap((branch) => directReferences(branch as Json))
    : [];
}

function leadsTo(name: string, schema: Json, named: ReadonlyMap<string, { schema: Json }>): boolean {
  const seen = new Set<string>();
  const queue = directReferences(schema);
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    if (next === name) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    queue.push(...directReferences(named.get(next)?.schema ?? {}));
  }
  return false;
}

/** Whether there is a value that ends, if there is one of each schema in `finite`. */
function canEnd(schema: Json, finite: ReadonlySet<string>): boolean {
  if (typeof schema["$ref"] === "string") return finite.has(schema["$ref"]);
  if (Array.isArray(schema["anyOf"])) return schema["anyOf"].some((branch) => canEnd(branch as Json, finite));
  if ("enum" in schema || "const" in schema) return true;
  const types = [schema["type"]].flat();
  return types.some((type) => {
    if (type === "object") {
      const properties = (schema["properties"] ?? {}) as Record<string, Json>;
      return ((schema["required"] ?? []) as string[]).every((name) => canEnd(properties[name] ?? {}, finite));
    }
    if (type === "array" && Number(schema["minItems"] ?? 0) > 0) {
      return canEnd((schema["items"] ?? {}) as Json, finite);
    }
    return true;
  });
}
