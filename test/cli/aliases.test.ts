// Aliases on the command line, against a real server: what is printed, and the exit codes.
import { expect, test } from "vitest";
import { BASE_MODEL, succeedJob, testServer, upload } from "../http/harness.ts";
import { tunesmith } from "./fake-server.ts";

test("an alias is made, moved, tried out, rolled back and deleted", async () => {
  const server = await testServer();
  const { id } = await upload(server);
  const job = await server.app.inject({
    ...{ method: "POST", url: "/v1/fine_tuning/jobs", payload: { model: BASE_MODEL, training_file: id } },
  });
  const { model, checkpoint } = await succeedJob(server, job.json<{ id: string }>().id);
  const baseUrl = `${await server.listen()}/v1`;
  const run = (...words: string[]) => tunesmith([...words, "--base-url", baseUrl]);

  expect((await run("alias")).out).toBe('No aliases yet. Make one with "tunesmith alias set NAME MODEL".\n');
  const made = await run("alias", "set", "triage", checkpoint);
  expect(made).toMatchObject({ code: 0, err: "" });
  expect(made.out).toMatch(
    new RegExp(`^alias +triage\nmodel +${checkpoint}\nbefore +-\ntried out +-\nmoved +20`),
  );
  expect((await run("alias", "set", "triage", model, "--reason", "final")).out).toContain(
    `before     ${checkpoint}`,
  );
  const canary = await run("alias", "canary", "triage", BASE_MODEL, "--percent", "12.5");
  expect(canary.out).toContain(`${BASE_MODEL}, canary of 12.5 %`);
  expect((await run("alias", "list")).out).toMatch(/^ALIAS +MODEL +TRIED OUT +MOVED\ntriage +ft:/);
  expect((await run("models")).out).toMatch(new RegExp(`^triage +alias +${BASE_MODEL} +${model} `, "m"));
  expect((await run("alias", "end-trial", "triage")).out).toContain("tried out  -");
  expect((await run("alias", "rollback", "triage", "--reason", "worse")).out).toContain(
    `model      ${checkpoint}`,
  );

  const again = await run("alias", "rollback", "triage");
  expect(again).toMatchObject({ code: 1, out: "" });
  expect(again.err).toContain("nothing to roll back to");
  const log = await run("alias", "log", "triage", "--limit", "2");
  expect(log.out).toMatch(
    /^WHEN +WHAT +FROM +TO +BY +WHY\n20.*rolled back +ft:.* owner +worse\n20.*candidate removed/,
  );
  expect(log.out).toContain("More: tunesmith alias log triage --after move_");
  expect((await run("alias", "comparisons", "triage")).out).toContain("tunesmith alias shadow triage MODEL");
  expect((await run("alias", "canary", "triage", model, "--percent", "0")).code).toBe(2);
  expect((await run("alias", "delete", "triage")).out).toBe("Deleted triage\n");
  expect((await run("alias", "show", "triage")).err).toContain("No alias found");
});
