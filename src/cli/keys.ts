// `tunesmith keys` and `tunesmith projects`: who may use the server. A key's secret is printed once, when it is made.
import type { ListWithIds } from "../wire/list.ts";
import type { KeyDeleted, KeyObject, NewKeyObject, ProjectObject } from "../wire/keys.ts";
import { addressPart } from "./address.ts";
import { moreNote, noneNote } from "./list-text.ts";
import { formatTable, formatTime, printAnswer, printNote, type CommandContext } from "./terminal.ts";

export interface CreateKeyOptions {
  name?: string;
  project?: string;
  scopes?: string[];
  requestsPerMinute?: number;
  tokensPerMinute?: number;
}

export async function keysCreate(context: CommandContext, options: CreateKeyOptions): Promise<void> {
  const key = await context.client.post<NewKeyObject>("/tunesmith/keys", {
    name: options.name,
    project_id: options.project,
    scopes: options.scopes,
    requests_per_minute: options.requestsPerMinute,
    tokens_per_minute: options.tokensPerMinute,
  });
  printAnswer(context, key, () => `${key.key}\n`);
  printNote(
    context,
    `Key ${key.id} of ${key.project_id}, for ${key.scopes.join(", ")}. It is shown this once and not kept: store it now.`,
  );
}

export async function keysList(
  context: CommandContext,
  options: { project?: string; limit?: number; after?: string },
): Promise<void> {
  const { project, ...page } = options;
  const list = await context.client.get<ListWithIds<KeyObject>>("/tunesmith/keys", {
    ...page,
    project_id: project,
  });
  printAnswer(context, list, () => {
    if (list.data.length === 0) {
      const filter = project === undefined ? undefined : `of the project ${project}`;
      const firstStep = 'Make one with "tunesmith keys create --scopes admin".';
      return noneNote("keys", { after: page.after, filter }, firstStep);
    }
    const columns = [
      { heading: "ID" },
      { heading: "NAME" },
      { heading: "BEGINS WITH" },
      { heading: "PROJECT" },
      { heading: "SCOPES" },
      { heading: "LIMITS A MINUTE" },
      { heading: "LAST USED" },
      { heading: "STATUS" },
    ];
    const rows = list.data.map((key) => [
      key.id,
      key.name ?? "-",
      key.prefix,
      key.project_id,
      key.scopes.join(","),
      limitsText(key),
      formatTime(key.last_used_at),
      key.revoked_at === null ? "good" : `revoked ${formatTime(key.revoked_at)}`,
    ]);
    const command = project === undefined ? "keys list" : `keys list --project ${project}`;
    return formatTable(columns, rows) + moreNote(list.has_more, list.last_id, command);
  });
}

export async function keysRevoke(context: CommandContext, id: string): Promise<void> {
  const answer = await context.client.delete<KeyDeleted>(`/tunesmith/keys/${addressPart("an id", id)}`);
  printAnswer(context, answer, () => `Revoked ${answer.id}\n`);
}

export async function projectsCreate(
  context: CommandContext,
  name: string,
  options: { id?: string },
): Promise<void> {
  const project = await context.client.post<ProjectObject>("/tunesmith/projects", { name, id: options.id });
  printAnswer(context, project, () => `${project.id}  ${project.name}\n`);
}

export async function projectsList(
  context: CommandContext,
  options: { limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<ListWithIds<ProjectObject>>("/tunesmith/projects", { ...options });
  printAnswer(context, list, () => {
    const columns = [{ heading: "ID" }, { heading: "NAME" }, { heading: "CREATED" }];
    const rows = list.data.map((project) => [project.id, project.name, formatTime(project.created_at)]);
    if (list.data.length === 0) {
      return noneNote("projects", options, 'Make one with "tunesmith projects create NAME".');
    }
    return formatTable(columns, rows) + moreNote(list.has_more, list.last_id, "projects list");
  });
}

function limitsText(key: KeyObject): string {
  const parts = [
    ...(key.requests_per_minute === null ? [] : [`${key.requests_per_minute} requests`]),
    ...(key.tokens_per_minute === null ? [] : [`${key.tokens_per_minute} tokens`]),
  ];
  return parts.length === 0 ? "-" : parts.join(", ");
}
