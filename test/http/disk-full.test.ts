// A disk that fills up under the server: what needs to be written is refused as 507, what is only read is answered, and all
// works again once there is room.
import { expect, test } from "vitest";
import { databaseDisk } from "../full-disk.ts";
import { BASE_MODEL, createKey, testServer, upload } from "./harness.ts";

const REFUSED = {
  error: {
    message:
      "The server's disk is full: its database could not be written, and nothing was changed. Free some space there, then try again.",
    type: "server_error",
    param: null,
    code: "insufficient_storage",
  },
};

test("writes answer 507, reads go on, and with room again the same requests succeed", async () => {
  const disk = databaseDisk();
  const server = await testServer();
  const { key } = await createKey(server, { scopes: ["admin", "read", "train"] });
  const headers = { authorization: `Bearer ${key}` };
  const file = await upload(server, undefined, { headers });
  const create = { url: "/v1/fine_tuning/jobs", payload: { model: BASE_MODEL, training_file: file.id } };
  const post = (options: object) => server.app.inject({ method: "POST", headers, ...options });
  const job = (await post(create)).json<{ id: string }>();
  const cancel = { url: `/v1/fine_tuning/jobs/${job.id}/cancel` };
  const remove = { method: "DELETE", url: `/v1/files/${file.id}`, headers } as const;

  disk.isFull = true;
  for (const refused of [await post(create), await post(cancel), await server.app.inject(remove)]) {
    expect(refused.json()).toEqual(REFUSED);
    expect(refused.statusCode).toBe(507);
    expect(refused.headers["x-should-retry"]).toBe("false");
  }
  const list = await server.app.inject({ url: "/v1/fine_tuning/jobs", headers });
  expect(list.json<{ data: { status: string }[] }>().data).toMatchObject([{ status: "validating_files" }]);

  disk.isFull = false;
  for (const done of [await post(create), await post(cancel), await server.app.inject(remove)]) {
    expect(done.statusCode).toBe(200);
  }
});

test("a key whose use cannot be noted is a key all the same", async () => {
  const disk = databaseDisk();
  const server = await testServer();
  const { key } = await createKey(server, { scopes: ["admin"] });
  disk.isFull = true;
  const headers = { authorization: `Bearer ${key}` };
  expect((await server.app.inject({ url: "/tunesmith/keys", headers })).statusCode).toBe(200);
  disk.isFull = false;
});

test("what was created before the disk was full is answered, though its Idempotency-Key is not kept", async () => {
  const disk = databaseDisk();
  const server = await testServer();
  const store = server.stores.idempotency;
  const answer = store.answer.bind(store);
  store.answer = async (...given) => {
    disk.isFull = true;
    await answer(...given).finally(() => (disk.isFull = false));
  };
  const file = await upload(server);
  const created = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    headers: { "idempotency-key": "a-job" },
    payload: { model: BASE_MODEL, training_file: file.id },
  });
  expect(created.statusCode).toBe(200);
});
