// Lending a model to another project: the official client creates, lists and deletes permissions, and they are what lets the
// other project use the model.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { BASE_MODEL, createKey, succeedJob, testServer, upload } from "./harness.ts";

const ADMIN = "sk-of-the-settings";
const messages = [{ role: "user" as const, content: "Hi" }];

/** A model and a checkpoint of the default project, an administrator, and a client of the project proj_two. */
async function lender() {
  const server = await testServer({ apiKeys: [ADMIN] });
  for (const id of ["proj_two", "proj_three"]) await server.stores.projects.create({ id, name: id });
  const headers = { authorization: `Bearer ${ADMIN}` };
  const file = await upload(server, undefined, { headers });
  const payload = { model: BASE_MODEL, training_file: file.id };
  const job = await server.app.inject({ method: "POST", url: "/v1/fine_tuning/jobs", payload, headers });
  const made = await succeedJob(server, job.json<{ id: string }>().id);
  const { key } = await createKey(server, { project_id: "proj_two" }, ADMIN);
  const baseURL = `${await server.listen()}/v1`;
  // The client sends its admin key to these routes, and only to these.
  const admin = new OpenAI({ baseURL, apiKey: ADMIN, adminAPIKey: ADMIN, maxRetries: 0 });
  const two = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
  return { server, admin, two, ...made, permissions: admin.fineTuning.checkpoints.permissions };
}

test("a permission gives a project the use of a checkpoint, and taking it back ends that", async () => {
  const { server, admin, two, model, checkpoint, permissions } = await lender();
  const chat = () => two.chat.completions.create({ model: checkpoint, messages });
  await expect(chat()).rejects.toBeInstanceOf(OpenAI.NotFoundError);

  const created = await permissions.create(checkpoint, { project_ids: ["proj_two"] });
  const [permission] = created.data;
  expect(permission).toEqual({
    object: "checkpoint.permission",
    id: expect.stringMatching(/^cp_[A-Za-z0-9]{24}$/) as string,
    created_at: expect.any(Number) as number,
    project_id: "proj_two",
  });
  expect((await chat()).model).toBe(checkpoint);
  expect(server.engine.requests.at(-1)?.model.id).toBe(checkpoint);
  const listed = (await two.models.list()).data.map(({ id }) => id);
  expect(listed).toContain(checkpoint);
  expect(listed).not.toContain(model);
  expect((await two.models.retrieve(checkpoint)).id).toBe(checkpoint);

  // To this project, and to no other.
  const third = { model: checkpoint, messages };
  await expect(
    admin.chat.completions.create(third, { headers: { "OpenAI-Project": "proj_three" } }),
  ).rejects.toBeInstanceOf(OpenAI.NotFoundError);

  // The use, and nothing else: the model, its job and the rest of the project stay the lender's.
  await expect(two.models.delete(checkpoint)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  await expect(two.chat.completions.create({ model, messages })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  expect((await two.fineTuning.jobs.list()).data).toEqual([]);
  expect((await admin.models.retrieve(checkpoint)).id).toBe(checkpoint);

  const deleted = await permissions.delete(permission?.id ?? "", {
    fine_tuned_model_checkpoint: checkpoint,
  });
  expect(deleted).toEqual({ id: permission?.id, object: "checkpoint.permission", deleted: true });
  await expect(chat()).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  expect((await two.models.list()).data.map(({ id }) => id)).not.toContain(checkpoint);
});

test("lists are paged, ordered and filtered", async () => {
  const { model, checkpoint, permissions } = await lender();
  const projects = ["proj_two", "proj_three", DEFAULT_PROJECT];
  await permissions.create(model, { project_ids: projects });
  await permissions.create(checkpoint, { project_ids: ["proj_two"] });
  const walk = async (query: object) => {
    const ids: (string | undefined)[] = [];
    for await (const each of permissions.list(model, { limit: 1, ...query })) ids.push(each.project_id);
    return ids;
  };
  expect(await walk({ order: "ascending" })).toEqual(projects);
  expect(await walk({})).toEqual(projects.toReversed());
  expect(await walk({ project_id: "proj_three" })).toEqual(["proj_three"]);
  const whole = await permissions.retrieve(model);
  expect(whole).toMatchObject({ object: "list", has_more: false });
  expect([whole.first_id, whole.last_id]).toEqual([whole.data[0]?.id, whole.data[2]?.id]);
  // Asked for twice, given once.
  const again = await permissions.create(model, { project_ids: ["proj_two", "proj_two"] });
  expect(again.data.map(({ id }) => id)).toEqual([whole.data[2]?.id]);
});

test.each([
  [
    "an unknown model",
    "POST",
    "ft:none",
    { project_ids: ["proj_two"] },
    404,
    "model",
    "The model 'ft:none' does not exist",
  ],
  ["a base model", "GET", BASE_MODEL, undefined, 404, "model", `The model '${BASE_MODEL}' does not exist`],
  [
    "an unknown project",
    "POST",
    null,
    { project_ids: ["proj_two", "proj_x"] },
    400,
    "project_ids[1]",
    "No project has the id 'proj_x'. GET /tunesmith/projects lists those there are.",
  ],
  [
    "no projects",
    "POST",
    null,
    { project_ids: [] },
    400,
    "project_ids",
    "Invalid 'project_ids': empty array. Expected an array with minimum length 1, but got an empty array instead.",
  ],
  [
    "another order's name",
    "GET",
    null,
    { order: "asc" },
    400,
    "order",
    "Invalid value for 'order': 'asc'. Supported values are: 'ascending', 'descending'.",
  ],
  [
    "an unknown cursor",
    "GET",
    null,
    { after: "cp_x" },
    400,
    "after",
    "Invalid 'after': no element of this list has the id 'cp_x'. Send the id of the last element of the previous page.",
  ],
] as const)("%s is refused", async (_name, method, name, given, status, param, message) => {
  const { server, model } = await lender();
  const answer = await server.app.inject({
    method,
    url: `/v1/fine_tuning/checkpoints/${name ?? model}/permissions`,
    headers: { authorization: `Bearer ${ADMIN}` },
    ...(given === undefined
      ? {}
      : method === "GET"
        ? { query: given as Record<string, string> }
        : { payload: given }),
  });
  expect(answer.statusCode).toBe(status);
  expect(answer.json()).toMatchObject({ error: { param, message } });
  // All or none.
  expect((await server.stores.permissions.list(model, { limit: 10, order: "asc" })).data).toEqual([]);
});

test("a permission belongs to one model, and an unknown one is told", async () => {
  const { server, model, checkpoint, permissions } = await lender();
  const [permission] = (await permissions.create(model, { project_ids: ["proj_two"] })).data;
  await expect(
    permissions.delete(permission?.id ?? "", { fine_tuned_model_checkpoint: checkpoint }),
  ).rejects.toMatchObject({
    status: 404,
    param: "permission_id",
    message: `404 No such checkpoint permission: ${permission?.id}`,
  });
  expect((await server.stores.permissions.list(model, { limit: 10, order: "asc" })).data).toHaveLength(1);
});
