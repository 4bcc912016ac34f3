// Every list, by one set of rules: pages, cursors, limits, order, and deletions on the way.
import { expect, describe, it, test } from "vitest";
import { OPERATIONS } from "../../src/wire/operations.ts";
import { isList } from "../../src/wire/operations/operation.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { BASE_MODEL, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface ListCase {
  /** The operation's id. */
  id: string;
  /** The largest page. */
  maxLimit: number;
  /** Whether the envelope has first_id and last_id. */
  hasIds: boolean;
  /** The address of a list that nothing was added to. */
  url: (server: TestServer) => Promise<string>;
  /** Whether it has no elements then; some objects come with some. */
  startsEmpty: boolean;
  /** Adds three elements, or two where an object has no more; left out where it is made with three. */
  fill?: (server: TestServer, url: string) => Promise<void>;
  /** The id of an element of another list of the kind: of another project, or of another parent. */
  foreign?: (server: TestServer) => Promise<string>;
  /** What a list comes in unless it is asked otherwise, and the opposite. */
  order?: { standard: string; reversed: string };
  /** Where elements can be deleted. */
  remove?: (server: TestServer, id: string, url: string) => Promise<unknown>;
}

/** A key of the settings, for the servers on which keys are made too. */
const OWNER = "owner-key-of-the-settings";
const headers = { authorization: `Bearer ${OWNER}` };
const pageServer = () => testServer({ apiKeys: [OWNER] });

const post = async (server: TestServer, url: string, payload: object, more: Record<string, string> = {}) => {
  const answer = await server.app.inject({ method: "POST", url, payload, headers: { ...headers, ...more } });
  expect(answer.statusCode, answer.body).toBe(200);
  return answer.json<{ id: string }>().id;
};
const file = async (server: TestServer, purpose = "fine-tune", more: Record<string, string> = {}) =>
  (await upload(server, "{}\n", { purpose, headers: { ...headers, ...more } })).id;
const thrice = async (make: (i: number) => Promise<unknown>) => {
  for (let i = 0; i < 3; i++) await make(i);
};
const project = (server: TestServer, name: string) => post(server, "/tunesmith/projects", { name });
const ofOther = async (server: TestServer) => ({ "openai-project": await project(server, "other") });
const job = async (server: TestServer, members: object = {}, more: Record<string, string> = {}) => {
  const body = { model: BASE_MODEL, training_file: await file(server, "fine-tune", more), ...members };
  return post(server, "/v1/fine_tuning/jobs", body, more);
};
const batch = async (server: TestServer, more: Record<string, string> = {}) => {
  const body = { endpoint: "/v1/chat/completions", completion_window: "24h" };
  return post(server, "/v1/batches", { ...body, input_file_id: await file(server, "batch", more) }, more);
};
const THREE = ["One", "Two", "Three"].map((content) => ({ role: "user", content }));
const storedCompletion = (server: TestServer, more: Record<string, string> = {}) =>
  post(server, "/v1/chat/completions", { model: BASE_MODEL, messages: THREE, store: true }, more);
const response = (server: TestServer) => post(server, "/v1/responses", { model: BASE_MODEL, input: THREE });
const permissionsUrl = async (server: TestServer) => {
  const { model } = await succeedJob(server, await job(server));
  return `/v1/fine_tuning/checkpoints/${encodeURIComponent(model)}/permissions`;
};
const jobOf = (url: string) => url.split("/").at(-2) ?? "";
const firstIdAt = async (server: TestServer, url: string) =>
  (await read(server, url)).data[0]?.id ?? expect.fail(`${url} is empty`);
const remove = async (server: TestServer, url: string) => {
  expect((await server.app.inject({ method: "DELETE", url, headers })).statusCode).toBe(200);
};

const aliasUrl = async (server: TestServer, name: string) => {
  const url = `/tunesmith/aliases/${name}`;
  await post(server, url, { model: BASE_MODEL });
  return url;
};
const shadowed = async (server: TestServer, name: string) => {
  const url = await aliasUrl(server, name);
  await post(server, `${url}/candidate`, { model: "gpt-4o-mini", mode: "shadow", percent: 100 });
  return `${url}/comparisons`;
};
const compare = (server: TestServer, url: string) =>
  server.stores.comparisons.add(
    { projectId: DEFAULT_PROJECT, name: url.split("/").at(-2) ?? "" },
    {
      ...{ requestId: "req_1", model: BASE_MODEL, candidate: "gpt-4o-mini", equal: true, similarity: 1 },
      ...{ question: "a", answer: "b", candidateAnswer: "b" },
      ...{ completionTokens: 1, candidateCompletionTokens: 1 },
    },
  );

const LISTS: readonly ListCase[] = [
  {
    id: "listFiles",
    maxLimit: 10_000,
    hasIds: true,
    url: async () => "/v1/files",
    startsEmpty: true,
    fill: (server) => thrice(() => file(server)),
    foreign: async (server) => file(server, "fine-tune", await ofOther(server)),
    order: { standard: "desc", reversed: "asc" },
    remove: (server, id) => remove(server, `/v1/files/${id}`),
  },
  {
    id: "listPaginatedFineTuningJobs",
    maxLimit: 1000,
    hasIds: false,
    url: async () => "/v1/fine_tuning/jobs",
    startsEmpty: true,
    fill: (server) => thrice(() => job(server)),
    foreign: async (server) => job(server, {}, await ofOther(server)),
  },
  {
    id: "listFineTuningEvents",
    maxLimit: 1000,
    hasIds: false,
    url: async (server) => `/v1/fine_tuning/jobs/${await job(server)}/events`,
    startsEmpty: false,
    fill: async (server, url) => void (await succeedJob(server, jobOf(url))),
    foreign: async (server) => firstIdAt(server, `/v1/fine_tuning/jobs/${await job(server)}/events`),
  },
  {
    id: "listFineTuningJobCheckpoints",
    maxLimit: 1000,
    hasIds: true,
    url: async (server) => `/v1/fine_tuning/jobs/${await job(server)}/checkpoints`,
    startsEmpty: true,
    fill: async (server, url) => void (await succeedJob(server, jobOf(url))),
    foreign: async (server) => {
      const id = await job(server, { suffix: "other" });
      await succeedJob(server, id);
      return firstIdAt(server, `/v1/fine_tuning/jobs/${id}/checkpoints`);
    },
  },
  {
    id: "listFineTuningCheckpointPermissions",
    maxLimit: 1000,
    hasIds: true,
    url: permissionsUrl,
    startsEmpty: true,
    fill: (server, url) =>
      thrice(async (i) => post(server, url, { project_ids: [await project(server, `p${i}`)] })),
    order: { standard: "descending", reversed: "ascending" },
    remove: (server, id, url) => remove(server, `${url}/${id}`),
  },
  {
    id: "listBatches",
    maxLimit: 100,
    hasIds: true,
    url: async () => "/v1/batches",
    startsEmpty: true,
    fill: (server) => thrice(() => batch(server)),
    foreign: async (server) => batch(server, await ofOther(server)),
  },
  {
    id: "listChatCompletions",
    maxLimit: 100,
    hasIds: true,
    url: async () => "/v1/chat/completions",
    startsEmpty: true,
    fill: (server) => thrice(() => storedCompletion(server)),
    foreign: async (server) => storedCompletion(server, await ofOther(server)),
    order: { standard: "desc", reversed: "asc" },
    remove: (server, id) => remove(server, `/v1/chat/completions/${id}`),
  },
  {
    id: "getChatCompletionMessages",
    maxLimit: 100,
    hasIds: true,
    url: async (server) => `/v1/chat/completions/${await storedCompletion(server)}/messages`,
    startsEmpty: false,
    foreign: async (server) =>
      firstIdAt(server, `/v1/chat/completions/${await storedCompletion(server)}/messages`),
    order: { standard: "asc", reversed: "desc" },
  },
  {
    id: "listInputItems",
    maxLimit: 100,
    hasIds: true,
    url: async (server) => `/v1/responses/${await response(server)}/input_items`,
    startsEmpty: false,
    foreign: async (server) => firstIdAt(server, `/v1/responses/${await response(server)}/input_items`),
    order: { standard: "desc", reversed: "asc" },
  },
  {
    id: "listAliasMoves",
    maxLimit: 1000,
    hasIds: true,
    url: async (server) => `${await aliasUrl(server, "triage")}/moves`,
    startsEmpty: false,
    fill: (server, url) =>
      thrice((i) =>
        post(server, url.replace("/moves", ""), { model: i % 2 === 0 ? "gpt-4o-mini" : BASE_MODEL }),
      ),
    foreign: async (server) => firstIdAt(server, `${await aliasUrl(server, "other")}/moves`),
  },
  {
    id: "listAliasComparisons",
    maxLimit: 1000,
    hasIds: true,
    url: (server) => shadowed(server, "triage"),
    startsEmpty: true,
    fill: (server, url) => thrice(() => compare(server, url)),
    foreign: async (server) => {
      const url = await shadowed(server, "other");
      await compare(server, url);
      return firstIdAt(server, url);
    },
  },
  {
    id: "listKeys",
    maxLimit: 1000,
    hasIds: true,
    url: async (server) => `/tunesmith/keys?project_id=${await project(server, "own")}`,
    startsEmpty: true,
    fill: (server, url) =>
      thrice((i) => post(server, "/tunesmith/keys", { name: `k${i}`, project_id: url.split("=").at(-1) })),
  },
  {
    id: "listProjects",
    maxLimit: 1000,
    hasIds: true,
    url: async () => "/tunesmith/projects",
    startsEmpty: false,
    fill: (server) => thrice((i) => project(server, `p${i}`)),
  },
];

/** Lists that always come whole. */
const WHOLE = ["listModels", "listWebhooks", "listAliases"];

interface Answer {
  data: { id: string }[];
  has_more: boolean;
  first_id?: string | null;
  last_id?: string | null;
}

async function ask(server: TestServer, url: string, query: Record<string, string> = {}) {
  const [path = "", search = ""] = url.split("?");
  return server.app.inject({
    url: path,
    query: { ...Object.fromEntries(new URLSearchParams(search)), ...query },
    headers,
  });
}

async function read(server: TestServer, url: string, query: Record<string, string> = {}): Promise<Answer> {
  const answer = await ask(server, url, query);
  expect(answer.statusCode, answer.body).toBe(200);
  return answer.json<Answer>();
}

const idsOf = ({ data }: Answer) => data.map(({ id }) => id);

async function refusal(server: TestServer, url: string, query: Record<string, string>) {
  const answer = await ask(server, url, query);
  expect(answer.statusCode, JSON.stringify(query)).toBe(400);
  return answer.json<{ error: { param: string | null } }>().error.param;
}

test("every list of the table of operations is tested here", () => {
  const lists = OPERATIONS.filter(isList).map(({ id }) => id);
  expect([...LISTS.map(({ id }) => id), ...WHOLE].sort()).toEqual(lists.sort());
});

describe.each(LISTS)("$id", (list) => {
  const filled = async () => {
    const server = await pageServer();
    const url = await list.url(server);
    const before = await read(server, url);
    await list.fill?.(server, url);
    const all = idsOf(await read(server, url, { limit: String(list.maxLimit) }));
    return { server, url, before, all };
  };

  it("begins as it should, and holds what is added on one page", async () => {
    const { server, url, before, all } = await filled();
    if (list.startsEmpty) expect(before).toMatchObject({ data: [], has_more: false });
    if (list.startsEmpty && list.hasIds) expect(before).toMatchObject({ first_id: null, last_id: null });
    expect(all.length).toBeGreaterThanOrEqual(list.fill === undefined ? 3 : before.data.length + 2);
    const page = await read(server, url, { limit: String(all.length) });
    expect(idsOf(page)).toEqual(all);
    expect(page.has_more).toBe(false);
    if (list.hasIds) expect([page.first_id, page.last_id]).toEqual([all[0], all.at(-1)]);
    else expect(page).not.toHaveProperty("first_id");
  });

  it("comes in pages that together are the whole, each element once", async () => {
    const { server, url, all } = await filled();
    const walked: string[] = [];
    for (let page = 0; page <= all.length; page++) {
      const after = walked.at(-1);
      const { data, has_more: hasMore } = await read(server, url, {
        limit: "1",
        ...(after === undefined ? {} : { after }),
      });
      walked.push(...data.map(({ id }) => id));
      expect(hasMore).toBe(walked.length < all.length);
      if (!hasMore) break;
    }
    expect(walked).toEqual(all);
    expect(await read(server, url, { after: all.at(-1) ?? "" })).toMatchObject({ data: [], has_more: false });
  });

  it("keeps to its limits", async () => {
    const { server, url, all } = await filled();
    for (const limit of ["0", "-1", String(list.maxLimit + 1), "many", "1.5", "", "1e1", " 1"]) {
      expect(await refusal(server, url, { limit }), limit).toBe("limit");
    }
    expect(idsOf(await read(server, url, { limit: "1" }))).toEqual(all.slice(0, 1));
    expect(idsOf(await read(server, url, { limit: String(list.maxLimit) }))).toEqual(all);
  });

  it("refuses cursors that it does not have", async () => {
    const { server, url, all } = await filled();
    for (const after of ["unknown", "", `${all[0]}x`]) {
      expect(await refusal(server, url, { after }), after).toBe("after");
    }
    if (list.foreign === undefined) return;
    expect(await refusal(server, url, { after: await list.foreign(server) })).toBe("after");
  });

  if (list.order)
    it("comes in either order", async () => {
      const { server, url, all } = await filled();
      const { standard = "", reversed = "" } = list.order ?? {};
      expect(idsOf(await read(server, url, { order: standard }))).toEqual(all);
      expect(idsOf(await read(server, url, { order: reversed }))).toEqual(all.toReversed());
      const after = all.at(-1) ?? "";
      expect(idsOf(await read(server, url, { order: reversed, after }))).toEqual(all.toReversed().slice(1));
      expect(await refusal(server, url, { order: "sideways" })).toBe("order");
    });

  if (!list.order)
    it("has no order to choose", async () => {
      const { server, url } = await filled();
      expect(await refusal(server, url, { order: "asc" })).toBe("order");
    });

  if (list.remove)
    it("goes on behind an element that was deleted", async () => {
      const { server, url, all } = await filled();
      const [first = "", second = "", ...rest] = all;
      await list.remove?.(server, second, url);
      expect(idsOf(await read(server, url))).toEqual([first, ...rest]);
      expect(idsOf(await read(server, url, { after: first }))).toEqual(rest);
    });
});

test("a list of files can be walked while it is deleted", async () => {
  const server = await pageServer();
  await thrice(() => file(server));
  const [first = "", ...rest] = idsOf(await read(server, "/v1/files"));
  await remove(server, `/v1/files/${first}`);
  expect(idsOf(await read(server, "/v1/files", { after: first }))).toEqual(rest);
});

test("revoked keys stay in their list", async () => {
  const server = await pageServer();
  const id = await post(server, "/tunesmith/keys", {});
  await remove(server, `/tunesmith/keys/${id}`);
  expect(idsOf(await read(server, "/tunesmith/keys"))).toEqual([id]);
});
